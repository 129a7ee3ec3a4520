"""Small helpers that planning and writing share: values, keys and batches."""

import datetime as dt
import decimal
import uuid
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, TypeAlias

from django.db import DEFAULT_DB_ALIAS, models
from django.db.models.fields.files import FieldFile

from koherent import diff
from koherent.registry import TrackedModel

#: A field's name, or one link of a many-to-many field: (the field's name, the key of the other side).
Name: TypeAlias = str | tuple[str, Any]
Model: TypeAlias = type[models.Model]

#: So many objects, or keys, in one statement.
BATCH = 2_000


class _Absent:
    """The value of every field of an object that does not exist."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()

_PLAIN = frozenset(
    {bool, bytes, decimal.Decimal, dt.date, dt.datetime, dt.time, dt.timedelta, float, int, str, uuid.UUID}
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; ABSENT equals nothing else."""
    if one is other:
        return True
    kind = type(one)
    if kind is type(other) and kind in _PLAIN:
        return bool(one == other)
    if one is ABSENT or other is ABSENT:
        return False
    if kind is type(other) and not one and not other:
        return True  # empty dictionaries and lists, of which there are many
    return diff.same(one, other)


def base_name(name: Name) -> str:
    """The field that a name is about."""
    return name if isinstance(name, str) else name[0]


def value_of(row: Any, model_field: Any) -> Any:
    """A field's stored value; a file is its path."""
    value = getattr(row, model_field.attname)
    return (value.name or "") if isinstance(value, FieldFile) else value


def concrete(model: Model) -> Model:
    """The model whose table it is."""
    found = model._meta.concrete_model
    return model if found is None else found


def all_rows(model: Model) -> Any:
    """All rows, whatever the model's own managers hide."""
    return model._base_manager.using(DEFAULT_DB_ALIAS)


def batches(items: Iterable[Any], size: int = BATCH) -> Iterator[list[Any]]:
    """Lists of at most ``size``."""
    everything = items if isinstance(items, list) else list(items)
    for start in range(0, len(everything), size):
        yield everything[start : start + size]


@cache
def writable(tracked: TrackedModel) -> tuple[Any, ...]:
    """The tracked fields that a revert may write."""
    pk = tracked.model._meta.pk
    return tuple(f for f in tracked.fields if f is not pk and not getattr(f, "generated", False))


def automatic(model_field: Any) -> bool:
    """Whether the field says when the row was last saved."""
    return bool(getattr(model_field, "auto_now", False))


def stamped(model_field: Any) -> bool:
    """Whether the field sets itself when a row is inserted."""
    return automatic(model_field) or bool(getattr(model_field, "auto_now_add", False))
