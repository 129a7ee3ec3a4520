"""Unique values may move within a plan: who holds what another one gets, lets go of it first."""

import random
import uuid
from collections.abc import Sequence
from datetime import UTC, date, datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, models

from koherent.registry import TrackedModel
from koherent.revert.steps import Planned
from koherent.revert.uniques import Unique
from koherent.revert.values import all_rows, batches, concrete


def park(tracked: TrackedModel, unique: Unique, steps: Sequence[Planned]) -> list[Planned]:
    """The steps' rows get a value that nobody holds, for the moment; returns those that have no field for one."""
    left = list(steps)
    for f in (f for f in concrete(tracked.model)._meta.concrete_fields if f.attname in unique):
        parked = [step for step in left if f.attname in step.columns.index]
        if parked and (f.null or _placeholder(f) is not None):
            _move_away(tracked, f, parked)
            left = [step for step in left if f.attname not in step.columns.index]
    return left


def _move_away(tracked: TrackedModel, model_field: Any, steps: Sequence[Planned]) -> None:
    for batch in batches(list(steps)):
        objects = []
        for step in batch:
            instance = tracked.model(**{tracked.pk_attname: step.pk})
            setattr(instance, model_field.attname, None if model_field.null else _placeholder(model_field))
            objects.append(instance)
        all_rows(tracked.model).bulk_update(objects, [model_field.name], batch_size=500)


def _placeholder(model_field: Any) -> Any:
    """A value that nobody holds; None for kinds of fields that are too small for one."""
    target = model_field.target_field if model_field.remote_field is not None else model_field
    kind = target.get_internal_type()
    if kind == "UUIDField":
        return uuid.uuid4()
    if isinstance(target, (models.CharField, models.TextField)):
        size = target.max_length or 32
        # A short text needs an alphabet that nobody uses up.
        return uuid.uuid4().hex if size >= 32 else "".join(chr(random.randint(0x4E00, 0x9FFF)) for _ in range(size))
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
    return None
