"""Entries: history rows as a viewer sees them, loaded many at a time in a constant number of statements."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, cast

from django.contrib.auth import get_user_model
from django.core.exceptions import EmptyResultSet, ValidationError
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import OuterRef, Q, Subquery

from koherent import diff
from koherent.diff import FieldChange, ForeignKeyLabels
from koherent.policy import Action, Entries, Scope
from koherent.registry import TrackedModel
from koherent.timeline.filters import MAX_ID, Position


class EntryUser(NamedTuple):
    """An account as it was: primary key as text, name, and whether the account is gone by now."""

    key: str
    name: str
    deleted: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One row of history as the viewer sees it. ``row`` itself is not redacted: do not hand its columns out.

    ``values``: attribute's (or many-to-many field's) name -> Python value; None where redacted; fields that the row did
    not have are absent. ``changes`` is None when the entry before an update is gone.
    """

    tracked: TrackedModel
    row: Any
    object_label: str
    changes: tuple[FieldChange, ...] | None
    values: dict[str, Any]
    user: EntryUser | None

    @property
    def history_id(self) -> int:
        """The row's key in its table."""
        return int(self.row.history_id)

    @property
    def key(self) -> tuple[str, int]:
        """Label and history id: what identifies the entry."""
        return self.tracked.label, self.history_id

    @property
    def action(self) -> Action:
        """``+``, ``~`` or ``-``."""
        return cast("Action", self.row.history_type)

    @property
    def date(self) -> dt.datetime:
        """When it happened."""
        date: dt.datetime = self.row.history_date
        return date

    @property
    def object_id(self) -> str:
        """The object's primary key as text."""
        return str(getattr(self.row, self.tracked.pk_attname))

    @property
    def reason(self) -> str | None:
        """Why, in the words of who did it."""
        reason: str | None = self.row.history_change_reason
        return reason

    @property
    def position(self) -> Position:
        """The place in browsing order."""
        return Position(self.date, self.tracked.label, self.history_id)

    @property
    def cursor(self) -> str:
        """The place in browsing order, opaque."""
        return self.position.encode()

    @cached_property
    def snapshot(self) -> dict[str, Any]:
        """``values`` by field name and ready for JSON: foreign keys as keys, many-to-many as lists of keys."""
        tracked = self.tracked
        shown = {f.name: diff.to_json(f, self.values[f.attname]) for f in tracked.fields if f.attname in self.values}
        shown.update({m.name: diff.to_json(None, self.values[m.name]) for m in tracked.m2m if m.name in self.values})
        return shown


class Found(NamedTuple):
    """An entry found by a search, and the entry before of the same object among the visible ones."""

    tracked: TrackedModel
    history_id: int
    before: int | None


class Search(NamedTuple):
    """The part of a search in one model. ``rows`` are visible entries, filtered."""

    tracked: TrackedModel
    rows: Entries


def find(
    scope: Scope, searches: Sequence[Search], *, limit: int | None = None, newest_first: bool = True
) -> list[Found]:
    """The keys of the first ``limit`` entries in browsing order (or its reverse), over all models in one statement."""
    connection = connections[DEFAULT_DB_ALIAS]
    ordering = ("-history_date", "-history_id") if newest_first else ("history_date", "history_id")
    branches: list[str] = []
    params: list[Any] = []
    for rank, (tracked, rows) in enumerate(searches):
        earlier = scope.entries(tracked).filter(
            **{tracked.pk_attname: OuterRef(tracked.pk_attname)}, history_id__lt=OuterRef("history_id")
        )
        branch: Any = rows.annotate(
            koherent_before=Subquery(earlier.order_by("-history_id").values("history_id")[:1])
        ).values_list("history_date", "history_id", "koherent_before")
        # Without a limit the order is the outer statement's business alone.
        branch = branch.order_by() if limit is None else branch.order_by(*ordering)[:limit]
        try:
            sql, branch_params = branch.query.get_compiler(connection=connection).as_sql()
        except EmptyResultSet:
            continue
        # The place of the label stands for the label: a database's collation may order text its own way.
        branches.append(
            f"SELECT b.history_date, {rank} AS label_rank, b.history_id, b.koherent_before FROM ({sql}) AS b"
        )
        params += branch_params
    if not branches:
        return []
    direction = "DESC" if newest_first else "ASC"
    statement = " UNION ALL ".join(branches) + f" ORDER BY 1 {direction}, 2 {direction}, 3 {direction}"
    if limit is not None:
        statement += f" LIMIT {limit:d}"
    with connection.cursor() as cursor:
        cursor.execute(statement, params)
        return [Found(searches[rank].tracked, id, before) for _, rank, id, before in cursor.fetchall()]


def materialise(scope: Scope, found: Sequence[Found]) -> list[Entry]:
    """The entries of what was found, in its order; one that vanished meanwhile is left out.

    One statement for each model, many-to-many field and model pointed to, and one for the accounts.
    """
    wanted: dict[TrackedModel, set[int]] = {}
    for hit in found:
        ids = wanted.setdefault(hit.tracked, set())
        ids.update({hit.history_id} if hit.before is None else {hit.history_id, hit.before})
    rows: dict[tuple[TrackedModel, int], Any] = {}
    values: dict[tuple[TrackedModel, int], dict[str, Any]] = {}
    for tracked, ids in wanted.items():
        links = diff.load_links(tracked, ids)
        for row in scope.entries(tracked).filter(history_id__in=ids):
            rows[(tracked, row.history_id)] = row
            values[(tracked, row.history_id)] = diff.values_of(tracked, row, links.get(row.history_id, {}))
    hits = [hit for hit in found if (hit.tracked, hit.history_id) in rows]
    labels = ForeignKeyLabels(scope)
    pairs: list[tuple[Any, Any] | None] = []
    for hit in hits:
        now = values[(hit.tracked, hit.history_id)]
        before = None if hit.before is None else values.get((hit.tracked, hit.before))
        pair = _versions(rows[(hit.tracked, hit.history_id)].history_type, before, now)
        pairs.append(pair)
        if pair is not None:
            labels.want(hit.tracked, *pair, redacted=scope.redacted(hit.tracked))
    labels.load()
    gone = deleted_actors(row.actor_id for row in (rows[(h.tracked, h.history_id)] for h in hits) if row.actor_id)
    entries = []
    for hit, pair in zip(hits, pairs, strict=True):
        row = rows[(hit.tracked, hit.history_id)]
        earlier = None if hit.before is None else rows.get((hit.tracked, hit.before))
        entries.append(
            _entry(scope, hit.tracked, row, earlier, values[(hit.tracked, hit.history_id)], pair, labels, gone)
        )
    return entries


def _versions(action: str, before: Any, now: Any) -> tuple[Any, Any] | None:
    """What an entry's changes compare."""
    if action == "+":
        return None, now
    if action == "-":
        return now, None
    return None if before is None else (before, now)


def _entry(
    scope: Scope,
    tracked: TrackedModel,
    row: Any,
    earlier: Any,
    values: dict[str, Any],
    pair: tuple[Any, Any] | None,
    labels: ForeignKeyLabels,
    gone: set[str],
) -> Entry:
    redacted = scope.redacted(tracked)
    erased = diff.erased_fields(row)
    if row.history_type == "~" and earlier is not None:
        erased |= diff.erased_fields(earlier)
    hidden = {f.attname for f in tracked.fields if f.name in redacted} | redacted
    return Entry(
        tracked=tracked,
        row=row,
        object_label=diff.object_label(tracked, row, redacted),
        changes=None if pair is None else diff.compare(tracked, *pair, redacted=redacted, erased=erased, labels=labels),
        values={name: None if name in hidden else value for name, value in values.items()},
        user=None if row.actor_id is None else EntryUser(row.actor_id, row.actor_name or "", row.actor_id in gone),
    )


def load(scope: Scope, keys: Sequence[tuple[str, int]]) -> list[Entry]:
    """The visible entries of (label, history id), in the given order; what is unknown or hidden is left out."""
    ids: dict[TrackedModel, set[int]] = {}
    for label, history_id in keys:
        tracked = scope.tracked(label)
        if tracked is not None and 0 <= history_id <= MAX_ID:
            ids.setdefault(tracked, set()).add(history_id)
    searches = [Search(t, scope.entries(t).filter(Q(history_id__in=wanted))) for t, wanted in ids.items()]
    loaded = {entry.key: entry for entry in materialise(scope, find(scope, searches))}
    ordered = ((label.lower(), history_id) for label, history_id in keys)
    return [loaded[key] for key in ordered if key in loaded]


def deleted_actors(keys: Iterable[str]) -> set[str]:
    """Those of the accounts' primary keys (as text) whose account no longer exists. One statement, or none."""
    accounts: Any = get_user_model()
    wanted: dict[Any, str] = {}
    asked = set(keys)
    for key in asked:
        try:
            wanted[accounts._meta.pk.to_python(key)] = key
        except ValidationError:
            # A key of another kind belongs to a user model that the project no longer has.
            continue
    if not wanted:
        return asked
    alive = accounts._base_manager.using(DEFAULT_DB_ALIAS).filter(pk__in=list(wanted)).values_list("pk", flat=True)
    return asked - {wanted[pk] for pk in alive}
