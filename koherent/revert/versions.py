"""History rows as planning needs them, read in batches."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from koherent import diff, runs
from koherent.errors import NotFound
from koherent.registry import TrackedModel
from koherent.revert.links import read_links
from koherent.revert.values import BATCH, Name, all_rows, batches, writable


@dataclass(eq=False, slots=True)
class Version:
    """One history row: what it still knows of its object. ``values`` has each link as (field, key) -> what it says."""

    id: int
    pk: Any
    action: str
    known: frozenset[str]
    values: dict[Name, Any]

    def fields(self) -> dict[str, Any]:
        """The values of the concrete fields."""
        return {name: value for name, value in self.values.items() if isinstance(name, str)}

    def links(self) -> dict[str, dict[Any, Any]]:
        """The links of the many-to-many fields that it knows."""
        found: dict[str, dict[Any, Any]] = {}
        for name, value in self.values.items():
            if not isinstance(name, str):
                found.setdefault(name[0], {})[name[1]] = value
        return found


def in_assignation(tracked: TrackedModel, assignation_id: str) -> models.Q:
    """The condition that gives an assignation's entries of a model."""
    return runs.having(tracked, DEFAULT_DB_ALIAS, models.Q(assignation_id=assignation_id))


class Versions:
    """Reads the history rows of one model."""

    def __init__(self, tracked: TrackedModel) -> None:
        self.tracked = tracked
        self.fields = writable(tracked)
        self._names: list[str] = [f.name for f in self.fields]
        self.columns = ["history_id", tracked.pk_attname, "history_type", "field_set", "metadata"]
        self.columns += [f.attname for f in self.fields]
        self._known: dict[int | None, frozenset[str]] = {}

    @property
    def rows(self) -> Any:
        """All history rows of the model."""
        return all_rows(self.tracked.history_model)

    def read(self, ids: Iterable[int]) -> dict[int, Version]:
        """Rows by history id."""
        found: dict[int, Version] = {}
        for batch in batches(ids):
            rows = self.rows.filter(pk__in=batch).order_by()
            found.update((row[0], self.version(row)) for row in rows.values_list(*self.columns))
        self._add_links(found)
        return found

    def one(self, history_id: int) -> Version:
        """One row. Raises ``NotFound``."""
        found = self.read([history_id]).get(history_id)
        if found is None:
            raise NotFound("No such entry.")
        return found

    def batches_of(self, assignation_id: str) -> Iterator[list[int]]:
        """The history ids of an assignation's entries, those of one object together, so many objects at a time."""
        own = self.rows.filter(in_assignation(self.tracked, assignation_id)).order_by()
        batch: list[int] = []
        last, objects = None, 0
        for pk, history_id in sorted(own.values_list(self.tracked.pk_attname, "pk")):
            if pk != last:
                if objects == BATCH:
                    yield batch
                    batch, objects = [], 0
                last, objects = pk, objects + 1
            batch.append(history_id)
        yield batch

    def of_assignation(
        self, assignation_id: str, ids: Sequence[int] | None
    ) -> tuple[dict[Any, list[Version]], dict[int, Version]]:
        """An assignation's entries by object, oldest first, and the entry before each of them, by the entry's id.

        ``ids`` names some of its entries; None: all.
        """
        before = self.rows.filter(
            **{self.tracked.pk_attname: models.OuterRef(self.tracked.pk_attname)},
            history_id__lt=models.OuterRef("history_id"),
        )
        own = self.rows.filter(in_assignation(self.tracked, assignation_id) if ids is None else models.Q(pk__in=ids))
        own = own.annotate(koherent_before=models.Subquery(before.order_by("-history_id").values("history_id")[:1]))
        objects: dict[Any, list[Version]] = {}
        versions: dict[int, Version] = {}
        befores: dict[int, int] = {}
        for *row, prior in own.order_by("history_id").values_list(*self.columns, "koherent_before"):
            version = versions[row[0]] = self.version(row)
            objects.setdefault(version.pk, []).append(version)
            if prior is not None:
                befores[version.id] = prior
        self._add_links(versions)
        others = self.read(set(befores.values()) - versions.keys())
        previous = {id: versions.get(prior) or others[prior] for id, prior in befores.items()}
        return objects, previous

    def after(self, pks: Iterable[Any], floor: int) -> list[Version]:
        """The rows of these objects above a history id, oldest first within each batch."""
        found: dict[int, Version] = {}
        for batch in batches(pks):
            rows = self.rows.filter(**{f"{self.tracked.pk_attname}__in": batch}, history_id__gt=floor)
            found.update((r[0], self.version(r)) for r in rows.order_by("history_id").values_list(*self.columns))
        self._add_links(found)
        return list(found.values())

    def newest(self, pks: Iterable[Any]) -> dict[Any, int]:
        """The newest history id of each object."""
        found: dict[Any, int] = {}
        for batch in batches(pks):
            rows = self.rows.filter(**{f"{self.tracked.pk_attname}__in": batch}).order_by()
            found.update(dict(rows.values_list(self.tracked.pk_attname).annotate(models.Max("history_id"))))
        return found

    def version(self, row: Sequence[Any]) -> Version:
        """From the values of ``columns``, without links."""
        known = self._known_names(row[3], row[4])
        values: dict[Name, Any] = dict(zip(self._names, row[5:], strict=True))
        if not known.issuperset(self._names):
            values = {name: value for name, value in values.items() if name in known}
        return Version(row[0], row[1], row[2], known, values)

    def _known_names(self, field_set: int | None, metadata: Any) -> frozenset[str]:
        """The fields whose values the row still holds: the model had them, and they were not erased."""
        if field_set not in self._known:
            self._known[field_set] = self.tracked.field_names(SimpleNamespace(field_set=field_set))
        known = self._known[field_set]
        return known - diff.erased_fields(SimpleNamespace(metadata=metadata)) if metadata else known

    def _add_links(self, versions: dict[int, Version]) -> None:
        for m2m in self.tracked.m2m if versions else ():
            for batch in batches(versions):
                rows = all_rows(m2m.history_model).filter(history_id__in=batch)
                for history_id, links in read_links(m2m, rows, "history_id").items():
                    version = versions[history_id]
                    if m2m.name in version.known:
                        version.values.update({(m2m.name, target): value for target, value in links.items()})
