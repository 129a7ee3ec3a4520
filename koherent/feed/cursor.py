"""Positions in the trail, and reading what came after one.

On PostgreSQL ids are not commit order: a slow transaction may take id 1, a fast one take 2 and commit first. A
position is therefore a snapshot (``pg_current_snapshot()``), which tells for every transaction whether it was
committed. Between two snapshots lies a fixed set of entries; ``key`` says how far a reader has come in it. On SQLite
writers are serialised, so the last id of each table is a position.
"""

import heapq
import json
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.recorder import MigrationRecorder

from koherent.beginnings import LONGEST
from koherent.conf import settings
from koherent.errors import BadCursor, CursorExpired
from koherent.feed.sealing import seal, unseal
from koherent.models import Assignation, Pruned
from koherent.registry import TrackedModel, tracked_on
from koherent.runs import has_runs

VERSION = 1
MAX_CURSOR = 65_536
CLOCK_SKEW = 300
_DAY = 86_400
_SNAPSHOT = re.compile(r"([0-9]{1,19}):([0-9]{1,19}):((?:[0-9]{1,19}(?:,[0-9]{1,19})*)?)", re.ASCII)
#: True of positions that the second snapshot sees and the first does not. Parameters: a lower and an upper bound, both.
_BETWEEN = (
    "position >= %s AND position < %s AND NOT pg_visible_in_snapshot(position::text::xid8, %s::pg_snapshot) "
    "AND pg_visible_in_snapshot(position::text::xid8, %s::pg_snapshot)"
)


class Key(NamedTuple):
    """An entry's place: its transaction (1 on SQLite), its model's label, its history id."""

    transaction: int
    label: str
    history_id: int


@dataclass(frozen=True)
class Snapshot:
    """PostgreSQL's ``pg_snapshot``: which transactions were committed at a moment."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """Read ``xmin:xmax:running``. Raises ``BadCursor`` for what PostgreSQL would not take."""
        match = _SNAPSHOT.fullmatch(text)
        if match is None:
            raise BadCursor("The cursor is not one of this server's.")
        xmin, xmax = int(match[1]), int(match[2])
        running = [int(number) for number in match[3].split(",") if number]
        ordered = all(a < b for a, b in pairwise(running))
        if not 0 < xmin <= xmax < 2**63 or not ordered or not all(xmin <= x < xmax for x in running):
            raise BadCursor("The cursor is not one of this server's.")
        return cls(xmin, xmax, frozenset(running))

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.running)))}"

    def sees(self, transaction: int) -> bool:
        """Whether ``transaction`` had ended when the snapshot was taken."""
        return transaction < self.xmax and transaction not in self.running


@dataclass(frozen=True, kw_only=True)
class Position:
    """How far a reader has come. ``time`` is in seconds since 1970, of the moment whose entries may be missing.

    PostgreSQL: all that ``snapshot`` sees, and of what ``until`` sees besides, all up to ``key``. SQLite: ``ids``.
    """

    database: str
    time: int
    snapshot: Snapshot | None = None
    until: Snapshot | None = None
    key: Key | None = None
    ids: Mapping[str, int] = field(default_factory=dict)

    @cached_property
    def cursor(self) -> str:
        """The position as a sealed text for clients."""
        body: dict[str, Any] = {"v": VERSION, "db": self.database, "t": self.time}
        if self.snapshot is None:
            body["i"] = dict(self.ids)
        else:
            body["s"] = str(self.snapshot)
            if self.until is not None and self.key is not None:
                body["n"], body["k"] = str(self.until), list(self.key)
        return seal(json.dumps(body, separators=(",", ":"), sort_keys=True))

    def covers(self, key: Key) -> bool:
        """Whether the entry lies before this position."""
        if self.snapshot is None:
            return key.history_id <= self.ids.get(key.label, 0)
        if self.snapshot.sees(key.transaction):
            return True
        return self.until is not None and self.key is not None and self.until.sees(key.transaction) and key <= self.key


@dataclass(frozen=True)
class Item:
    """One entry of a batch; ``position`` is the reader's once it has the entry."""

    key: Key
    position: Position

    @property
    def pair(self) -> tuple[str, int]:
        """Label and history id."""
        return self.key.label, self.key.history_id


@dataclass(frozen=True)
class Batch:
    """What one read gave. ``more`` tells that the read stopped at its limit."""

    items: Sequence[Item]
    position: Position
    more: bool


def parse(cursor: str, using: str = DEFAULT_DB_ALIAS) -> Position:
    """The position behind a cursor. Raises ``BadCursor``; ``CursorExpired`` when of another database or too old."""
    try:
        if len(cursor) > MAX_CURSOR:
            raise BadCursor("The cursor is too long.")
        body = json.loads(unseal(cursor))
    except ValueError as error:
        raise BadCursor("The cursor is not one of this server's.") from error
    position = _parse_body(body)
    if position.database != identity(using):
        raise CursorExpired("The cursor belongs to another database.")
    now = time.time()
    if not now - settings().feed_retention_days * _DAY <= position.time <= now + CLOCK_SKEW:
        raise CursorExpired("The cursor is older than what the feed keeps.")
    here = current_position(using)
    if position.snapshot is not None:
        newest = position.until or position.snapshot
        # A cursor from the future of this server was given out by the one that it was restored from.
        if here.snapshot is None or newest.xmax > here.snapshot.xmax or position.snapshot.xmax > newest.xmax:
            raise CursorExpired("The cursor belongs to another database.")
    elif here.snapshot is not None or any(last > here.ids.get(label, last) for label, last in position.ids.items()):
        raise CursorExpired("The cursor belongs to another database.")
    _check_kept(position, using)
    return position


def _check_kept(position: Position, using: str) -> None:
    """Raises ``CursorExpired`` when a prune has taken entries that lie after the position."""
    for label, history_id, transaction in (
        Pruned.objects.using(using).filter(database=position.database).values_list("model", "history_id", "position")
    ):
        if position.snapshot is None:
            kept = position.ids.get(label, 0) >= history_id
        else:
            # What was still running then may have written anything up to that transaction.
            kept = position.snapshot.xmin > transaction
        if not kept:
            raise CursorExpired("The cursor is older than what the feed keeps.")


def _parse_body(body: Any) -> Position:
    if not isinstance(body, dict) or type(body.get("t")) is not int or not isinstance(body.get("db"), str):
        raise BadCursor("The cursor is not one of this server's.")
    if body.get("v") != VERSION:
        raise CursorExpired("The cursor was given out by another version.")
    bare = Position(database=body["db"], time=body["t"])
    ids, snapshot = body.get("i"), body.get("s")
    if isinstance(ids, dict) and all(type(last) is int and 0 <= last < 2**63 for last in ids.values()):
        return replace(bare, ids=ids)
    if not isinstance(snapshot, str):
        raise BadCursor("The cursor is not one of this server's.")
    bare = replace(bare, snapshot=Snapshot.parse(snapshot))
    until, key = body.get("n"), body.get("k")
    if until is None and key is None:
        return bare
    if not isinstance(until, str) or not isinstance(key, list) or [type(part) for part in key] != [int, str, int]:
        raise BadCursor("The cursor is not one of this server's.")
    if not all(0 <= number < 2**63 for number in (key[0], key[2])):
        raise BadCursor("The cursor is not one of this server's.")
    return replace(bare, until=Snapshot.parse(until), key=Key(*key))


_identities: dict[tuple[str, str], str] = {}


def identity(using: str = DEFAULT_DB_ALIAS) -> str:
    """A short name of the database, other for each database and for each cluster that it is restored into."""
    connection = connections[using]
    place = (using, str(connection.settings_dict["NAME"]))
    if place not in _identities:
        parts = [connection.vendor]
        recorder = MigrationRecorder(connection)
        if recorder.has_table():
            first = recorder.migration_qs.filter(app="koherent").order_by("applied", "pk").first()
            parts.append("" if first is None else first.applied.isoformat())
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT oid::text, has_function_privilege('pg_control_system()', 'execute') "
                    "FROM pg_database WHERE datname = current_database()"
                )
                oid, may_ask = cursor.fetchone()
                parts.append(oid)
                if may_ask:
                    cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
                    parts.append(cursor.fetchone()[0])
        _identities[place] = f"{zlib.crc32('|'.join(parts).encode()):08x}"
    return _identities[place]


def current_position(using: str = DEFAULT_DB_ALIAS) -> Position:
    """The position after all that is committed now."""
    connection = connections[using]
    position = Position(database=identity(using), time=int(time.time()))
    if connection.vendor == "postgresql":
        return replace(position, snapshot=_snapshot(connection)[0])
    return replace(position, ids=_last_ids(connection))


def current_cursor(using: str = DEFAULT_DB_ALIAS) -> str:
    """The cursor of now. Taken before a page's first statement, it continues exactly where that page was read."""
    return current_position(using).cursor


def _snapshot(
    connection: BaseDatabaseWrapper, labels: Sequence[str] = (), since: int = 0
) -> tuple[Snapshot, list[str]]:
    """The snapshot of now, and which of the models have runs in it whose position is ``since`` or above."""
    columns, params = "pg_current_snapshot()::text, pg_current_xact_id_if_assigned()::text", list[Any]()
    if labels:
        last = f"SELECT MAX(position) FROM {_runs(connection)} WHERE model = label"
        columns += f", ARRAY(SELECT label FROM unnest(%s::text[]) label WHERE ({last}) >= %s)"
        params = [list(labels), since]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns}", params)
        text, own, *found = cursor.fetchone()
    snapshot = Snapshot.parse(text)
    # A snapshot leaves out the transaction that takes it, which may still write more.
    if own is not None and int(own) < snapshot.xmax:
        running = snapshot.running | {int(own)}
        snapshot = replace(snapshot, xmin=min(snapshot.xmin, int(own)), running=running)
    return snapshot, found[0] if found else []


def _runs(connection: BaseDatabaseWrapper) -> str:
    return connection.ops.quote_name(Assignation._meta.db_table)


def _last_ids(connection: BaseDatabaseWrapper) -> dict[str, int]:
    models = tracked_on(connection.alias)
    if not models:
        return {}
    # SQLite's own counter, because a prune may take the row with the highest id.
    counter = "(SELECT seq FROM sqlite_sequence WHERE name = %s)"
    selects = [
        f"SELECT %s, COALESCE({counter}, MAX(history_id), 0) FROM {_table(connection, tracked)}" for tracked in models
    ]
    params = [text for tracked in models for text in (tracked.label, tracked.history_model._meta.db_table)]
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(selects), params)
        return {label: int(last) for label, last in cursor.fetchall()}


def _table(connection: BaseDatabaseWrapper, tracked: TrackedModel) -> str:
    return connection.ops.quote_name(tracked.history_model._meta.db_table)


def read_since(position: Position, limit: int, using: str = DEFAULT_DB_ALIAS) -> Batch:
    """Up to ``limit`` entries committed after ``position``, in the order of their transactions, each object's in order.

    Where a limit parts two transactions that waited for each other, an object's entries may come the other way round.
    Never skips: what is not returned lies after the returned position. One or two statements.
    """
    connection = connections[using]
    if position.snapshot is None:
        return _read_ids(connection, position, limit)
    return _read_snapshots(connection, position, position.snapshot, limit)


def read_kept(position: Position, limit: int, using: str = DEFAULT_DB_ALIAS) -> Batch:
    """``read_since()`` of a position that may be old. Raises ``CursorExpired`` when a prune has overtaken it."""
    batch = read_since(position, limit, using)
    _check_kept(position, using)
    return batch


def _read_snapshots(connection: BaseDatabaseWrapper, start: Position, seen: Snapshot, limit: int) -> Batch:
    now = int(time.time())
    fresh = start.until is None or start.key is None
    models, since = tracked_on(connection.alias), max(seen.xmin, 1)
    labels = [tracked.label for tracked in models] if has_runs(connection) else []
    # Mostly nobody has written a run since, and to plan for those of all models takes longer than to ask.
    until, in_runs = _snapshot(connection, labels, since) if start.until is None else (start.until, labels)
    end = replace(start, snapshot=until, until=None, key=None, time=now if fresh else start.time)
    if until == seen or not models:
        return Batch((), end, more=not fresh)
    between = (since, until.xmax, str(seen), str(until))
    selects = [_read_alone(connection, tracked, between, start.key, limit + 1) for tracked in models]
    selects += [
        _read_runs(connection, tracked, between, start.key, limit + 1) for tracked in models if tracked.label in in_runs
    ]
    union = " UNION ALL ".join(sql for sql, _ in selects)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT position, label, history_id, object FROM ({union}) entries "
            f'ORDER BY position, label COLLATE "C", history_id LIMIT %s',
            [*(value for _, params in selects for value in params), limit + 1],
        )
        rows = cursor.fetchall()
    more, rows = len(rows) > limit, rows[:limit]
    keys = [Key(*row[:3]) for row in rows]
    items: list[Item] = []
    reached, furthest = start, -1
    for number, (place, key) in enumerate(_in_object_order(keys, [row[3] for row in rows])):
        furthest = max(furthest, place)
        # Only where the entries handed out are exactly the first ones of the fixed order can a reader resume.
        if furthest == number:
            last = number == len(keys) - 1
            reached = end if last and not more else replace(start, until=until, key=keys[number])
        items.append(Item(key, reached))
    # A pinned set that is drained is followed by what came since.
    return Batch(items, reached if items else end, more=more or not fresh)


def _pk(connection: BaseDatabaseWrapper, tracked: TrackedModel) -> str:
    field: Any = tracked.history_model._meta.get_field(tracked.model._meta.pk.name)
    return connection.ops.quote_name(field.column)


def _in_object_order(keys: Sequence[Key], objects: Sequence[str]) -> list[tuple[int, Key]]:
    """The keys with each object's ids ascending, and where each stood.

    A transaction that began first may write to an object last; within a table the id tells which entry came after.
    """
    by_object: dict[tuple[str, str], list[tuple[int, Key]]] = {}
    owners = [(key.label, pk) for key, pk in zip(keys, objects, strict=True)]
    for place, (key, owner) in enumerate(zip(keys, owners, strict=True)):
        by_object.setdefault(owner, []).append((place, key))
    queues = {owner: iter(sorted(found, key=lambda pair: pair[1].history_id)) for owner, found in by_object.items()}
    return [next(queues[owner]) for owner in owners]


def _read_alone(
    connection: BaseDatabaseWrapper, tracked: TrackedModel, between: Sequence[Any], key: Key | None, limit: int
) -> tuple[str, list[Any]]:
    """The first entries of a model that are in no run, with the parameters."""
    where, values = _after(key, tracked.label, "history_id")
    sql = (
        f"(SELECT CAST(%s AS text) AS label, position, history_id, "
        f"CAST({_pk(connection, tracked)} AS text) AS object FROM {_table(connection, tracked)} "
        f"WHERE NOT in_run AND {_BETWEEN}{where} ORDER BY position, history_id LIMIT %s)"
    )
    return sql, [tracked.label, *between, *values, limit]


def _read_runs(
    connection: BaseDatabaseWrapper, tracked: TrackedModel, between: Sequence[Any], key: Key | None, limit: int
) -> tuple[str, list[Any]]:
    """The first entries of a model's runs, and fewer than as many again, with the parameters.

    ``WITH TIES`` takes in all that was read of the last run, so that only runs need an order and PostgreSQL walks them
    until it has enough. It cannot guess how many are waiting, and to sort entries would begin all of them.
    """
    where, values, past = "", list[int](), (0, 0)
    if key is not None:
        # A run may begin before the key and end behind it.
        where, values = _after(key._replace(history_id=key.history_id - LONGEST), tracked.label, "first_id")
        past = (key.transaction, key.history_id + 1) if key.label == tracked.label else past
    # What is not out of the feed, at 0, has the position of its run: one that PostgreSQL would take for a rare one.
    sql = (
        f"(SELECT CAST(%s AS text) AS label, r.position, e.history_id, e.object "
        f"FROM (SELECT position, first_id, last_id FROM {_runs(connection)} "
        f"WHERE model = %s AND {_BETWEEN}{where} ORDER BY position, first_id) r "
        f"CROSS JOIN LATERAL (SELECT history_id, CAST({_pk(connection, tracked)} AS text) AS object "
        f"FROM {_table(connection, tracked)} WHERE in_run AND position <> 0 "
        f"AND history_id BETWEEN GREATEST(r.first_id, CASE r.position WHEN %s THEN %s END) AND r.last_id "
        f"ORDER BY history_id LIMIT %s) e ORDER BY r.position, r.first_id FETCH FIRST %s ROWS WITH TIES)"
    )
    return sql, [tracked.label, tracked.label, *between, *values, *past, limit, limit]


def _after(key: Key | None, label: str, id: str) -> tuple[str, list[int]]:
    """The condition for one table's rows beyond ``key``; ``id`` is the column that ``history_id`` is compared with."""
    if key is None:
        return "", []
    if label == key.label:
        return f" AND (position, {id}) > (%s, %s)", [key.transaction, key.history_id]
    return f" AND position {'>' if label < key.label else '>='} %s", [key.transaction]


def _read_ids(connection: BaseDatabaseWrapper, start: Position, limit: int) -> Batch:
    now = int(time.time())
    models = tracked_on(connection.alias)
    if not models:
        return Batch((), replace(start, time=now), more=False)
    selects = [
        f"SELECT * FROM (SELECT %s, history_id, position, history_date FROM {_table(connection, tracked)} "
        f"WHERE history_id > %s ORDER BY history_id LIMIT %s)"
        for tracked in models
    ]
    params = [value for tracked in models for value in (tracked.label, start.ids.get(tracked.label, 0), limit + 1)]
    with connection.cursor() as cursor:
        # One statement, so that all tables are read at one moment.
        cursor.execute(" UNION ALL ".join(selects), params)
        rows = cursor.fetchall()
    tables: dict[str, list[tuple[str, str, int, int]]] = {tracked.label: [] for tracked in models}
    for label, history_id, transaction, date in rows:
        tables[label].append((str(date), label, int(history_id), int(transaction)))
    for found in tables.values():
        found.sort(key=lambda row: row[2])
    merged = list(heapq.merge(*tables.values(), key=lambda row: row[:2]))
    more = len(merged) > limit
    ids = dict(start.ids)
    items: list[Item] = []
    for _, label, history_id, transaction in merged[:limit]:
        ids[label] = history_id
        if transaction:
            items.append(Item(Key(transaction, label, history_id), replace(start, ids=dict(ids))))
    return Batch(items, replace(start, ids=ids, time=start.time if more else now), more=more)
