"""Assertions about what a block of code records."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from koherent.testing.trail import AuditTrail


@contextmanager
def assert_recorded(target: Any = None, *, times: int | None = None, **expected: Any) -> Iterator[AuditTrail]:
    """That the block records what ``AuditTrail.assert_recorded()`` takes; yields the ``AuditTrail`` of the block."""
    trail = AuditTrail()
    yield trail
    trail.assert_recorded(target, times=times, **expected)


@contextmanager
def assert_nothing_recorded(target: Any = None) -> Iterator[AuditTrail]:
    """That the block leaves no entry (of ``target``); yields the ``AuditTrail`` of the block."""
    trail = AuditTrail()
    yield trail
    trail.assert_nothing_recorded(target)
