"""Values that must be unique: who holds them, and who gets them."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from django.db import models

from koherent.revert.steps import NOTHING, Planned
from koherent.revert.types import Conflict, ConflictCode
from koherent.revert.values import Model, all_rows, batches, concrete

#: The attributes that are unique together.
Unique = tuple[str, ...]
#: Makes a conflict point at the newest entry of the rows of a model.
Pointing = Callable[[Planned, Conflict, Model, set[Any]], None]


@cache
def unique_sets(model: Model) -> tuple[Unique, ...]:
    """The attributes of each plain unique field, ``unique_together`` and unconditional ``UniqueConstraint``."""
    meta: Any = model._meta
    sets: list[Unique] = [(f.attname,) for f in meta.concrete_fields if f.unique and not f.primary_key]
    names = [*meta.unique_together, *(c.fields for c in meta.constraints if is_plain(c))]
    return tuple(sets + [tuple(str(meta.get_field(name).attname) for name in group) for group in names])


def is_plain(constraint: Any) -> bool:
    """Whether a constraint says only that some fields are unique together."""
    return (
        isinstance(constraint, models.UniqueConstraint)
        and bool(constraint.fields)
        and constraint.condition is None
        and constraint.nulls_distinct is not False
    )


def written_uniques(model: Model, written: Iterable[str] | None) -> tuple[Unique, ...]:
    """Those unique sets that a step writes; ``written`` None: it writes all."""
    sets = unique_sets(model)
    if written is None or not sets:
        return sets
    attnames = set(written)
    return tuple(unique for unique in sets if attnames.intersection(unique))


def unique_values(row: Any, uniques: Sequence[Unique]) -> Mapping[Unique, tuple[Any, ...]]:
    """``Planned.uniques`` of a step whose object will be ``row``."""
    return {unique: _hashable(getattr(row, name) for name in unique) for unique in uniques} if uniques else NOTHING


class Uniques:
    """The holders of the values that the steps write."""

    def __init__(self, steps: Sequence[Planned]) -> None:
        self._holders: dict[tuple[Model, Unique], dict[Any, set[Any]]] = {}
        self._vacating: dict[tuple[Model, Unique], set[Any]] = defaultdict(set)
        wanted: dict[tuple[Model, Unique], set[Any]] = defaultdict(set)
        for step in steps:
            for unique, value in _gets(step):
                wanted[concrete(step.tracked.model), unique].add(value)
        for (model, unique), values in wanted.items():
            held: dict[Any, set[Any]] = defaultdict(set)
            for batch in batches(list(values)):
                among = {f"{name}__in": {value[i] for value in batch} for i, name in enumerate(unique)}
                for pk, *value in all_rows(model).filter(**among).order_by().values_list("pk", *unique):
                    key = _hashable(value)
                    if key in values:
                        held[key].add(pk)
            self._holders[model, unique] = held

    def conflicts(self, active: Sequence[Planned], by_key: Mapping[Any, Planned], point: Pointing) -> None:
        """Point out values that another row holds, or that two steps write."""
        self._vacating.clear()
        counts: dict[tuple[Model, Unique, Any], int] = defaultdict(int)
        for step in active:
            for unique, value in _gets(step):
                counts[concrete(step.tracked.model), unique, value] += 1
        for step in active:
            model = concrete(step.tracked.model)
            for unique, value in _gets(step):
                holders = self._holders[model, unique].get(value, set()) - {step.pk}
                leaving = {pk for pk in holders if _leaves(by_key.get((model, pk)), unique, value)}
                in_time = {pk for pk in leaving if step.action == "+" and by_key[model, pk].action == "-"}
                if leaving - in_time:
                    self._vacating[model, unique] |= leaving - in_time
                holders -= leaving
                if not holders and counts[model, unique, value] < 2:
                    continue
                names = tuple(f.name for f in model._meta.concrete_fields if f.attname in unique)
                conflict = Conflict(
                    code=ConflictCode.UNIQUE_TAKEN,
                    message=f"The value of {', '.join(names)} is taken by another {model._meta.verbose_name}.",
                    fields=names,
                )
                point(step, conflict, model, holders)

    @property
    def vacated(self) -> list[tuple[Model, Unique, set[Any]]]:
        """Unique values that another step gets: the model, the attributes, and the keys of who holds them now."""
        return [(model, unique, pks) for (model, unique), pks in self._vacating.items()]


def _gets(step: Planned) -> Iterator[tuple[Unique, Any]]:
    for unique, after in step.uniques.items():
        # What holds a null is unique already.
        if None not in after:
            yield unique, after


def _leaves(other: Planned | None, unique: Unique, value: Any) -> bool:
    if other is None or other.action == "-":
        return other is not None
    return unique in other.uniques and other.uniques[unique] != value


def _hashable(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(repr(v) if isinstance(v, (dict, list)) else v for v in values)
