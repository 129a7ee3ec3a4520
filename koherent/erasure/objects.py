"""Wipes values of one object from all of its history."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, models, transaction

from koherent import diff, locks, recorder, registry
from koherent.context import erasure_audit
from koherent.erasure.entries import write_entry
from koherent.erasure.values import WithMarkers, empty_value
from koherent.errors import BadInput, NotFound
from koherent.registry import M2MTracked, TrackedModel

BATCH = 5_000

logger = logging.getLogger("koherent")


@dataclass(frozen=True, kw_only=True)
class ErasureReport:
    """What an erasure did: ``entries`` that lost values, ``links``: their many-to-many rows that went.

    ``fields`` are the names of what was wiped; ``history_id`` is the erasure's own entry, None in a dry run.
    """

    label: str
    object_id: str
    fields: tuple[str, ...]
    entries: int
    links: int
    history_id: int | None


def erase(
    instance: models.Model,
    fields: Iterable[str] | None = None,
    *,
    live: bool = False,
    reason: str | None = None,
    dry_run: bool = False,
    using: str = DEFAULT_DB_ALIAS,
) -> ErasureReport:
    """Wipe the values of ``fields`` (names; None: all but the primary key) from every history row of an object.

    What changed when, and by whom, stays; no diff, revert or verification takes the empty values for real ones. The
    erasure itself is an entry, attributed to the context in force. ``live`` wipes the object's row too, which is left
    alone otherwise. Of ``instance`` only the key is used: for an object that is gone, ``Model(pk=key)`` will do.
    One transaction: all of it, or nothing. Raises ``BadInput`` and, for an object without history, ``NotFound``.
    """
    tracked = registry.for_model(type(instance))
    if tracked is None:
        raise BadInput(f"{instance._meta.label} is not tracked.")
    names = _names(tracked, fields)
    pk = getattr(instance, tracked.pk_attname)
    erasure = _Erasure(tracked, using, pk, names, live)
    with transaction.atomic(using=using):
        if not dry_run:
            # A revert that has read these values is done with them first. No row stands for an object that is gone.
            locks.hold(connections[using], locks.erasing(tracked.label))
        if not erasure.history.exists():
            raise NotFound(f"{tracked.label} {pk} has no history.")
        if not dry_run:
            with erasure_audit(reason):
                erasure.begin()
            erasure.wipe()
    entries, links = (erasure.history.count(), erasure.count_links()) if dry_run else (erasure.entries, erasure.links)
    if not dry_run:
        logger.info("erased %s of %s %s", ", ".join(names), tracked.label, pk)
    return ErasureReport(
        label=tracked.label,
        object_id=str(pk),
        fields=names,
        entries=entries,
        links=links,
        history_id=erasure.entry,
    )


def _names(tracked: TrackedModel, fields: Iterable[str] | None) -> tuple[str, ...]:
    possible = [f.name for f in tracked.fields if not f.primary_key] + [m.name for m in tracked.m2m]
    if fields is None:
        return tuple(possible)
    wanted = set([fields] if isinstance(fields, str) else fields)
    unknown = sorted(wanted.difference(possible))
    if unknown or not wanted:
        raise BadInput(f"Of {tracked.label} can be erased: {', '.join(possible)}; not: {', '.join(unknown)}.")
    return tuple(name for name in possible if name in wanted)


class _Erasure:
    """One erasure while it is done."""

    def __init__(self, tracked: TrackedModel, using: str, pk: Any, names: tuple[str, ...], live: bool) -> None:
        self.tracked, self.using, self.pk, self.live = tracked, using, pk, live
        self.names = frozenset(names)
        self.fields: list[Any] = [f for f in tracked.fields if f.name in self.names]
        self.m2m = [m for m in tracked.m2m if m.name in self.names]
        columns: list[Any] = [tracked.history_model._meta.get_field(f.name) for f in self.fields]
        self.empty = {column.name: empty_value(column) for column in columns}
        self.empty_live = {f.name: _empty_live(f) for f in self.fields} if live else {}
        self.entry: int | None = None
        self.entries = self.links = 0

    @property
    def history(self) -> Any:
        """The object's entries."""
        every = self.tracked.history_model._base_manager.using(self.using)
        return every.filter(**{self.tracked.pk_attname: self.pk})

    def begin(self) -> None:
        """The erasure's own entry, written while nobody else can write to the object."""
        row = self.tracked.model._base_manager.using(self.using).filter(pk=self.pk)
        connection = connections[self.using]
        locked = row.select_for_update() if connection.features.has_select_for_update else row
        if list(locked.values_list("pk")) and self.live:
            self._wipe_live(row)
        self.entry = write_entry(self.tracked, self.using, self.pk)

    def _wipe_live(self, row: Any) -> None:
        with recorder.suspended():
            if self.empty_live:
                row.update(**self.empty_live)
            for m2m in self.m2m:
                m2m.through._base_manager.using(self.using).filter(**{m2m.source_attname: self.pk}).delete()

    def wipe(self) -> None:
        """Go through the entries, oldest first, and wipe."""
        last, before = 0, None
        while rows := self._read(last):
            groups: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
            for row in rows:
                groups.setdefault(row.markers(before, self.names), []).append(row.history_id)
                before = row
            for (erased, changed), ids in groups.items():
                markers = {diff.ERASED: list(erased), diff.ERASED_CHANGES: list(changed)}
                self.entries += self.history.filter(pk__in=ids).update(**self.empty, metadata=WithMarkers(markers))
            last = rows[-1].history_id
            for m2m in self.m2m:
                self.links += self._links(m2m, [row.history_id for row in rows]).delete()[0]

    def _read(self, last: int) -> "list[_Row]":
        attnames = [f.attname for f in self.fields]
        columns = ("history_id", "history_type", "field_set", "metadata", *attnames)
        found = self.history.filter(history_id__gt=last).order_by("history_id").values_list(*columns)[:BATCH]
        rows = [self._row(*values) for values in found]
        by_id = {row.history_id: row for row in rows}
        for m2m in self.m2m:
            for row in rows:
                if m2m.name in row.known:
                    row.values[m2m.name] = set()
            links = self._links(m2m, list(by_id)).values_list("history_id", m2m.target_attname)
            for history_id, target in links:
                by_id[history_id].values.setdefault(m2m.name, set()).add(target)
        return rows

    def _row(self, history_id: int, action: str, field_set: int | None, metadata: Any, *values: Any) -> "_Row":
        known = self.tracked.field_names(SimpleNamespace(field_set=field_set))
        named = {f.name: value for f, value in zip(self.fields, values, strict=True) if f.name in known}
        return _Row(history_id, action, metadata, known, named)

    def _links(self, m2m: M2MTracked, ids: Sequence[int]) -> Any:
        return m2m.history_model._base_manager.using(self.using).filter(history_id__in=ids)

    def count_links(self) -> int:
        """How many many-to-many rows would go."""
        ids = self.history.values("history_id")
        return sum(self._links(m2m, ids).count() for m2m in self.m2m)


@dataclass(frozen=True)
class _Row:
    history_id: int
    action: str
    metadata: Any
    known: frozenset[str]
    values: dict[str, Any]

    def markers(self, before: "_Row | None", names: frozenset[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What the row's markers have to list: fields that are erased, and those of them that the entry changed."""
        row = SimpleNamespace(metadata=self.metadata)
        erased = diff.erased_fields(row) | (names & self.known)
        changed = diff.erased_changes(row) | set(self._moved(before))
        return tuple(sorted(erased)), tuple(sorted(changed))

    def _moved(self, before: "_Row | None") -> Iterator[str]:
        gone = diff.erased_fields(SimpleNamespace(metadata=self.metadata))
        earlier = frozenset() if before is None else diff.erased_fields(SimpleNamespace(metadata=before.metadata))
        for name, value in self.values.items():
            if name in gone:
                continue
            if self.action != "~":
                moved = value is not None and value != set()
            else:
                known = before is not None and name in before.values and name not in earlier
                moved = known and not diff.same(before.values[name], value)  # type: ignore[union-attr]
            if moved:
                yield name


def _empty_live(field: Any) -> Any:
    if not field.null and (field.unique or field.is_relation):
        raise BadInput(f"{field.name} of the live row can be neither null nor empty: change it yourself, then erase.")
    return empty_value(field)
