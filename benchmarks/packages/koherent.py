"""koherent, from the working tree."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models

from benchmarks.packages.base import Package


class Koherent(Package):
    """Everything is recorded by the models' own managers, so the work itself is plain Django's."""

    apps = ("simple_history", "strawberry_django", "koherent")
    distributions = ("django", "django-simple-history", "strawberry-graphql", "strawberry-graphql-django")

    def field(self, related_name: str) -> Any:
        """The field that makes a model tracked."""
        from koherent.fields import HistoryField

        return HistoryField(label="name")

    @contextmanager
    def attributed(self) -> Iterator[str]:
        """An assignation of its own."""
        import koherent

        assignation_id = uuid.uuid4().hex
        with koherent.audit(user=self.user, app="bench", assignation_id=assignation_id):
            yield assignation_id

    def undo(self, model: type[models.Model], correlation_id: str) -> None:
        """Its own revert: planned, checked for conflicts, locked, recorded."""
        from koherent.revert import RevertStatus, revert_assignation

        report = revert_assignation(None, correlation_id)
        assert report.status is RevertStatus.APPLIED

    def entry_before(self, instance: models.Model) -> Any:
        """The second newest row of its history."""
        history: Any = instance
        return history.history.order_by("-history_id")[1]

    def undo_one(self, model: type[models.Model], key: Any) -> None:
        """Its own revert."""
        from koherent.revert import RevertStatus, revert_to

        report = revert_to(None, model._meta.label_lower, key)
        assert report.status is RevertStatus.APPLIED

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """All history rows."""
        from benchmarks.lab.models import MODELS

        named = {"actor_id__isnull": False, "assignation_id__isnull": False}
        return [(model.history.model._default_manager.all(), named) for model in MODELS]

    def atomic(self) -> Any:
        """koherent's own unit of work, where there is one."""
        import koherent

        return getattr(koherent, "atomic", super().atomic)()
