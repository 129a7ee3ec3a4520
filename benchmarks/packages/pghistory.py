"""django-pghistory: triggers, on PostgreSQL only."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from functools import cache
from typing import Any

import strawberry
from django.db import models, transaction
from django.db.models import OuterRef, Subquery
from django.db.models.functions import JSONObject

from benchmarks.packages.base import M
from benchmarks.packages.trail import ListedTrail, Undoing
from benchmarks.seeding import Slice


@cache
def names(model: Any) -> tuple[str, ...]:
    """The columns that a difference is made of."""
    return tuple(field.attname for field in model._meta.concrete_fields)


def same(before: Any, now: Any) -> bool:
    """Whether a value that came back as JSON is the value itself."""
    if isinstance(now, datetime) and isinstance(before, str):
        return datetime.fromisoformat(before) == now
    if isinstance(now, Decimal):
        return Decimal(str(before)) == now
    return bool(before == now)


class PgHistory(ListedTrail, Undoing):
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

    def seed_objects(self, entries: int) -> None:
        """Without what its triggers would make of them."""
        import pgtrigger

        with pgtrigger.ignore():
            super().seed_objects(entries)

    def seed_shared(self, entries: int) -> None:
        """A context for each unit of work."""
        from pghistory.models import Context

        from benchmarks import seeding

        columns = {
            "id": "md5('task-' || n)::uuid",
            "created_at": seeding.moment("(n * 50)"),
            "updated_at": seeding.moment("(n * 50)"),
            "metadata": f"""CAST('{{"user": ' || {seeding.user_key(self.users)} || '}}' AS jsonb)""",
        }
        seeding.insert(Context, max(entries // 5, seeding.VERSIONS) // 10 + 1, columns)

    def seed_slice(self, part: Slice) -> None:
        """Events."""
        from benchmarks import seeding

        events: Any = part.model
        columns = {
            **part.values,
            "pgh_created_at": part.date,
            "pgh_label": f"CASE WHEN {part.action} = '+' THEN 'insert' ELSE 'update' END",
            "pgh_obj_id": part.pk,
            "pgh_context_id": f"md5('task-' || {part.unit})::uuid",
        }
        seeding.insert(events.pgh_event_model, part.count, columns)

    def newest(self, first: int) -> list[Any]:
        """The newest of each model, each with the values of its predecessor from the same statement, merged."""
        from benchmarks.lab.models import MODELS

        found: list[Any] = []
        for model in MODELS:
            events = model.pgh_event_model._default_manager
            before = events.filter(pgh_obj_id=OuterRef("pgh_obj_id"), pgh_id__lt=OuterRef("pgh_id"))
            values = before.order_by("-pgh_id").values(all=JSONObject(**{name: name for name in names(model)}))
            annotated = events.select_related("pgh_context").annotate(before=Subquery(values[:1]))
            found += annotated.order_by("-pgh_id")[:first]
        found.sort(key=lambda event: event.pgh_created_at, reverse=True)
        return self.shown([(event, event.before) for event in found[:first]])

    def newest_of(self, object_id: int, first: int) -> list[Any]:
        """One sample's: the predecessor is the next in the list."""
        from benchmarks.lab.models import Sample

        model: Any = Sample
        events = model.pgh_event_model._default_manager.filter(pgh_obj_id=object_id).select_related("pgh_context")
        found = list(events.order_by("-pgh_id")[: first + 1])
        values = [{name: getattr(event, name) for name in names(model)} for event in found]
        return self.shown(list(zip(found[:first], [*values[1:], None], strict=False)))

    def shown(self, pairs: list[tuple[Any, Any]]) -> list[Any]:
        """Events with their differences; accounts by one statement from the contexts' metadata."""
        from django.contrib.auth import get_user_model

        from benchmarks.lab.schema import Account, Change, Entry

        account: Any = get_user_model()
        keys = {event.pgh_context.metadata["user"] for event, _ in pairs}
        names_of = dict(account.objects.filter(pk__in=keys).values_list("pk", "username"))
        entries = []
        for event, before in pairs:
            model = event.pgh_tracked_model
            user = event.pgh_context.metadata["user"]
            now = {name: getattr(event, name) for name in names(model)}
            changed = [] if before is None else [name for name in now if not same(before[name], now[name])]
            entries.append(
                Entry(
                    id=strawberry.ID(str(event.pgh_id)),
                    action=event.pgh_label,
                    date=event.pgh_created_at,
                    model=model._meta.label_lower,
                    object_id=strawberry.ID(str(event.pgh_obj_id)),
                    user=Account(id=strawberry.ID(str(user)), username=names_of[user]),
                    changes=[Change(field=name, old=before[name], new=now[name]) for name in changed],
                )
            )
        return entries

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """All rows of its event tables."""
        from benchmarks.lab.models import MODELS

        return [(model.pgh_event_model._default_manager.all(), {"pgh_context__isnull": False}) for model in MODELS]


class PgHistoryStatement(PgHistory):
    """Statement triggers, which its documentation advises for bulk work."""

    statement_level = True
