"""System checks: a mistake in a setting or in a ``HistoryField`` is named before the first request."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, get_type_hints

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning, register
from django.db import DEFAULT_DB_ALIAS, connections, models, router
from django.utils.module_loading import import_string

from koherent import coverage, registry
from koherent.conf import KEYS, Settings, settings


def _texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)


def _paths(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and (path is None or isinstance(path, str)) for name, path in value.items()
    )


def _number(value: object, kinds: type | tuple[type, ...], minimum: float) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and value >= minimum  # type: ignore[operator]


# What the type of a setting accepts, and how a message says so.
_WANTED: Mapping[Any, tuple[str, Callable[[Any, float], bool]]] = {
    bool: ("True or False", lambda value, _: isinstance(value, bool)),
    int: ("a whole number, at least {minimum}", lambda value, minimum: _number(value, int, minimum)),
    float: ("a number above 0", lambda value, _: _number(value, (int, float), 0) and value > 0),
    str: ("a string", lambda value, _: isinstance(value, str)),
    Sequence[str]: ("a list or tuple of strings", lambda value, _: _texts(value)),
    Mapping[str, str | None]: ("a dictionary of names to dotted paths or None", lambda value, _: _paths(value)),
}


@register("koherent")
def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every key of ``KOHERENT`` is known, has a value of its type, and its dotted paths can be imported."""
    given = getattr(django_settings, "KOHERENT", {})
    if not isinstance(given, Mapping):
        return [Error(f"KOHERENT is {given!r}; it wants a dictionary.", id="koherent.E006")]
    return [message for key, value in given.items() for message in _problems(key, value)]


def _problems(key: object, value: Any) -> Iterator[CheckMessage]:
    if key not in KEYS:
        near = get_close_matches(str(key).upper(), KEYS, n=1, cutoff=0.0)
        yield Error(f"KOHERENT[{key!r}] is not a setting.", hint=f"Did you mean {near[0]!r}?", id="koherent.E001")
        return
    name = KEYS[str(key)]
    wanted, accepts = _WANTED[get_type_hints(Settings)[name]]
    minimum = next(field.metadata.get("minimum", 1) for field in fields(Settings) if field.name == name)
    if not accepts(value, minimum):
        wanted = wanted.format(minimum=minimum)
        yield Error(f"KOHERENT[{key!r}] is {value!r}; it wants {wanted}.", id="koherent.E006")
    elif name == "policy":
        # The default is the base class of all policies.
        yield from _unusable(f"KOHERENT[{key!r}]", value, import_string(Settings.policy))
    elif name == "track":
        for tracked, path in value.items():
            if path is not None:
                yield from _unusable(f"KOHERENT[{key!r}][{tracked!r}]", path)


def _unusable(where: str, path: str, base: type | None = None) -> Iterator[CheckMessage]:
    try:
        found = import_string(path)
    except ImportError as error:
        yield Error(f"{where} is {path!r}, which cannot be imported: {error}", id="koherent.E007")
        return
    if base is not None and not (isinstance(found, type) and issubclass(found, base)):
        yield Error(f"{where} is {path!r}, which is no subclass of {base.__name__}.", id="koherent.E007")
    elif not callable(found):
        yield Error(f"{where} is {path!r}, which cannot be called.", id="koherent.E007")


@register("koherent")
def check_fields(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """What a ``HistoryField`` cannot keep its promises with is refused, and GraphQL names are unique."""
    messages: list[CheckMessage] = []
    names: dict[str, str] = {}
    for tracked in registry.tracked_models():
        if tracked.field.cascade_delete_history:
            messages.append(
                Error("cascade_delete_history would delete the trail.", obj=tracked.model, id="koherent.E002")
            )
        if not isinstance(tracked.history_model._meta.pk, models.AutoField):
            messages.append(
                Error(
                    "history_id must be a number that the database counts up: it is the order of an object's entries.",
                    obj=tracked.model,
                    id="koherent.E003",
                )
            )
        if (other := names.setdefault(tracked.type_name, tracked.label)) != tracked.label:
            messages.append(
                Error(
                    f"{other} has the same GraphQL name, {tracked.type_name}.",
                    hint="Give one of them HistoryField(type_name=...).",
                    obj=tracked.model,
                    id="koherent.E004",
                )
            )
        unknown = tracked.redacted_fields - tracked.names
        if unknown:
            messages.append(
                Error(
                    f"redacted_fields names {sorted(unknown)}, which are not tracked.",
                    obj=tracked.model,
                    id="koherent.E005",
                )
            )
    return messages


@register("koherent")
def check_coverage(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Where ``REQUIRE_COVERAGE`` is set, every model of the project is tracked, or exempt by ``EXEMPT``."""
    if not _texts(settings().exempt):
        return []  # an error of check_settings already
    return [
        *(
            Error(
                f"{gap.name} is not tracked.",
                hint=f"{gap.remedy}, or add {gap.label!r} to KOHERENT['EXEMPT'].",
                obj=gap.model,
                id="koherent.E008",
            )
            for gap in coverage.gaps()
        ),
        *(
            Warning(f"KOHERENT['EXEMPT'] names {label!r}, {why}.", hint="Remove it.", id="koherent.W001")
            for label, why in coverage.useless_exemptions()
        ),
    ]


@register("koherent")
def check_databases(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Where a tracked model is stored, and what its history cannot do there."""
    messages: list[CheckMessage] = []
    for tracked in registry.tracked_models():
        alias = router.db_for_write(tracked.model)
        vendor = connections[alias].vendor
        if vendor not in ("postgresql", "sqlite"):
            message = (
                f"Database {alias!r} is of the kind {vendor!r}: changes are recorded on PostgreSQL and SQLite only."
            )
            messages.append(Error(message, obj=tracked.model, id="koherent.E009"))
        if alias != DEFAULT_DB_ALIAS:
            message = (
                f"The history is recorded on database {alias!r}, which the timeline, reverts and the feed do not read."
            )
            hint = "Keep the model on the default database, or silence this warning."
            messages.append(Warning(message, hint=hint, obj=tracked.model, id="koherent.W003"))
    return messages
