"""Sends ``Elsewhere`` and its history to the database ``other``, all else to ``default``; ``Roaming`` is in both."""

from typing import Any

from django.db import models

MODELS = frozenset({"elsewhere", "historicalelsewhere"})
IN_BOTH = frozenset({"roaming", "historicalroaming"})


class ElsewhereRouter:
    """A router as a project would write it for a model in a database of its own."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str:
        """``other`` for the models that live there, and for a row that is there."""
        instance = hints.get("instance")
        if instance is not None and instance._state.db is not None and model._meta.model_name in IN_BOTH:
            return str(instance._state.db)
        return "other" if self._is_elsewhere(model._meta.app_label, model._meta.model_name) else "default"

    db_for_write = db_for_read

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        """Each table in one database only, but for those that are in both."""
        if app_label == "wide" and model_name in IN_BOTH:
            return True
        return (db == "other") == self._is_elsewhere(app_label, model_name)

    @staticmethod
    def _is_elsewhere(app_label: str, model_name: str | None) -> bool:
        return app_label == "wide" and model_name in MODELS
