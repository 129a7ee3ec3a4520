"""The model's own validation; the database's part of it is checked in sets elsewhere."""

from collections.abc import Sequence
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models

from koherent.registry import TrackedModel
from koherent.revert.live import built, instances
from koherent.revert.steps import Columns, Planned
from koherent.revert.types import Conflict, ConflictCode
from koherent.revert.values import Model, concrete


def field_errors(row: Any, columns: Columns) -> tuple[Conflict, ...]:
    """What ``clean_fields()`` says about the fields that are written; whether keys exist is checked elsewhere."""
    written = {f.name for f in columns.fields if f.remote_field is None}
    if not written:
        return ()
    try:
        row.clean_fields(exclude={f.name for f in row._meta.concrete_fields} - written)
    except ValidationError as error:
        return (_conflict(error),)
    return ()


def check_clean(steps: Sequence[Planned]) -> None:
    """Note on each step what its model's own ``clean()`` says."""
    by_model: dict[TrackedModel, list[Planned]] = {}
    created: dict[tuple[Model, Any], Planned] = {}
    for step in steps:
        if step.then is not None and step.tracked.model.clean is not models.Model.clean:
            by_model.setdefault(step.tracked, []).append(step)
    if not by_model:
        return
    for step in steps:
        if step.action == "+":
            created[step.key] = step
    for tracked, own in by_model.items():
        foreign: list[Any] = [f for f in tracked.fields if f.remote_field is not None]
        for step, instance in instances(tracked, own):
            for key in foreign:
                # What the same plan creates is not in the database yet, where clean() would look for it.
                target = created.get((concrete(key.remote_field.model), getattr(instance, key.attname)))
                if target is not None and key.target_field.primary_key:
                    key.set_cached_value(instance, built(target))
            try:
                instance.clean()
            except ValidationError as error:
                step.add(_conflict(error))


def _conflict(error: ValidationError) -> Conflict:
    found: dict[str, list[Any]] = error.update_error_dict({})
    messages = [str(message) for errors in found.values() for one in errors for message in one.messages]
    names = tuple(sorted(name for name in found if name != "__all__"))
    return Conflict(code=ConflictCode.INVALID, message=" ".join(messages), fields=names)
