"""Entries: history rows as a viewer sees them, loaded many at a time in a constant number of statements."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias, cast

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS

from koherent import diff
from koherent.diff import FieldChange, ForeignKeyLabels
from koherent.policy import Action, Scope
from koherent.registry import TrackedModel
from koherent.timeline.cursors import MAX_ID, Position
from koherent.timeline.search import Columns, Found, Search, find

#: Keys that are looked up with one statement.
BATCH = 1_000


class EntryUser(NamedTuple):
    """An account as it was: primary key as text, name, and whether the account is gone by now."""

    key: str
    name: str
    deleted: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One row of history as the viewer sees it. ``columns`` and ``row`` are not redacted: do not hand them out.

    ``columns``: the row's columns as attributes.
    ``values``: attribute's (or many-to-many field's) name -> Python value; None where redacted or erased; fields that
    the row did not have are absent. ``changes`` is None when the entry before an update is gone. ``metadata`` has the
    keys that the viewer may see.
    """

    tracked: TrackedModel
    columns: Any
    object_label: str
    changes: tuple[FieldChange, ...] | None
    values: dict[str, Any]
    user: EntryUser | None
    metadata: dict[str, Any]

    @cached_property
    def row(self) -> Any:
        """The row of history, as an instance of its model."""
        return self.columns.row(self.tracked) if isinstance(self.columns, Columns) else self.columns

    @property
    def history_id(self) -> int:
        """The row's key in its table."""
        return int(self.columns.history_id)

    @property
    def key(self) -> tuple[str, int]:
        """Label and history id: what identifies the entry."""
        return self.tracked.label, self.history_id

    @property
    def action(self) -> Action:
        """``+``, ``~`` or ``-``."""
        return cast("Action", self.columns.history_type)

    @property
    def date(self) -> dt.datetime:
        """When it happened."""
        date: dt.datetime = self.columns.history_date
        return date

    @property
    def object_id(self) -> str:
        """The object's primary key as text."""
        return str(getattr(self.columns, self.tracked.pk_attname))

    @property
    def reason(self) -> str | None:
        """Why, in the words of who did it."""
        reason: str | None = self.columns.history_change_reason
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


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which parts of the entries are needed; what is not is not read, and empty.

    ``changes``: what changed, which takes the entry before; ``labels``: what people call the foreign keys in it;
    ``links``: many-to-many keys in ``values``; ``accounts``: whether the user's account is gone; ``previous`` and
    ``next``: whether there is more on a side of the page that a cursor bounds.
    """

    changes: bool = True
    labels: bool = True
    links: bool = True
    accounts: bool = True
    previous: bool = True
    next: bool = True


EVERYTHING = Wanted()


def materialise(
    scope: Scope, found: Sequence[Found], wanted: Wanted = EVERYTHING, read: Sequence[Found] = ()
) -> list[Entry]:
    """The entries of what was found, in its order; one that vanished meanwhile is left out.

    One statement for each model of which a row is not among those of ``read``, for each many-to-many field and model
    pointed to, and one for the accounts.
    """
    versions = _versions(scope, found, read, links=wanted.links or wanted.changes)
    hits: list[tuple[TrackedModel, _Version, _Version | None, _Pair | None]] = []
    labels = ForeignKeyLabels(scope)
    for tracked, history_id, earlier_id, _ in found:
        known = versions[tracked]
        now = known.get(history_id)
        if now is None:
            continue
        earlier = None if earlier_id is None else known.get(earlier_id)
        pair = _compared(now, earlier) if wanted.changes else None
        hits.append((tracked, now, earlier, pair))
        if pair is not None and wanted.labels:
            labels.want(tracked, *pair, redacted=scope.redacted(tracked))
    labels.load()
    actors = {now.row.actor_id for _, now, _, _ in hits} - {None}
    gone = deleted_actors(actors) if wanted.accounts else set()
    keys = _metadata_keys(scope, [(tracked, now.row) for tracked, now, _, _ in hits])
    entries = []
    for tracked, now, earlier, pair in hits:
        metadata = {key: value for key, value in _metadata(now.row).items() if key in keys[tracked]}
        entries.append(_entry(scope, tracked, now, earlier, pair, labels, gone, metadata))
    return entries


def _metadata(row: Any) -> dict[str, Any]:
    return row.metadata if isinstance(row.metadata, dict) else {}


def _metadata_keys(scope: Scope, rows: Iterable[tuple[TrackedModel, Any]]) -> dict[TrackedModel, frozenset[str]]:
    """The keys of metadata that the viewer sees, for each model."""
    found: dict[TrackedModel, set[str]] = {}
    for tracked, row in rows:
        found.setdefault(tracked, set()).update(_metadata(row))
    return {tracked: scope.metadata_keys(tracked, frozenset(keys)) for tracked, keys in found.items()}


class _Version(NamedTuple):
    """A visible history row, or its columns, and its values."""

    row: Any
    values: dict[str, Any]


_Pair: TypeAlias = tuple[dict[str, Any] | None, dict[str, Any] | None]


def _versions(
    scope: Scope, found: Sequence[Found], read: Sequence[Found], *, links: bool
) -> dict[TrackedModel, dict[int, _Version]]:
    """What was found and the entries before, as far as they are visible, by history id."""
    wanted: dict[TrackedModel, set[int]] = {}
    for tracked, history_id, earlier_id, _ in found:
        ids = wanted.setdefault(tracked, set())
        ids.add(history_id)
        if earlier_id is not None:
            ids.add(earlier_id)
    there = {(tracked, history_id): columns for tracked, history_id, _, columns in read if columns is not None}
    versions: dict[TrackedModel, dict[int, _Version]] = {}
    for tracked, ids in wanted.items():
        linked = diff.load_links(tracked, ids) if links else {}
        some: list[Any] = [there[tracked, id] for id in ids if (tracked, id) in there]
        missing = [id for id in ids if (tracked, id) not in there] if len(some) < len(ids) else []
        if missing:
            some += scope.entries(tracked).filter(history_id__in=missing)
        versions[tracked] = {
            row.history_id: _Version(row, diff.values_of(tracked, row, linked.get(row.history_id, {}))) for row in some
        }
    return versions


def _compared(now: _Version, earlier: _Version | None) -> _Pair | None:
    """What an entry's changes compare."""
    if now.row.history_type == "+":
        return None, now.values
    if now.row.history_type == "-":
        return now.values, None
    return None if earlier is None else (earlier.values, now.values)


def _entry(
    scope: Scope,
    tracked: TrackedModel,
    now: _Version,
    earlier: _Version | None,
    pair: _Pair | None,
    labels: ForeignKeyLabels,
    gone: set[str],
    metadata: dict[str, Any],
) -> Entry:
    row, values = now
    redacted = scope.redacted(tracked)
    if isinstance(row, Columns) and not _has_label(tracked, row):
        row = row.row(tracked)
    wiped = erased = diff.erased_fields(row)
    if row.history_type == "~" and earlier is not None:
        erased |= diff.erased_fields(earlier.row)
    changes = None
    if pair is not None:
        changes = diff.compare(
            tracked, *pair, redacted=redacted, erased=erased, erased_changes=diff.erased_changes(row), labels=labels
        )
    unseen = redacted | wiped
    hidden = {f.attname for f in tracked.fields if f.name in unseen} | unseen if unseen else unseen
    return Entry(
        tracked=tracked,
        columns=row,
        object_label=diff.object_label(tracked, row, unseen),
        changes=changes,
        values={name: None if name in hidden else value for name, value in values.items()} if hidden else values,
        user=None if row.actor_id is None else EntryUser(row.actor_id, row.actor_name or "", row.actor_id in gone),
        metadata=metadata,
    )


def _has_label(tracked: TrackedModel, columns: Columns) -> bool:
    """Whether the object's label is among the columns, so that it takes no instance to make it."""
    label = tracked.field.label
    return label is None or (isinstance(label, str) and label in columns.__dict__)


def visible_keys(scope: Scope, keys: Iterable[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of (label, history id) that the viewer sees. One statement for each model and ``BATCH`` keys."""
    ids: dict[TrackedModel, list[int]] = {}
    for label, history_id in keys:
        tracked = scope.tracked(label)
        if tracked is not None:
            ids.setdefault(tracked, []).append(history_id)
    found: set[tuple[str, int]] = set()
    for tracked, some in ids.items():
        for start in range(0, len(some), BATCH):
            rows = scope.entries(tracked).filter(history_id__in=some[start : start + BATCH])
            found.update((tracked.label, history_id) for history_id in rows.values_list("history_id", flat=True))
    return found


def load(scope: Scope, keys: Sequence[tuple[str, int]], wanted: Wanted = EVERYTHING) -> list[Entry]:
    """The visible entries of (label, history id), in the given order; what is unknown or hidden is left out."""
    ids: dict[TrackedModel, set[int]] = {}
    for label, history_id in keys:
        tracked = scope.tracked(label)
        if tracked is not None and 0 <= history_id <= MAX_ID:
            ids.setdefault(tracked, set()).add(history_id)
    searches = [Search(tracked, scope.entries(tracked).filter(history_id__in=some)) for tracked, some in ids.items()]
    found = find(scope, searches, neighbours=wanted.changes)
    loaded = {entry.key: entry for entry in materialise(scope, found, wanted)}
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
