"""What a transaction has written: told to listeners once it is committed, and forgotten when it is rolled back.

Django has no hook for a rollback. It drops the ``on_commit`` callbacks of what was rolled back, by making a new list of
the others: what that list still holds has not been rolled back. Only a savepoint that somebody set by hand has no
callbacks to drop, so whatever list is new, it is not known whether an assignation still has its row.
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_migrate

Keys = list[tuple[str, int]]

#: Called after a commit with the database's alias and the (label, history id) of what was written.
on_committed: list[Callable[[str, Keys], None]] = []

# An assignation gets another row after this time, because retention may have taken the one that is known.
REMEMBER_SECONDS = 3_600.0
REMEMBER_COUNT = 10_000
_begun: dict[tuple[str, str], float] = {}


class _Written:
    """The ``on_commit`` callback of one savepoint level of a transaction."""

    def __init__(self, using: str, savepoints: tuple[str, ...], hooks: Any) -> None:
        self.using, self.savepoints = using, savepoints
        #: The list of callbacks that it was last seen in.
        self.hooks = hooks
        self.keys: Keys = []
        self.assignations: set[str] = set()

    def add(self, keys: Keys, assignation_id: str | None) -> None:
        self.keys += keys
        if assignation_id is not None:
            self.assignations.add(assignation_id)

    def __call__(self) -> None:
        # Django takes each callback out of the list that it runs: still in it, there has been another list since.
        known = not any(hook is self for _, hook, *_ in self.hooks)
        _committed(self.using, self.keys, self.assignations if known else ())


class _Levels:
    """What this transaction has written so far, by the savepoints that it was written in."""

    def __init__(self, hooks: Any) -> None:
        self.hooks = hooks
        kept = [hook for _, hook, *_ in hooks if isinstance(hook, _Written)]
        self.by_savepoints = {written.savepoints: written for written in kept}
        for written in kept:
            written.hooks = hooks
            written.assignations.clear()


def _committed(using: str, keys: Keys, assignations: Iterable[str]) -> None:
    for id in assignations:
        if len(_begun) > REMEMBER_COUNT:
            _begun.clear()
        _begun[using, id] = time.monotonic() + REMEMBER_SECONDS
    for listener in on_committed:
        listener(using, keys)


def _levels(connection: BaseDatabaseWrapper) -> _Levels:
    levels: _Levels | None = connection.__dict__.get("_koherent_levels")
    if levels is None or levels.hooks is not connection.run_on_commit:
        levels = connection.__dict__["_koherent_levels"] = _Levels(connection.run_on_commit)
    return levels


def wrote(connection: BaseDatabaseWrapper, keys: Keys, assignation_id: str | None) -> None:
    """Remember entries, and the assignation that has its row now, until the transaction ends."""
    if not connection.in_atomic_block:
        # The statement that wrote them was its own transaction.
        begun = () if assignation_id is None else (assignation_id,)
        connection.on_commit(partial(_committed, connection.alias, keys, begun), robust=True)
        return
    levels = _levels(connection)
    savepoints = tuple(connection.savepoint_ids)
    written = levels.by_savepoints.get(savepoints)
    if written is None:
        written = levels.by_savepoints[savepoints] = _Written(connection.alias, savepoints, levels.hooks)
        connection.on_commit(written, robust=True)
    written.add(keys, assignation_id)


def written(connection: BaseDatabaseWrapper, label: str) -> set[int]:
    """The history ids of one model that this transaction has written and not rolled back."""
    levels = _levels(connection).by_savepoints.values()
    return {id for level in levels for model, id in level.keys if model == label}


def has_begun(connection: BaseDatabaseWrapper, assignation_id: str) -> bool:
    """True when the assignation is known to have its row, in this transaction or by a commit of this process."""
    if _begun.get((connection.alias, assignation_id), 0.0) > time.monotonic():
        return True
    if not connection.in_atomic_block:
        return False
    levels: Iterable[_Written] = _levels(connection).by_savepoints.values()
    return any(assignation_id in written.assignations for written in levels)


def _forget(**_: Any) -> None:
    _begun.clear()


# Tables may have been emptied: ``flush`` sends it too.
post_migrate.connect(_forget, dispatch_uid="koherent.commits")
