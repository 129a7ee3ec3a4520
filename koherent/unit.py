"""The unit of work: entries that wait, to be written together before the commit.

An entry waits until something needs it: the next write to its object, a statement that reads history, the end of the
unit. It is then copied from the database, which until then still holds what the entry is about.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import _GeneratorContextManager, contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeAlias, TypeVar, overload

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from koherent import registry, writer
from koherent.models import Assignation
from koherent.registry import TrackedModel
from koherent.wrappers import outermost

F = TypeVar("F", bound=Callable[..., Any])

#: What ``contextmanager`` makes is a decorator too, which the abstract type does not say.
Block: TypeAlias = "_GeneratorContextManager[None]"

#: So many entries wait at most.
CAPACITY = 2_000


@dataclass
class Waiting:
    """An entry to be written. ``level`` counts the savepoints of the unit around it."""

    pk: Any
    moment: Any
    action: str
    by: writer.Stamp
    links: bool
    keep: bool
    level: int = 0


class Unit:
    """The waiting entries of one connection's transaction. It sees every statement on the connection (``__call__``)."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        self.connection = connection
        self._waiting: dict[TrackedModel, dict[Any, Waiting]] = {}
        self._count = 0
        self._savepoints: list[str] = []
        # Written inside a savepoint though older than it: a rollback to the savepoint takes them along.
        self._early: list[tuple[int, TrackedModel, Waiting]] = []
        self._passing = False

    def add(self, tracked: TrackedModel, entries: Iterable[Waiting]) -> None:
        """Let entries wait. None of their objects may have one waiting: see ``before()``."""
        waiting = self._waiting.setdefault(tracked, {})
        for entry in entries:
            entry.level = len(self._savepoints)
            waiting[entry.pk] = entry
            self._count += 1
        if self._count >= CAPACITY:
            self.flush()

    def before(self, tracked: TrackedModel, pks: Iterable[Any] | None = None) -> None:
        """These objects (None: all of the model) are about to be written to: write what waits for them."""
        waiting = self._waiting.get(tracked)
        if waiting and (pks is None or any(pk in waiting for pk in pks)):
            self.flush(tracked)

    def flush(self, only: TrackedModel | None = None) -> None:
        """Write what waits, of all models or of one."""
        for tracked in [only] if only is not None else list(self._waiting):
            entries = list(self._waiting.pop(tracked, {}).values())
            self._count -= len(entries)
            if not entries:
                continue
            level = len(self._savepoints)
            self._early += [(level, tracked, entry) for entry in entries if entry.level < level]
            groups: dict[tuple[Any, ...], list[tuple[Any, Any, str]]] = {}
            for e in entries:
                groups.setdefault((e.by, e.links, e.keep), []).append((e.pk, e.moment, e.action))
            with self.passing(), transaction.mark_for_rollback_on_error(self.connection.alias):
                for (by, links, keep), rows in groups.items():
                    writer.write_dated(tracked, self.connection, rows, by, links=links, keep=keep)

    @contextmanager
    def passing(self) -> Iterator[None]:
        """The statements inside are recording's own, or a write that was announced by ``before()``."""
        outside = self.passes(True)
        try:
            yield
        finally:
            self.passes(outside)

    def passes(self, passing: bool) -> bool:
        """Begin or end ``passing()``, for whom a generator would cost too much; returns what was before."""
        outside, self._passing = self._passing, passing
        return outside

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Django's execute wrapper."""
        # psycopg's composed statements are not text: they may be anything.
        text = sql if isinstance(sql, str) else None
        if text is not None and (savepoint := _SAVEPOINT.match(text)) is not None:
            result = execute(sql, params, many, context)
            self._savepoint(savepoint[1].upper(), savepoint[2])
            return result
        if self._count and not self._passing and (text is None or self._concerns(text)):
            self.flush()
        return execute(sql, params, many, context)

    def _concerns(self, sql: str) -> bool:
        if _history_tables().search(sql):
            return True
        if sql.lstrip()[:6].upper() == "SELECT":
            return False
        return any(table in sql for tracked, waiting in self._waiting.items() if waiting for table in _tables(tracked))

    def _savepoint(self, verb: str, name: str) -> None:
        if verb == "SAVEPOINT":
            self._savepoints.append(name)
            return
        # One that we did not see begin is older than the unit, and so are none of its entries.
        level = self._savepoints.index(name) if name in self._savepoints else -1
        if verb == "RELEASE":
            if level >= 0:
                self._released(level)
        else:
            self._rolled_back(level)

    def _released(self, level: int) -> None:
        del self._savepoints[level:]
        for waiting in self._waiting.values():
            for entry in waiting.values():
                entry.level = min(entry.level, level)
        kept = ((min(at, level), tracked, entry) for at, tracked, entry in self._early)
        self._early = [(at, tracked, entry) for at, tracked, entry in kept if entry.level < at]

    def _rolled_back(self, level: int) -> None:
        """Drop what came after the savepoint, and let what was written too early wait again."""
        del self._savepoints[level + 1 :]
        for tracked, waiting in self._waiting.items():
            self._waiting[tracked] = {pk: entry for pk, entry in waiting.items() if entry.level <= level}
        lost = [(tracked, entry) for at, tracked, entry in self._early if at > level and entry.level <= level]
        self._early = [early for early in self._early if early[0] <= level]
        for tracked, entry in lost:
            self._waiting.setdefault(tracked, {})[entry.pk] = entry
        self._count = sum(len(waiting) for waiting in self._waiting.values())


_SAVEPOINT = re.compile(r'\s*(SAVEPOINT|RELEASE|ROLLBACK\s+TO)\s+(?:SAVEPOINT\s+)?("?[^\s";]+"?)', re.IGNORECASE)


def _history_tables() -> re.Pattern[str]:
    return _pattern(tuple(registry.tracked_models()))


@lru_cache(maxsize=1)
def _pattern(models: tuple[TrackedModel, ...]) -> re.Pattern[str]:
    tables = {tracked.history_model._meta.db_table for tracked in models}
    tables |= {m2m.history_model._meta.db_table for tracked in models for m2m in tracked.m2m}
    tables.add(Assignation._meta.db_table)
    return re.compile("|".join(sorted(map(re.escape, tables))))


@cache
def _tables(tracked: TrackedModel) -> tuple[str, ...]:
    """The tables whose rows an entry of the model is copied from."""
    own = [tracked.model, *tracked.model._meta.get_parent_list(), *(m2m.through for m2m in tracked.m2m)]
    return tuple(model._meta.db_table for model in own)


def unit_of(connection: BaseDatabaseWrapper) -> Unit | None:
    """The unit of work that the connection is in."""
    unit: Unit | None = connection.__dict__.get("_koherent_unit")
    return unit


@contextmanager
def _atomic(using: str, savepoint: bool, durable: bool) -> Iterator[None]:
    with transaction.atomic(using=using, savepoint=savepoint, durable=durable):
        connection = connections[using]
        if unit_of(connection) is not None:
            yield
            return
        unit = connection.__dict__["_koherent_unit"] = Unit(connection)
        try:
            with outermost(connection, unit):
                yield
                if not connection.needs_rollback:
                    unit.flush()
        finally:
            del connection.__dict__["_koherent_unit"]


@overload
def atomic(using: F) -> F: ...
@overload
def atomic(
    using: str | None = None, savepoint: bool = True, durable: bool = False
) -> "_GeneratorContextManager[None]": ...
def atomic(using: Any = None, savepoint: bool = True, durable: bool = False) -> Any:
    """``transaction.atomic()`` whose history entries are written together before the commit.

    Context manager and decorator, with or without arguments. Entries keep the moment and the context of their change,
    and a rollback takes them along: the whole block's, or a savepoint's. Statements that read a history table
    find all entries there. Inside another ``koherent.atomic()`` it is a savepoint of that one.
    """
    if callable(using):
        return _atomic(DEFAULT_DB_ALIAS, savepoint, durable)(using)
    return _atomic(DEFAULT_DB_ALIAS if using is None else using, savepoint, durable)
