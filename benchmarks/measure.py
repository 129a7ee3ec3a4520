"""Time and statements of one piece of work."""

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.db import connection

_TRANSACTION = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE")


def timed(work: Callable[[], Any]) -> float:
    """Seconds that ``work`` takes, without what earlier work left to the garbage collector."""
    gc.collect()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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
