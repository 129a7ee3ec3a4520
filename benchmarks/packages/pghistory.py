"""django-pghistory: triggers, on PostgreSQL only."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models, transaction

from benchmarks.packages.base import M, Package


class PgHistory(Package):
    """Row triggers, its default. Whatever writes is recorded, so the work is plain Django's."""

    apps = ("pgtrigger", "pghistory")
    settings = {"PGTRIGGER_INSTALL_ON_MIGRATE": True, "PGHISTORY_INSTALL_CONTEXT_FUNC_ON_MIGRATE": True}
    distributions = ("django", "django-pghistory", "django-pgtrigger")
    statement_level = False

    def track(self, model: M) -> M:
        """Its three events on the model."""
        import pghistory

        level: Any = pghistory.Statement if self.statement_level else pghistory.Row
        tracked: M = pghistory.track(
            pghistory.InsertEvent(), pghistory.UpdateEvent(), pghistory.DeleteEvent(), level=level
        )(model)
        return tracked

    @contextmanager
    def attributed(self) -> Iterator[str]:
        """A context with the user's key."""
        import pghistory

        with pghistory.context(user=self.user.pk, app="bench") as context:
            yield str(context.id)

    def undo(self, model: type[models.Model], correlation_id: str) -> None:
        """Each event's predecessor, reverted to."""
        events: Any = model
        events = events.pgh_event_model._default_manager
        with transaction.atomic():
            for event in list(events.filter(pgh_context_id=correlation_id)):
                events.filter(pgh_obj_id=event.pgh_obj_id, pgh_id__lt=event.pgh_id).order_by("-pgh_id")[0].revert()

    def entry_before(self, instance: models.Model) -> Any:
        """The second newest event."""
        model: Any = type(instance)
        return model.pgh_event_model._default_manager.filter(pgh_obj_id=instance.pk).order_by("-pgh_id")[1]

    def undo_one(self, model: type[models.Model], key: Any) -> None:
        """Its own revert."""
        events: Any = model
        events.pgh_event_model._default_manager.get(pk=key).revert()

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """All rows of its event tables."""
        from benchmarks.lab.models import MODELS

        return [(model.pgh_event_model._default_manager.all(), {"pgh_context__isnull": False}) for model in MODELS]


class PgHistoryStatement(PgHistory):
    """Statement triggers, which its documentation advises for bulk work."""

    statement_level = True
