"""A system check for secrets that a history would keep for ever and show to everybody who may read it."""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Warning, register
from django.db import models

from koherent import registry

_WORDS = frozenset({"password", "passwd", "passphrase", "passcode", "secret", "token", "apikey", "credential", "otp"})
_PAIRS = frozenset(
    {
        ("access", "code"),
        ("access", "key"),
        ("api", "key"),
        ("auth", "key"),
        ("encryption", "key"),
        ("pass", "phrase"),
        ("private", "key"),
        ("recovery", "code"),
        ("signing", "key"),
    }
)
#: A secret is text or bytes: ``password_changed_at`` and ``token_count`` are none.
_KINDS = (models.CharField, models.TextField, models.BinaryField, models.JSONField, models.UUIDField)
_WORD = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")


def looks_secret(field: Any) -> bool:
    """Whether a field's name and type are those of a password, a token, a key or the like."""
    if field.primary_key or field.is_relation or field.choices or not isinstance(field, _KINDS):
        return False
    words = [word.lower() for word in _WORD.findall(field.name)]
    singular = {word.removesuffix("s") for word in words} | set(words)
    return not singular.isdisjoint(_WORDS) or any(pair in _PAIRS for pair in pairwise(words))


@register("koherent")
def check_secrets(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """No tracked field that looks like a secret is stored in the open."""
    return [
        Warning(
            f"The history of {tracked.label} keeps every value of {field.name!r}, which looks like a secret.",
            hint=f"Leave it out with HistoryField(excluded_fields=[{field.name!r}]), or show it to those whom the "
            f"policy names with redacted_fields. Silence this with SILENCED_SYSTEM_CHECKS if it is no secret.",
            obj=tracked.model,
            id="koherent.W002",
        )
        for tracked in registry.tracked_models()
        for field in tracked.fields
        if field.name not in tracked.redacted_fields and looks_secret(field)
    ]
