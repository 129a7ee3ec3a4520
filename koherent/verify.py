"""Compares the trail with the tables that it tells of, and each object's entries with each other.

Walks both tables in chunks of their keys, so memory is constant and the number of statements depends on the number of
chunks. Each chunk is read at one moment: others may go on writing meanwhile.
"""

import datetime as dt
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from django.db import DEFAULT_DB_ALIAS, connections, router, transaction
from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, When

from koherent import diff
from koherent.beginnings import LONGEST
from koherent.models import Assignation, Origin, Pruned
from koherent.registry import M2MTracked, TrackedModel
from koherent.runs import SHARED, has_runs, runs_of
from koherent.statements import quote

CHUNK = 2_000
MAX_CHUNK = 10_000

Advance = Callable[[int], object]

#: True of entries that no transaction of this PostgreSQL cluster can have written, seen from any transaction.
FOREIGN = (
    "position >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint "
    "AND position <> COALESCE(pg_current_xact_id_if_assigned()::text::bigint, 0)"
)


#: What a run and each of its entries have to say alike.
SAID = (*SHARED, "position")


class Problem(StrEnum):
    """What can be wrong with an object and its entries."""

    #: The object is there and has no entry: it was written past the trail.
    MISSING = "missing"
    #: The object's values differ from its latest entry: it was changed past the trail.
    STALE = "stale"
    #: The object is there, and its latest entry says that it was deleted.
    RESURRECTED = "resurrected"
    #: The object is gone, and its latest entry is no deletion.
    VANISHED = "vanished"
    #: An entry cannot follow the one before it: a second creation, a change after the deletion, a change at first. Or
    #: it says that it is in a run, which knows nothing of it: filters do not find it.
    IMPOSSIBLE = "impossible"
    #: A change that changed nothing: written twice.
    DUPLICATE = "duplicate"
    #: Entries of another PostgreSQL cluster: the feed would take them for entries to come.
    FOREIGN_POSITION = "foreign_position"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    ``model`` is the tracked model's label, ``object_id`` the object's key as text, ``entry`` the ``history_id`` of the
    entry in question (for ``STALE`` the latest one), ``fields`` the names of the fields that differ; of an entry that
    differs from its run, the columns. ``object_id`` is None, and ``count`` more than 1, for ``FOREIGN_POSITION`` only:
    one finding a model.
    """

    problem: Problem
    model: str
    object_id: str | None
    entry: int | None = None
    fields: tuple[str, ...] = ()
    count: int = 1
    message: str


def size(tracked: TrackedModel, using: str = DEFAULT_DB_ALIAS) -> int:
    """How many rows ``verify()`` will walk. Two statements that count whole tables."""
    return int(_live(tracked, using).count()) + int(_history(tracked, using).count())


def verify(
    tracked: TrackedModel,
    *,
    using: str = DEFAULT_DB_ALIAS,
    chunk: int = CHUNK,
    since: dt.datetime | None = None,
    advance: Advance = lambda _: None,
) -> Iterator[Finding]:
    """What is missing, stale or impossible in one model's trail; nothing when it is whole.

    ``chunk`` rows (1 to ``MAX_CHUNK``) are read at a time; ``advance`` is told how many more are done. Entries dated
    before ``since`` are not compared with each other. Passed over are ``auto_now`` fields, erased values and fields
    that the model did not have when an entry was written.
    """
    if not 1 <= chunk <= MAX_CHUNK:
        raise ValueError(f"chunk is 1 to {MAX_CHUNK}")
    yield from foreign_positions(tracked, using)
    yield from check_objects(tracked, using, chunk, advance)
    yield from check_entries(tracked, using, chunk, since, advance)


@contextmanager
def one_moment(using: str) -> Iterator[None]:
    """All statements inside see the database as of one moment, where this is the outermost transaction."""
    connection = connections[using]
    outermost = not connection.in_atomic_block
    with transaction.atomic(using=using):
        if outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield


def _live(tracked: TrackedModel, using: str) -> "QuerySet[Any]":
    return tracked.model._base_manager.using(using)


def _history(tracked: TrackedModel, using: str) -> "QuerySet[Any]":
    return tracked.history_model._base_manager.using(using)


def foreign_positions(tracked: TrackedModel, using: str) -> Iterator[Finding]:
    """At most one finding: entries whose transaction this PostgreSQL cluster has not seen yet. One statement."""
    connection = connections[using]
    if connection.vendor != "postgresql":
        return
    table = quote(tracked.history_model._meta.db_table)
    found, params = f"SELECT history_id FROM {table} WHERE NOT in_run AND {FOREIGN}", list[str]()
    if has_runs(connection):
        runs = f"SELECT first_id, last_id FROM {quote(Assignation._meta.db_table)} WHERE model = %s AND {FOREIGN}"
        within = f"SELECT history_id FROM {table} WHERE history_id BETWEEN r.first_id AND r.last_id AND in_run"
        within += " AND position <> 0"
        found += f" UNION ALL SELECT e.history_id FROM ({runs}) r CROSS JOIN LATERAL ({within} LIMIT {LONGEST}) e"
        params.append(tracked.label)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*), MIN(history_id) FROM ({found}) entries", params)
        count, first = cursor.fetchone()
    if count:
        yield Finding(
            problem=Problem.FOREIGN_POSITION,
            model=tracked.label,
            object_id=None,
            entry=first,
            count=count,
            message=f"{count} entries have positions of another database cluster.",
        )


def objects(tracked: TrackedModel, using: str) -> Any:
    """A queryset of the live objects by key: (key, id of the latest entry or None, values of ``tracked.fields``)."""
    latest = _history(tracked, using).filter(**{tracked.pk_attname: OuterRef("pk")}).order_by("-history_id")
    live = _live(tracked, using).order_by("pk").annotate(koherent_latest=Subquery(latest.values("history_id")[:1]))
    return live.values_list("pk", "koherent_latest", *(f.attname for f in tracked.fields))


def check_objects(tracked: TrackedModel, using: str, chunk: int, advance: Advance) -> Iterator[Finding]:
    """Compare each live object with its latest entry."""
    rows_of = page = objects(tracked, using)
    while True:
        with one_moment(using):
            rows = list(page[:chunk])
            findings = compare_objects(tracked, using, rows)
        yield from findings
        advance(len(rows))
        if len(rows) < chunk:
            return
        page = rows_of.filter(pk__gt=rows[-1][0])


def compare_objects(tracked: TrackedModel, using: str, rows: Sequence[Any]) -> list[Finding]:
    """The findings about rows of ``objects()``."""
    ids = [row[1] for row in rows if row[1] is not None]
    names = ("history_id", "history_type", *(f.attname for f in tracked.fields))
    entries = {entry[0]: entry for entry in _history(tracked, using).filter(history_id__in=ids).values_list(*names)}
    links = [
        (m2m, _links_now(m2m, using, [row[0] for row in rows]), _links_then(m2m, using, ids)) for m2m in tracked.m2m
    ]
    findings: list[Finding] = []
    suspects: dict[int, tuple[str, set[str]]] = {}
    for pk, latest, *values in rows:
        entry = entries.get(latest)
        if entry is None:
            problem, message = Problem.MISSING, "The object has no entry."
        elif entry[1] == "-":
            problem, message = Problem.RESURRECTED, "The object is there; its latest entry is a deletion."
        else:
            moved = moved_fields(tracked, entry[2:], values)
            moved |= {m2m.name for m2m, now, then in links if now.get(pk, []) != then.get(latest, [])}
            if moved:
                suspects[latest] = str(pk), moved
            continue
        findings.append(Finding(problem=problem, model=tracked.label, object_id=str(pk), entry=latest, message=message))
    ignored = _ignored_fields(tracked, using, suspects)
    for latest, (object_id, moved) in suspects.items():
        fields = tuple(sorted(moved - ignored[latest]))
        if fields:
            findings.append(
                Finding(
                    problem=Problem.STALE,
                    model=tracked.label,
                    object_id=object_id,
                    entry=latest,
                    fields=fields,
                    message=f"Differs from its latest entry in {', '.join(fields)}.",
                )
            )
    return findings


def moved_fields(tracked: TrackedModel, old: Sequence[Any], new: Sequence[Any]) -> set[str]:
    """The names of the fields that differ between two rows of values in the order of ``tracked.fields``."""
    if list(old) == list(new):
        return set()
    moved = set()
    for field, before, after in zip(tracked.fields, old, new, strict=True):
        if before == after and type(before) is type(after):
            continue
        # The text form tells that two values without an equality of their own (a NaN) are the same.
        if diff.same(before, after) or diff.to_json(field, before) == diff.to_json(field, after):
            continue
        if not getattr(field, "auto_now", False):
            moved.add(field.name)
    return moved


def _ignored_fields(tracked: TrackedModel, using: str, ids: Collection[int]) -> dict[int, frozenset[str]]:
    """What an entry says nothing about: erased fields, and those that the model did not have."""
    if not ids:
        return {}
    entries = _history(tracked, using).only("history_id", "field_set", "metadata").in_bulk(list(ids))
    return {
        id: (tracked.names - tracked.field_names(entry)) | diff.erased_fields(entry) for id, entry in entries.items()
    }


def _link_columns(m2m: M2MTracked) -> list[str]:
    """What makes a link: the other side, and the extra columns of a ``through`` model."""
    columns = [f.attname for f in m2m.through._meta.concrete_fields if not f.primary_key]
    return [m2m.target_attname, *(c for c in columns if c not in (m2m.source_attname, m2m.target_attname))]


def _links_now(m2m: M2MTracked, using: str, pks: Sequence[Any]) -> dict[Any, list[Any]]:
    links = m2m.through._base_manager.using(using).filter(**{f"{m2m.source_attname}__in": pks})
    return _grouped(links.values_list(m2m.source_attname, *_link_columns(m2m)))


def _links_then(m2m: M2MTracked, using: str, ids: Sequence[int]) -> dict[Any, list[Any]]:
    links = m2m.history_model._base_manager.using(using).filter(history_id__in=ids)
    return _grouped(links.values_list("history_id", *_link_columns(m2m)))


def _grouped(rows: Iterable[Any]) -> dict[Any, list[Any]]:
    grouped: dict[Any, list[Any]] = {}
    for owner, *link in rows:
        grouped.setdefault(owner, []).append(link)
    for links in grouped.values():
        links.sort(key=repr)
    return grouped


def run_of_entry(tracked: TrackedModel, using: str) -> Case:
    """The key of the run that an entry in one is of, or None: the last that begins before it of those of its date."""
    runs = runs_of(tracked, using).filter(history_date=OuterRef("history_date"), first_id__lte=OuterRef("history_id"))
    return Case(When(in_run=True, then=Subquery(runs.order_by("-first_id").values("pk")[:1])))


def astray(tracked: TrackedModel, using: str, rows: Iterable[Sequence[Any]]) -> dict[int, tuple[str, ...]]:
    """The ids of entries in runs that no run knows, each with the columns in which it differs from its run, if any.

    ``rows`` are ids, ``run_of_entry()`` and what is ``SAID``. One statement.
    """
    rows = list(rows)
    runs = runs_of(tracked, using).filter(pk__in={row[1] for row in rows}).values_list("pk", "last_id", *SAID)
    known = {pk: (last, said) for pk, last, *said in runs}
    found: dict[int, tuple[str, ...]] = {}
    for history_id, run, *values in rows:
        last, said = known.get(run, (0, []))
        if history_id > last:
            found[history_id] = ()
        elif values != said:
            # SQLite's runs have no position.
            pairs = [pair for pair in zip(SAID, values, said, strict=True) if pair[::2] != ("position", None)]
            differ = tuple(name for name, own, other in pairs if own != other)
            if differ:
                found[history_id] = differ
    return found


def check_entries(
    tracked: TrackedModel, using: str, chunk: int, since: dt.datetime | None, advance: Advance
) -> Iterator[Finding]:
    """Compare each object's entries with each other, and the last one with whether the object is there."""
    return _Entries(tracked, using, chunk, since, advance).findings()


def _never_pruned(tracked: TrackedModel, using: str) -> bool:
    """Whether an object's first entry is the first that it ever had."""
    if not router.allow_migrate_model(using, Pruned):
        return False
    return not Pruned.objects.using(using).filter(model=tracked.label).exists()


class _Entry(NamedTuple):
    pk: Any
    history_id: int
    action: str
    date: dt.datetime
    origin: str
    position: int
    field_set: int | None
    app: str | None
    actor_id: str | None
    assignation_id: str | None
    in_run: bool
    run: int | None
    values: Sequence[Any]


class _Entries:
    """Each object's entries in their order; nothing is kept but the entry before and the chunk."""

    def __init__(
        self, tracked: TrackedModel, using: str, chunk: int, since: dt.datetime | None, advance: Advance
    ) -> None:
        self.tracked, self.using, self.chunk, self.since, self.advance = tracked, using, chunk, since, advance
        self.before: _Entry | None = None
        self.complete = _never_pruned(tracked, using)
        self.found: list[Finding] = []
        self.last: list[_Entry] = []
        self.twins: list[tuple[_Entry, _Entry]] = []

    def findings(self) -> Iterator[Finding]:
        key = self.tracked.pk_attname
        attnames = [f.attname for f in self.tracked.fields]
        names = [key, "history_id", "history_type", "history_date", "origin", "position", "field_set"]
        names += ["app", "actor_id", "assignation_id", "in_run", "koherent_run"]
        rows = _history(self.tracked, self.using).annotate(koherent_run=run_of_entry(self.tracked, self.using))
        rows = rows.order_by(key, "history_id").values_list(*names, *attnames)
        page = rows
        while True:
            with one_moment(self.using):
                entries = [_Entry._make((*row[: len(names)], row[len(names) :])) for row in page[: self.chunk]]
                for entry in entries:
                    self._follow(entry)
                self._check_runs(entries)
                done = len(entries) < self.chunk
                if done and self.before is not None:
                    self.last.append(self.before)
                self._check_gone()
                self._check_twins()
            yield from self.found
            self.found = []
            self.advance(len(entries))
            if done:
                return
            at = entries[-1]
            # The first condition is implied by the second; it lets the index be entered at the right place.
            beyond = Q(**{f"{key}__gt": at.pk}) | Q(**{key: at.pk}, history_id__gt=at.history_id)
            page = rows.filter(Q(**{f"{key}__gte": at.pk}) & beyond)

    def _report(self, problem: Problem, entry: _Entry, message: str, fields: tuple[str, ...] = ()) -> None:
        self.found.append(
            Finding(
                problem=problem,
                model=self.tracked.label,
                object_id=str(entry.pk),
                entry=entry.history_id,
                fields=fields,
                message=message,
            )
        )

    def _follow(self, entry: _Entry) -> None:
        before, self.before = self.before, entry
        if before is not None and before.pk != entry.pk:
            self.last.append(before)
            before = None
        if self.since is not None and entry.date < self.since:
            return
        if before is None:
            # What has no position was recorded by another package, which need not have begun with the object.
            if entry.action != "+" and entry.position and self.complete:
                self._report(Problem.IMPOSSIBLE, entry, "The first entry is no creation.")
        elif entry.action == "+" and before.action != "-":
            self._report(Problem.IMPOSSIBLE, entry, "A creation while the object was there.")
        elif entry.action != "+" and before.action == "-" and (entry.action, entry.origin) != ("-", Origin.ERASURE):
            what = "A second deletion." if entry.action == "-" else "A change of a deleted object."
            self._report(Problem.IMPOSSIBLE, entry, what)
        elif entry.action == "~" and self._may_be_twin(before, entry):
            self.twins.append((before, entry))

    def _check_runs(self, entries: Sequence[_Entry]) -> None:
        """What says that it is in a run, is it, or no filter finds it."""
        own = {e.history_id: e for e in entries if e.in_run and (self.since is None or e.date >= self.since)}
        rows = [
            (e.history_id, e.run, e.date, e.action, e.app, e.actor_id, e.assignation_id, e.position)
            for e in own.values()
        ]
        for history_id, fields in astray(self.tracked, self.using, rows).items():
            what = f"Differs from its run in {', '.join(fields)}" if fields else "No run knows of it"
            self._report(Problem.IMPOSSIBLE, own[history_id], f"{what}: filters do not find it.", fields)

    def _may_be_twin(self, before: _Entry, entry: _Entry) -> bool:
        if self.tracked.record_unchanged or entry.origin != Origin.CHANGE or not entry.position:
            return False
        return before.field_set == entry.field_set and not moved_fields(self.tracked, before.values, entry.values)

    def _check_gone(self) -> None:
        alive = {entry.pk: entry for entry in self.last if entry.action != "-"}
        self.last = []
        if not alive:
            return
        there = set(_live(self.tracked, self.using).filter(pk__in=list(alive)).values_list("pk", flat=True))
        for pk, entry in alive.items():
            if pk not in there:
                self._report(Problem.VANISHED, entry, "The object is gone; its latest entry is no deletion.")

    def _check_twins(self) -> None:
        """What has the values of the entry before may still differ in its links, or have been erased to be equal."""
        if not self.twins:
            return
        ids = sorted({entry.history_id for pair in self.twins for entry in pair})
        links = [_links_then(m2m, self.using, ids) for m2m in self.tracked.m2m]
        rows = _history(self.tracked, self.using).only("history_id", "metadata").in_bulk(ids)
        for before, entry in self.twins:
            same_links = all(then.get(before.history_id) == then.get(entry.history_id) for then in links)
            erased = any(diff.erased_fields(rows[row.history_id]) for row in (before, entry))
            if same_links and not erased:
                self._report(Problem.DUPLICATE, entry, "A change that changed nothing.")
        self.twins = []
