"""The objects as they are now."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from koherent.registry import M2MTracked, TrackedModel
from koherent.revert.links import read_links
from koherent.revert.steps import Planned
from koherent.revert.values import all_rows, batches


@dataclass(eq=False)
class Live:
    """Rows by key, and links: key -> many-to-many field -> key of the other side -> what the link says."""

    rows: dict[Any, Any]
    links: dict[Any, dict[str, dict[Any, Any]]]


def read_live(tracked: TrackedModel, pks: Sequence[Any], lock: bool) -> Live:
    """Read objects and their links; ``lock`` keeps others from changing the rows until the transaction ends."""
    lock = lock and connections[DEFAULT_DB_ALIAS].features.has_select_for_update
    rows: dict[Any, Any] = {}
    links: dict[Any, dict[str, dict[Any, Any]]] = {pk: {m.name: {} for m in tracked.m2m} for pk in pks}
    for batch in batches(pks):
        for m2m in tracked.m2m if lock else ():
            # In the order in which Django deletes: links, then their owners.
            list(_links(m2m, batch).order_by("pk").select_for_update().values_list("pk"))
        queryset = all_rows(tracked.model).filter(pk__in=batch).order_by("pk")
        rows.update((row.pk, row) for row in (queryset.select_for_update(of=("self",)) if lock else queryset))
        for m2m in tracked.m2m:
            for source, own in read_links(m2m, _links(m2m, batch), m2m.source_attname).items():
                links[source][m2m.name] = own
    return Live(rows, links)


def _links(m2m: M2MTracked, owners: Sequence[Any]) -> Any:
    return all_rows(m2m.through).filter(**{f"{m2m.source_attname}__in": owners})


def built(step: Planned) -> Any:
    """The object that a step creates, as it will be."""
    return _filled(step.tracked.model(**{step.tracked.pk_attname: step.pk}), step)


def instances(tracked: TrackedModel, steps: Sequence[Planned]) -> Iterator[tuple[Planned, Any]]:
    """Each step with its object as it will be, of a deletion as it is; read in batches, and let go of."""
    for batch in batches(list(steps)):
        here = {row.pk: row for row in all_rows(tracked.model).filter(pk__in=[s.pk for s in batch if s.action != "+"])}
        for step in batch:
            if step.action == "+":
                yield step, built(step)
            elif step.pk in here:
                yield step, _filled(here[step.pk], step)


def _filled(instance: Any, step: Planned) -> Any:
    instance._state.db = DEFAULT_DB_ALIAS
    if step.then is not None:
        for f, value in zip(step.columns.fields, step.then, strict=True):
            setattr(instance, f.attname, value)
    return instance
