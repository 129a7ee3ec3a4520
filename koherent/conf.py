"""The ``KOHERENT`` setting: every key, its type and its default in one place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from django.conf import settings as django_settings
from django.core.signals import setting_changed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The effective settings; the key in ``KOHERENT`` is the attribute's name in capitals."""

    track: Mapping[str, str | None] = field(default_factory=dict)
    assignation_headers: Sequence[str] = ("X-Assignation-Id",)
    app_headers: Sequence[str] = ("X-App", "apollographql-client-name")
    reason_headers: Sequence[str] = ("X-Change-Reason",)
    generate_assignation_id: bool = False
    assignation_authenticated: bool = False
    assignation_own: bool = False
    atomic_mutations: bool = False
    record_unchanged: bool = False
    require_coverage: bool = False
    exempt: Sequence[str] = ()
    policy: str = "koherent.policy.Policy"
    page_limit: int = 100
    filter_limit: int = 1_000
    revert_limit: int = field(default=10_000, metadata={"minimum": 0})
    subscription_limit: int = 100
    connection_limit: int = 50
    feed_layer: str = "default"
    feed_queue: int = 1_000
    feed_poll_seconds: float = 5.0
    feed_retention_days: int = 7


KEYS: Mapping[str, str] = {f.name.upper(): f.name for f in fields(Settings)}


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings in force. Mistakes are left to the system checks, which say what each key wants."""
    given: Mapping[str, Any] = getattr(django_settings, "KOHERENT", {})
    return Settings(**{KEYS[key]: value for key, value in given.items() if key in KEYS})


def _forget(*, setting: str, **_: object) -> None:
    if setting == "KOHERENT":
        settings.cache_clear()


setting_changed.connect(_forget)
