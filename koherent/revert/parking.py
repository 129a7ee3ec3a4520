"""Unique values may move within a plan: who holds what another one gets lets go of it first."""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, models

from koherent.registry import TrackedModel
from koherent.revert.steps import Planned
from koherent.revert.uniques import unique_sets
from koherent.revert.values import all_rows, concrete


def park(tracked: TrackedModel, steps: Sequence[Planned], creations: Sequence[Planned]) -> None:
    """Give the rows that stand in the way of others of the same plan a value that nobody holds, for the moment."""
    model = concrete(tracked.model)
    for unique in unique_sets(model):
        moving = [step for step in steps if unique in step.uniques]
        if not moving:
            continue
        gets = {step.uniques[unique][1]: step for step in [*moving, *creations] if unique in step.uniques}
        lets = [step for step in moving if gets.get(step.uniques[unique][0], step) is not step]
        for f in (f for f in model._meta.concrete_fields if f.attname in unique):
            parked = [step for step in lets if f.name in step.columns.names]
            if parked:
                _move_away(tracked, f, parked)
            lets = [step for step in lets if f.name not in step.columns.names]


def _move_away(tracked: TrackedModel, model_field: Any, steps: Sequence[Planned]) -> None:
    objects = []
    for step in steps:
        instance = tracked.model(**{tracked.pk_attname: step.pk})
        setattr(instance, model_field.attname, None if model_field.null else _placeholder(model_field))
        objects.append(instance)
    all_rows(tracked.model).bulk_update(objects, [model_field.name], batch_size=500)


def _placeholder(model_field: Any) -> Any:
    """A value that nobody holds."""
    target = model_field.target_field if model_field.remote_field is not None else model_field
    kind = target.get_internal_type()
    if kind == "UUIDField":
        return uuid.uuid4()
    if isinstance(target, (models.CharField, models.TextField)):
        return uuid.uuid4().hex[: target.max_length]
    if isinstance(target, models.IntegerField):
        _low, high = connections[DEFAULT_DB_ALIAS].ops.integer_field_range(kind)
        top = 2**31 - 1 if high is None else high
        return random.randint(top // 2, top)
    if isinstance(target, models.DateTimeField):
        return datetime.fromordinal(random.randint(1, 600_000)).replace(tzinfo=UTC)
    if isinstance(target, models.DateField):
        return date.fromordinal(random.randint(1, 600_000))
    if isinstance(target, models.DecimalField):
        top = 10 ** (target.max_digits - target.decimal_places)
        return target.to_python(random.randint(top // 10, top - 1))
    if isinstance(target, models.FloatField):
        return random.random() * 1e300
    raise IntegrityError(f"{model_field} cannot be parked")
