"""The enum of a field with ``choices``, where the user's schema has one."""

import sys
from types import SimpleNamespace
from typing import Any, cast

import strawberry
from django.db import models
from strawberry.types.enum import has_enum_definition
from strawberry_django.fields.types import resolve_model_field_type
from strawberry_django.settings import strawberry_django_settings


def choices_enum(field: Any) -> type[Any] | None:
    """The Strawberry enum that strawberry-django, or the user, gives a model field; None where it is a plain scalar.

    - that of a ``TextChoicesField`` or ``IntegerChoicesField`` of django-choices-field;
    - the generated one, where ``GENERATE_ENUMS_FROM_CHOICES`` is on, the same as on the user's own type;
    - the field's ``TextChoices`` or ``IntegerChoices``, where the user has made a ``strawberry.enum`` of it.
    """
    if not field.choices:
        return None
    own = _decorated(field)
    if own is not None:
        return own
    of_its_own: Any = getattr(field, "choices_enum", None)
    if of_its_own is not None:
        return of_its_own if has_enum_definition(of_its_own) else strawberry.enum(of_its_own)
    if isinstance(field.flatchoices[0][0], int) or not strawberry_django_settings()["GENERATE_ENUMS_FROM_CHOICES"]:
        return None
    # Leaves the enum on the field, where every type of the user's finds it.
    resolve_model_field_type(field, cast("Any", _ANY_TYPE))
    generated: type[Any] = field._strawberry_enum
    return generated


#: What strawberry-django asks of the type that a field is resolved for.
_ANY_TYPE = SimpleNamespace(is_filter=False, is_input=False, is_partial=False)


def _decorated(field: Any) -> type[Any] | None:
    """The class that the choices came from: Django keeps their values only, so it is known by these.

    Looked for as the type of the field's default, inside the model, and beside it in its module.
    """
    module = sys.modules[field.model.__module__]
    candidates = [type(field.default), *vars(field.model).values(), *vars(module).values()]
    for candidate in candidates:
        if (
            isinstance(candidate, type)
            and issubclass(candidate, models.Choices)
            and list(candidate.values) == [value for value, _ in field.flatchoices]
            and has_enum_definition(candidate)
        ):
            return candidate
    return None
