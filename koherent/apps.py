"""The Django app."""

from typing import Any

from django.apps import AppConfig
from django.db import router
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


def _after_migrate(sender: Any, using: str, **kwargs: Any) -> None:
    from koherent import registry
    from koherent.models import FieldSet

    if router.allow_migrate_model(using, FieldSet):
        registry.store_field_sets(using)


class KoherentConfig(AppConfig):
    """Registers the signal handlers, the feed's doorbell and what runs after ``migrate``."""

    name = "koherent"
    verbose_name = _("Audit trail")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Connect what needs all models."""
        from koherent import checks, checks_secrets, database_checks, feed, signal  # noqa: F401

        feed.connect()
        post_migrate.connect(_after_migrate, sender=self, dispatch_uid="koherent.field_sets")
