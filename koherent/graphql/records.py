"""The concrete types of every tracked model: ``DatasetHistory`` and ``DatasetRecord`` for ``Dataset``."""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NewType

import strawberry
from django.db import models
from strawberry.annotation import StrawberryAnnotation
from strawberry.scalars import JSON
from strawberry.types.union import StrawberryUnion
from strawberry_django.fields.types import field_type_map

from koherent import registry
from koherent.diff import to_json
from koherent.graphql.enums import choices_enum
from koherent.graphql.types import HistoryEntry
from koherent.registry import TrackedModel

Convert = Callable[[Any], Any]

MAX_INT = 2**31


@cache
def history_type(tracked: TrackedModel) -> type[Any]:
    """The type of a model's entries, made once, so that any number of schemas share it."""
    record_type, convert = _record_type(tracked)

    def record(self: Any) -> Any:
        return convert(self.entry.values)

    record.__annotations__ = {"return": record_type}
    name = f"{tracked.type_name}History"
    namespace = {
        "__module__": __name__,
        "__annotations__": {},
        "record": strawberry.field(resolver=record, description="The values of `snapshot`, typed."),
    }
    description = f"One row of the history of a {tracked.model._meta.verbose_name}."
    return strawberry.type(type(name, (HistoryEntry,), namespace), name=name, description=description)


def _record_type(tracked: TrackedModel) -> tuple[type[Any], Convert]:
    annotations: dict[str, Any] = {"pk": strawberry.ID | None}
    descriptions: dict[str, str] = {"pk": "Primary key of the object, as text."}
    converters: dict[str, Convert] = {}
    for field in tracked.fields:
        if field.primary_key:
            continue
        name = str(field.attname)
        kind, converters[name] = _scalar(field)
        annotations[name] = kind | None
        descriptions[name] = str(field.help_text or field.verbose_name)
    for link in tracked.m2m:
        annotations[link.name] = list[strawberry.ID] | None
        descriptions[link.name] = str(link.field.help_text or link.field.verbose_name)
        converters[link.name] = _keys
    namespace: dict[str, Any] = {"__module__": __name__, "__annotations__": annotations}
    for name, description in descriptions.items():
        namespace[name] = strawberry.field(description=description, default=None)
    name = f"{tracked.type_name}Record"
    made = strawberry.type(
        type(name, (), namespace),
        name=name,
        description=f"The values of a {tracked.model._meta.verbose_name} at one time. A field is null where it is "
        "hidden from the caller, was erased, where the model did not have it yet, and where its type cannot hold the "
        "value; `snapshot` has that value.",
    )

    def convert(values: dict[str, Any]) -> Any:
        given = {
            name: None if values.get(name) is None else converter(values[name])
            for name, converter in converters.items()
        }
        key = values.get(tracked.pk_attname)
        return made(pk=None if key is None else str(key), **given)

    return made, convert


def _same(value: Any) -> Any:
    return value


def _number(value: Any) -> Any:
    """The number, or None where GraphQL's Int or Float cannot hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if -MAX_INT <= value < MAX_INT else None


def _member(choices: Any, value: Any) -> Any:
    """The member of an enum, or None for a value that it no longer has."""
    try:
        return choices(value)
    except ValueError:
        return None


def _keys(values: Any) -> list[str]:
    return [str(value) for value in values]


def _scalar(field: Any) -> tuple[Any, Convert]:
    """The GraphQL type of a column as strawberry-django would choose it, and what makes its value fit."""
    if field.remote_field is not None:
        return strawberry.ID, str
    choices = choices_enum(field)
    if choices is not None:
        return choices, partial(_member, choices)
    if isinstance(field, models.GeneratedField):
        return _scalar(field.output_field)
    if isinstance(field, models.FileField):
        # The column holds a path; the file of that time may be gone.
        return str, str
    for base in type(field).__mro__:
        kind = field_type_map.get(base)
        if kind in (str, strawberry.ID):
            return kind, str
        if kind in (int, float):
            return kind, _number
        if kind is not None and (kind is JSON or not isinstance(kind, NewType)):
            return kind, _same
    return JSON, lambda value: to_json(field, value)


class _AllHistoryTypes(StrawberryUnion):
    """A union of what is tracked when a schema is built, so that models defined late are in it too."""

    @property
    def type_annotations(self) -> tuple[StrawberryAnnotation, ...]:
        return tuple(StrawberryAnnotation(history_type(tracked)) for tracked in registry.tracked_models())

    @type_annotations.setter
    def type_annotations(self, _: object) -> None:
        """Strawberry's constructor assigns what this class computes."""


TypedHistoryEntry = _AllHistoryTypes(name="TypedHistoryEntry", description="Any entry, as its model's own type.")
