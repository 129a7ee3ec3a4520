"""Constraints that only the database can weigh: checks, and unique ones with conditions or expressions."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, models

from koherent.registry import TrackedModel
from koherent.revert.live import instances
from koherent.revert.steps import Planned
from koherent.revert.types import Conflict, ConflictCode
from koherent.revert.uniques import is_plain


def check(active: Sequence[Planned]) -> None:
    """Note on each step which constraints its values break."""
    by_model: dict[TrackedModel, list[Planned]] = {}
    for step in active:
        if step.then is not None and step.columns.fields and special(step.tracked.model):
            by_model.setdefault(step.tracked, []).append(step)
    for tracked, steps in by_model.items():
        for step, instance in instances(tracked, steps):
            for constraint in special(tracked.model):
                _validate(step, instance, constraint)


def special(model: type[models.Model]) -> list[Any]:
    """The constraints of a model that are more than some fields unique together."""
    return [constraint for constraint in model._meta.constraints if not is_plain(constraint)]


def _validate(step: Planned, instance: Any, constraint: Any) -> None:
    try:
        constraint.validate(step.tracked.model, instance, using=DEFAULT_DB_ALIAS)
    except ValidationError as error:
        taken = isinstance(constraint, models.UniqueConstraint)
        code = ConflictCode.UNIQUE_TAKEN if taken else ConflictCode.INVALID
        step.add(Conflict(code=code, message=" ".join(error.messages)))
