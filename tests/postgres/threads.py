"""A second thread, with connections of its own, and how to see that it waits."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from django.db import connection, connections, transaction

T = TypeVar("T")
WAIT = 20.0


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """A started thread that runs ``work`` and closes its connections."""

    def run() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def closing(work: Callable[[], T]) -> T:
    """What ``work`` returns; the thread's connections are closed."""
    try:
        return work()
    finally:
        connections.close_all()


def until_somebody_waits_for_a_lock(or_done: "Future[Any] | None" = None) -> None:
    """Return once a connection to this database waits for another's lock, or ``or_done`` has a result."""
    end = time.monotonic() + WAIT
    while or_done is None or not or_done.done():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT EXISTS (SELECT 1 FROM pg_stat_activity "
                "WHERE wait_event_type = 'Lock' AND datname = current_database())"
            )
            if cursor.fetchone()[0]:
                return
        assert time.monotonic() < end
        time.sleep(0.01)


def begun_before_commit(work: Callable[[], T], change: Callable[[], object]) -> T:
    """What ``work`` gives when it begins after ``change`` has written and before that is committed."""
    written, may_commit = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            change()
            written.set()
            assert may_commit.wait(WAIT)

    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(closing, write)
        assert written.wait(WAIT)
        working = pool.submit(closing, work)
        try:
            until_somebody_waits_for_a_lock(working)
        finally:
            may_commit.set()
        writing.result(WAIT)
        return working.result(WAIT)
