"""System checks: a mistake in a setting or in a ``HistoryField`` is named before the first request."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from django.apps import AppConfig
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, register
from django.db import models

from koherent import registry
from koherent.conf import KEYS


@register("koherent")
def check_settings(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Every key of ``KOHERENT`` is known."""
    messages: list[CheckMessage] = []
    for key in getattr(django_settings, "KOHERENT", {}):
        if key not in KEYS:
            near = get_close_matches(str(key), KEYS, n=1, cutoff=0.0)
            messages.append(
                Error(f"KOHERENT[{key!r}] is not a setting.", hint=f"Did you mean {near[0]!r}?", id="koherent.E001")
            )
    return messages


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
