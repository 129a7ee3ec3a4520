"""Writes entries for what the trail knows nothing of: where tracking begins, and what went past it.

The entries have the origin ``baseline`` and position 0: no feed delivers them. Each chunk is a transaction of its own
where none is open, and what is written is not written again: interrupted, it can simply be run again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.fields import NOT_PROVIDED
from django.utils import timezone

from koherent import diff
from koherent.models import Assignation, Origin
from koherent.registry import M2MTracked, TrackedModel
from koherent.runs import has_runs
from koherent.verify import (
    CHUNK,
    FOREIGN,
    SAID,
    Advance,
    Problem,
    astray,
    check_entries,
    check_objects,
    compare_objects,
    foreign_positions,
    objects,
    run_of_entry,
)

APP = "koherent_baseline"
REASON = "baseline"


@dataclass(frozen=True, kw_only=True)
class BaselineReport:
    """How many entries were written, or with ``dry_run`` would be, for one model (``model`` is its label).

    ``created``: objects without history, or whose latest entry is a deletion. ``changed``: objects that differ from
    their latest entry; ``deleted``: objects that are gone. No entries written are ``restored``, those whose position of
    another PostgreSQL cluster became 0, and ``detached``, those that were taken out of a run that knew nothing of them.
    All four are None when that was not asked for.
    """

    model: str
    created: int
    changed: int | None
    deleted: int | None
    restored: int | None
    detached: int | None
    dry_run: bool

    @property
    def entries(self) -> int:
        """All of them."""
        return self.created + (self.changed or 0) + (self.deleted or 0)


def record_baseline(
    tracked: TrackedModel,
    *,
    using: str = DEFAULT_DB_ALIAS,
    chunk: int = CHUNK,
    reason: str = REASON,
    app: str = APP,
    repair: bool = False,
    dry_run: bool = False,
    advance: Advance = lambda _: None,
) -> BaselineReport:
    """Write an entry ``"+"`` for each object that has no history or whose latest entry is a deletion.

    ``repair`` also writes what raw SQL, ``loaddata`` or ``koherent.pause()`` left out of the trail: ``"~"`` for objects
    that differ from their latest entry, ``"-"`` with its last known values for each that is gone. It takes positions
    away that another cluster gave, which is what a restored dump needs before the feed is used, and entries out of runs
    that know nothing of them, so that filters find them. ``advance`` is told how many more rows are done. Others may
    write meanwhile: an object that gets an entry of its own gets none after it.
    """
    writer = _Writer(tracked, using, reason, app)
    changed = deleted = restored = detached = None
    if dry_run:
        created = sum(writer.count_new(keys) for keys in _chunks(writer, chunk, advance))
        if repair:
            found = [f.problem for f in check_objects(tracked, using, chunk, advance)]
            found += [f.problem for f in check_entries(tracked, using, chunk, None, advance)]
            changed, deleted = found.count(Problem.STALE), found.count(Problem.VANISHED)
            restored = sum(finding.count for finding in foreign_positions(tracked, using))
            detached = sum(map(len, _astray(writer, chunk)))
    else:
        busy: list[Any] = []
        created = sum(writer.write_new(keys, busy) for keys in _chunks(writer, chunk, advance))
        # Waiting for one row at a time, while holding none, is in nobody's way.
        created += sum(writer.write_new([key], None) for key in busy)
        if repair:
            changed = _write_changed(writer, chunk, advance)
            deleted = _write_deleted(writer, chunk, advance)
            # First, because what stands alone is found by its own position.
            detached = sum(map(writer.detach, _astray(writer, chunk)))
            restored = writer.take_foreign_positions(chunk)
    return BaselineReport(
        model=tracked.label,
        created=created,
        changed=changed,
        deleted=deleted,
        restored=restored,
        detached=detached,
        dry_run=dry_run,
    )


def _chunks(writer: "_Writer", chunk: int, advance: Advance) -> Iterator[list[Any]]:
    """The keys of all live objects."""
    every = writer.tracked.model._base_manager.using(writer.using).order_by("pk").values_list("pk", flat=True)
    page = every
    while keys := list(page[:chunk]):
        yield keys
        advance(len(keys))
        page = every.filter(pk__gt=keys[-1])


def _write_changed(writer: "_Writer", chunk: int, advance: Advance) -> int:
    rows_of = objects(writer.tracked, writer.using)
    written = 0
    for keys in _chunks(writer, chunk, advance):
        suspects = _stale(writer, rows_of.filter(pk__in=keys))
        if suspects:
            with transaction.atomic(using=writer.using):
                held = writer.lock(suspects, wait=False)
                # Looked at again, because whoever changed them may have recorded it meanwhile.
                written += writer.insert("~", _stale(writer, rows_of.filter(pk__in=held)))
    return written


def _stale(writer: "_Writer", queryset: Any) -> list[Any]:
    rows = list(queryset)
    findings = compare_objects(writer.tracked, writer.using, rows)
    stale = {f.entry for f in findings if f.problem == Problem.STALE}
    return [row[0] for row in rows if row[1] in stale]


def _write_deleted(writer: "_Writer", chunk: int, advance: Advance) -> int:
    written = 0
    waiting: list[int] = []
    for finding in check_entries(writer.tracked, writer.using, chunk, None, advance):
        if finding.problem == Problem.VANISHED and finding.entry is not None:
            waiting.append(finding.entry)
        if len(waiting) >= chunk:
            written += writer.insert_deletions(waiting)
            waiting = []
    return written + writer.insert_deletions(waiting)


def _astray(writer: "_Writer", chunk: int) -> Iterator[list[int]]:
    """The ids of entries that say that they are in a run, which knows nothing of them."""
    tracked, using = writer.tracked, writer.using
    every = tracked.history_model._base_manager.using(using).filter(in_run=True).order_by("history_id")
    page = every = every.annotate(koherent_run=run_of_entry(tracked, using)).values_list(
        "history_id", "koherent_run", *SAID
    )
    while rows := list(page[:chunk]):
        yield list(astray(tracked, using, rows))
        page = every.filter(pk__gt=rows[-1][0])


class _Writer:
    """The statements of one model, which may be a migration's: its history has the columns of then.

    So ``statements.Statements``, which needs those of now, cannot make them.
    """

    def __init__(self, tracked: TrackedModel, using: str, reason: str, app: str) -> None:
        self.tracked, self.using, self.reason, self.app = tracked, using, reason, app
        self.connection: BaseDatabaseWrapper = connections[using]
        self.postgres = self.connection.vendor == "postgresql"
        self.pk: Any = tracked.model._meta.pk
        self.history = self.quote(tracked.history_model._meta.db_table)
        self.key = self.quote(self.history_column(self.pk.name))
        self.live_key = f"m0.{self.quote(self.pk.column)}"
        names = {f.name for f in tracked.history_model._meta.concrete_fields}
        # ``related_name`` asks for a way from the object to its entries.
        self.relation = [self.quote(self.history_column(name)) for name in names & {"history_relation"}]
        self.ancestry: list[Any] = [tracked.model]
        self.tables = self.quote(tracked.model._meta.db_table) + " m0"
        for parent in tracked.model._meta.get_parent_list():
            if any(f.model is parent for f in tracked.fields):
                self.join(parent)
        latest = f"SELECT MAX(l.history_id) FROM {self.history} l WHERE l.{self.key} = {self.live_key}"
        alive = f"SELECT 1 FROM {self.history} h WHERE h.history_id = ({latest}) AND h.history_type <> '-'"
        self.is_new = f"NOT EXISTS ({alive})"

    def quote(self, name: object) -> str:
        return str(self.connection.ops.quote_name(str(name)))

    def history_column(self, name: str) -> str:
        field: Any = self.tracked.history_model._meta.get_field(name)
        return str(field.column)

    def join(self, parent: Any) -> None:
        """A multi-table parent, behind those that lead to it."""
        link: Any = self.tracked.model._meta.get_ancestor_link(parent)
        alias, number = self.ancestry.index(link.model), len(self.ancestry)
        key, target = self.quote(link.column), self.quote(parent._meta.pk.column)
        self.tables += f" JOIN {self.quote(parent._meta.db_table)} m{number} ON m{number}.{target} = m{alias}.{key}"
        self.ancestry.append(parent)

    def among(self, keys: Sequence[Any]) -> tuple[str, list[Any]]:
        params = [self.pk.get_db_prep_value(key, self.connection) for key in keys]
        return f"{self.live_key} IN ({', '.join(['%s'] * len(params))})", params

    def run(self, sql: str, params: Sequence[Any]) -> list[Any]:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return [] if cursor.description is None else list(cursor.fetchall())

    def count_new(self, keys: Sequence[Any]) -> int:
        which, params = self.among(keys)
        [(count,)] = self.run(f"SELECT COUNT(*) FROM {self.tables} WHERE {which} AND {self.is_new}", params)
        return int(count)

    def write_new(self, keys: Sequence[Any], busy: list[Any] | None) -> int:
        """Entries for those of ``keys`` that have no live history.

        What another transaction holds is waited for, or, with ``busy``, put there. Once the lock is held, every entry
        that another transaction gave the object can be seen, and further ones come after ours.
        """
        with transaction.atomic(using=self.using):
            if self.postgres:
                condition = f" AND {self.is_new}"
                held = self.lock(keys, wait=busy is None, condition=condition)
                if busy is not None:
                    busy += set(self.keys_of(keys, condition)).difference(held)
                keys = held
            return self.insert("+", keys, f" AND {self.is_new}")

    def lock(self, keys: Sequence[Any], *, wait: bool, condition: str = "") -> list[Any]:
        """Keep others from writing to objects until the transaction ends; returns the keys. SQLite has one writer."""
        if not self.postgres:
            return list(keys)
        return self.keys_of(keys, f"{condition} ORDER BY {self.live_key} FOR UPDATE{'' if wait else ' SKIP LOCKED'}")

    def keys_of(self, keys: Sequence[Any], rest: str) -> list[Any]:
        which, params = self.among(keys)
        rows = self.run(f"SELECT {self.live_key} FROM {self.tables} WHERE {which}{rest}", params)
        return [self.pk.to_python(row[0]) for row in rows]

    def insert(self, action: str, keys: Sequence[Any], condition: str = "") -> int:
        if not keys:
            return 0
        columns = [self.quote(self.history_column(f.name)) for f in self.tracked.fields] + self.relation
        values = [f"m{self.ancestry.index(f.model)}.{self.quote(f.column)}" for f in self.tracked.fields]
        values += [self.live_key for _ in self.relation]
        which, params = self.among(keys)
        constants = self.constants(action, {}, self.tracked.field_set)
        ids = self.insert_select(
            columns, values, constants, f"{self.tables} WHERE {which}{condition} ORDER BY {self.live_key}", params
        )
        for m2m in self.tracked.m2m:
            source = self.quote(_column(m2m.through, m2m.source_attname))
            self.copy_links(
                m2m,
                f"{self.quote(m2m.through._meta.db_table)} l JOIN {self.history} n ON n.{self.key} = l.{source}",
                ids,
            )
        return len(ids)

    def insert_deletions(self, ids: Sequence[int]) -> int:
        """Entries ``"-"`` with the values of entries, each the latest one of an object that is gone."""
        if not ids:
            return 0
        written = 0
        live = f"SELECT 1 FROM {self.tables} WHERE {self.live_key} = o.{self.key}"
        later = f"SELECT 1 FROM {self.history} n WHERE n.{self.key} = o.{self.key} AND n.history_id > o.history_id"
        before = f"SELECT MAX(b.history_id) FROM {self.history} b WHERE b.{self.key} = n.{self.key}"
        columns = [self.quote(self.history_column(f.name)) for f in self.tracked.fields] + self.relation
        with transaction.atomic(using=self.using):
            for (field_set, erased), group in self.by_kind(ids).items():
                new = self.insert_select(
                    columns,
                    [f"o.{column}" for column in columns],
                    self.constants("-", {diff.ERASED: list(erased)} if erased else {}, field_set),
                    f"{self.history} o WHERE o.history_id IN ({', '.join(['%s'] * len(group))}) "
                    f"AND NOT EXISTS ({live}) AND NOT EXISTS ({later}) ORDER BY o.history_id",
                    group,
                )
                written += len(new)
                for m2m in self.tracked.m2m:
                    links = f"{self.quote(m2m.history_model._meta.db_table)} l JOIN {self.history} n"
                    self.copy_links(m2m, f"{links} ON l.history_id = ({before} AND b.history_id < n.history_id)", new)
        return written

    def detach(self, ids: list[int]) -> int:
        """Let entries stand alone; returns how many."""
        return self.tracked.history_model._base_manager.using(self.using).filter(pk__in=ids).update(in_run=False)

    def take_foreign_positions(self, chunk: int) -> int:
        """Position 0 for entries of another cluster; returns how many."""
        if not self.postgres:
            return 0
        taken = 0
        chosen = f"SELECT history_id FROM {self.history} WHERE NOT in_run AND {FOREIGN} ORDER BY position LIMIT %s"
        update = f"UPDATE {self.history} SET position = 0 WHERE history_id IN ({chosen}) RETURNING history_id"
        while rows := self.run(update, [chunk]):
            taken += len(rows)
        return taken + (self.take_foreign_runs(chunk) if has_runs(self.connection) else 0)

    def take_foreign_runs(self, chunk: int) -> int:
        """The same for entries of runs: as many runs at once as fill a chunk, because both have to say the same."""
        runs, length = self.quote(Assignation._meta.db_table), "last_id - first_id + 1"
        some = f"SELECT * FROM {runs} WHERE model = %s AND {FOREIGN} ORDER BY position, first_id LIMIT %s"
        before = f"SUM({length}) OVER (ORDER BY position, first_id) - ({length})"
        chosen = f"SELECT id FROM (SELECT id, {before} AS entries_before FROM ({some}) s) r WHERE entries_before < %s"
        update = (
            f"WITH run AS (UPDATE {runs} SET position = 0 WHERE id IN ({chosen}) RETURNING first_id, last_id), "
            f"entry AS (UPDATE {self.history} h SET position = 0 FROM run "
            f"WHERE h.history_id BETWEEN run.first_id AND run.last_id AND h.in_run RETURNING 1) "
            f"SELECT (SELECT COUNT(*) FROM run), (SELECT COUNT(*) FROM entry)"
        )
        taken = 0
        while True:
            [(of_runs, of_entries)] = self.run(update, [self.tracked.label, chunk, chunk])
            if not of_runs:
                return taken
            taken += int(of_entries)

    def by_kind(self, ids: Sequence[int]) -> dict[tuple[int | None, tuple[str, ...]], list[int]]:
        """The entries by what their copies must say too: which fields the row had, and which were erased."""
        groups: dict[tuple[int | None, tuple[str, ...]], list[int]] = {}
        rows = self.tracked.history_model._base_manager.using(self.using).filter(history_id__in=ids)
        for row in rows.only("history_id", "field_set", "metadata"):
            entry: Any = row
            kind = entry.field_set, tuple(sorted(diff.erased_fields(entry)))
            groups.setdefault(kind, []).append(entry.history_id)
        return groups

    def constants(self, action: str, metadata: dict[str, Any], field_set: int | None) -> dict[str, Any]:
        copied = [f.name for f in self.tracked.fields]
        stamp = {
            "history_date": timezone.now(),
            "history_type": action,
            "history_change_reason": self.reason,
            "app": self.app,
            "metadata": metadata,
            "origin": Origin.BASELINE.value,
            "position": 0,
            "field_set": field_set,
        }
        return {**_own_values(self.tracked.history_model, [*copied, *stamp, "history_relation"]), **stamp}

    def insert_select(
        self, columns: list[str], values: list[str], constants: dict[str, Any], source: str, params: Sequence[Any]
    ) -> list[int]:
        marks, given = self.marks(self.tracked.history_model, constants)
        columns = [*columns, *(self.quote(self.history_column(name)) for name in constants)]
        rows = self.run(
            f"INSERT INTO {self.history} ({', '.join(columns)}) SELECT {', '.join([*values, *marks])} "
            f"FROM {source} RETURNING history_id",
            [*given, *params],
        )
        return [int(row[0]) for row in rows]

    def marks(self, model: Any, constants: dict[str, Any]) -> tuple[list[str], list[Any]]:
        marks, given = [], []
        for name, value in constants.items():
            field: Any = model._meta.get_field(name)
            # PostgreSQL would take an untyped constant of a SELECT for text.
            marks.append(f"CAST(%s AS {field.db_type(self.connection)})" if self.postgres else "%s")
            given.append(field.get_db_prep_save(value, self.connection))
        return marks, given

    def copy_links(self, m2m: M2MTracked, source: str, ids: Sequence[int]) -> None:
        """Links ``l`` of ``source`` for the new entries ``n`` of ``ids``."""
        if not ids:
            return
        links: Any = m2m.history_model
        own = _own_values(links, [*(f.name for f in m2m.through._meta.concrete_fields), "history"])
        marks, given = self.marks(links, own)
        columns = [self.quote(f.column) for f in m2m.through._meta.concrete_fields]
        into = [*columns, "history_id", *(self.quote(links._meta.get_field(name).column) for name in own)]
        values = [*(f"l.{column}" for column in columns), "n.history_id", *marks]
        self.run(
            f"INSERT INTO {self.quote(links._meta.db_table)} ({', '.join(into)}) "
            f"SELECT {', '.join(values)} FROM {source} "
            f"WHERE n.history_id IN ({', '.join(['%s'] * len(ids))})",
            [*given, *ids],
        )


def _own_values(model: Any, known: Sequence[str]) -> dict[str, Any]:
    """The defaults of columns that the team's own bases bring; those without one stay null, as far as they may."""
    return {
        f.name: value
        for f in model._meta.concrete_fields
        if not (f.primary_key or f.generated or f.name in known)
        and f.db_default is NOT_PROVIDED
        and (value := f.get_default()) is not None
    }


def _column(model: Any, attname: str) -> str:
    return next(str(f.column) for f in model._meta.concrete_fields if f.attname == attname)
