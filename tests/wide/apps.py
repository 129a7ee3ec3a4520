"""The Django app of the wide test project."""

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import pre_migrate


def _make_collation(using: str, **_: Any) -> None:
    """What ``Alias`` needs; SQLite brings its own."""
    if connections[using].vendor == "postgresql":
        with connections[using].cursor() as cursor:
            cursor.execute(
                "CREATE COLLATION IF NOT EXISTS caseless "
                "(provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
            )


class WideConfig(AppConfig):
    """Models of every kind; no migrations, its tables come from the models."""

    name = "tests.wide"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what comes before the tables."""
        pre_migrate.connect(_make_collation, sender=self)
