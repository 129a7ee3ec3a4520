"""What refers to a deleted object, and may be without, lets go of it: a step like any other, shown and recorded."""

from collections.abc import Mapping, Sequence
from typing import Any

from koherent import registry
from koherent.registry import TrackedModel
from koherent.revert.authorise import Guard
from koherent.revert.live import read_live
from koherent.revert.references import Referrers
from koherent.revert.steps import NO_SOURCE, Columns, ColumnSets, ObjectKey, Planned
from koherent.revert.uniques import unique_values, written_uniques
from koherent.revert.values import concrete, value_of, writable
from koherent.revert.versions import Versions


def nulling_steps(steps: Sequence[Planned], referrers: Referrers, guard: Guard, lock: bool) -> list[Planned]:
    """The steps of other objects that the deletions among ``steps`` need; those that change anyway change more."""
    by_key = {step.key: step for step in steps}
    found: list[Planned] = []
    for tracked, rows in _wanted(steps, referrers, by_key).items():
        model = concrete(tracked.model)
        sets = ColumnSets(writable(tracked))
        live = read_live(tracked, sorted(rows), lock)
        fresh = []
        for pk, causes in rows.items():
            if pk not in live.rows:
                continue  # gone meanwhile
            row = live.rows[pk]
            step = by_key.get((model, pk))
            if step is None:
                step = Planned(tracked, pk, "~", Columns(()), (), (), guard.label(tracked, row))
                fresh.append(step)
            _let_go(step, row, frozenset(causes), sets)
            step.causes = frozenset().union(*causes.values())
        newest = Versions(tracked).newest([step.pk for step in fresh])
        guard.check(tracked, {history_id: pk for pk, history_id in newest.items()}, fresh)
        found += fresh
    return found


def _wanted(
    steps: Sequence[Planned], referrers: Referrers, by_key: Mapping[ObjectKey, Planned]
) -> dict[TrackedModel, dict[Any, dict[str, set[ObjectKey]]]]:
    """Tracked model -> key of a referring row -> foreign key -> the deletions that it stands in the way of."""
    wanted: dict[TrackedModel, dict[Any, dict[str, set[ObjectKey]]]] = {}
    for step in steps:
        if step.action != "-":
            continue
        for relation, pk in referrers.left(step, by_key):
            tracked = registry.for_model(relation.model)
            if relation.nulled and tracked is not None:
                rows = wanted.setdefault(tracked, {})
                rows.setdefault(pk, {}).setdefault(relation.field.name, set()).add(step.key)
    return wanted


def _let_go(step: Planned, row: Any, names: frozenset[str], sets: ColumnSets) -> None:
    """Make some foreign keys null, besides what the step does anyway."""
    fields = step.columns.fields
    now = dict(zip((f.name for f in fields), step.now or (), strict=True))
    then = dict(zip((f.name for f in fields), step.then or (), strict=True))
    sources = dict(zip((f.name for f in fields), step.sources, strict=True))
    columns = sets.of(step.columns.names | names)
    for f in columns.fields:
        if f.name in names:
            now[f.name], then[f.name], sources[f.name] = value_of(row, f), None, NO_SOURCE
        setattr(row, f.attname, then[f.name])
    step.columns = columns
    step.now = tuple(now[f.name] for f in columns.fields)
    step.then = tuple(then[f.name] for f in columns.fields)
    step.sources = tuple(sources[f.name] for f in columns.fields)
    step.uniques = unique_values(row, written_uniques(concrete(step.tracked.model), columns.index))
