"""Time and statements of one piece of work."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection

_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds that ``work`` takes, by the clock and of CPU, without what earlier work left to the garbage collector."""
    gc.collect()
    server, client, start = _server_cpu(), time.process_time(), time.perf_counter()
    work()
    elapsed, client = time.perf_counter() - start, time.process_time() - client
    return elapsed, client + _server_cpu() - server


def _server_cpu() -> float:
    """CPU seconds of this connection's own server process, where there is one on this machine and it tells (Linux)."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return 0.0
    told = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")
    return int(told.read_text().split()[0]) / 1e9 if told.exists() else 0.0


@contextmanager
def counted() -> Iterator[list[str]]:
    """The SQL of each statement sent inside; one ``executemany`` is one. Transaction control is not counted."""
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.lstrip().upper().startswith(_TRANSACTION):
            statements.append(sql[:500])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield statements


def reset_peak() -> None:
    """Begin to measure the peak of resident memory anew, where Linux is."""
    control = Path("/proc/self/clear_refs")
    if control.exists():
        control.write_text("5")


def memory(name: str) -> float:
    """Megabytes: ``VmRSS`` is what is resident now, ``VmHWM`` the peak since ``reset_peak()``; 0 where Linux is not."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024
