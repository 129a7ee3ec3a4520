"""django-simple-history with a user and a correlation id on every row, on its bulk paths too."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any

import strawberry
from django.db import models, transaction

from benchmarks.packages.trail import ListedTrail, Undoing
from benchmarks.seeding import Slice

correlation: ContextVar[str | None] = ContextVar("bench_correlation", default=None)


class SimpleHistory(ListedTrail, Undoing):
    """The user comes from the request as its middleware leaves it, the correlation id from the column's default."""

    apps: Sequence[str] = ("simple_history",)
    distributions: Sequence[str] = ("django", "django-simple-history")

    def field(self, related_name: str) -> Any:
        """Its history field, on a base that holds the correlation id."""
        from simple_history.models import HistoricalRecords

        class Correlated(models.Model):
            correlation_id = models.CharField(max_length=255, null=True, default=correlation.get, db_index=True)

            class Meta:
                abstract = True
                app_label = "lab"

        return HistoricalRecords(bases=[Correlated], history_id_field=models.BigAutoField(primary_key=True))

    @contextmanager
    def attributed(self) -> Iterator[str]:
        """A request with a user, and a correlation id."""
        from simple_history.models import HistoricalRecords

        token = correlation.set(uuid.uuid4().hex)
        HistoricalRecords.context.request = SimpleNamespace(user=self.user)
        try:
            yield correlation.get() or ""
        finally:
            del HistoricalRecords.context.request
            correlation.reset(token)

    def undo(self, model: type[models.Model], correlation_id: str) -> None:
        """Each record's predecessor, saved as an instance."""
        history: Any = model
        with transaction.atomic():
            for record in list(history.history.filter(**self.correlated(correlation_id))):
                record.prev_record.instance.save()

    def correlated(self, correlation_id: str) -> dict[str, Any]:
        """The filter for a correlation id."""
        return {"correlation_id": correlation_id}

    def entry_before(self, instance: models.Model) -> Any:
        """The second newest record."""
        history: Any = instance
        return history.history.order_by("-history_id")[1]

    def undo_one(self, model: type[models.Model], key: Any) -> None:
        """The record's instance, saved: what its documentation advises."""
        history: Any = model
        history.history.get(pk=key).instance.save()

    def seed_slice(self, part: Slice) -> None:
        """History rows."""
        from benchmarks import seeding

        history: Any = part.model
        columns = {
            **part.values,
            "history_date": part.date,
            "history_type": part.action,
            "history_user_id": seeding.user_key(self.users),
            **self.seed_correlation(part),
        }
        seeding.insert(history.history.model, part.count, columns)

    def seed_correlation(self, part: Slice) -> dict[str, str]:
        """The columns that name the unit of work."""
        return {"correlation_id": f"'task-' || {part.unit}"}

    def newest(self, first: int) -> list[Any]:
        """The newest of each model, merged; differences as its documentation shows."""
        from benchmarks.lab.models import MODELS

        found: list[Any] = []
        for model in MODELS:
            found += model.history.select_related("history_user").order_by("-history_date")[:first]
        found.sort(key=lambda record: record.history_date, reverse=True)
        return [self.shown(record) for record in found[:first]]

    def newest_of(self, object_id: int, first: int) -> list[Any]:
        """One sample's."""
        from benchmarks.lab.models import Sample

        records = Sample.history.filter(id=object_id).select_related("history_user").order_by("-history_date")
        return [self.shown(record) for record in records[:first]]

    @staticmethod
    def shown(record: Any) -> Any:
        """One record, with its difference to the one before."""
        from benchmarks.lab.schema import Account, Change, Entry

        before = record.prev_record
        changes = [] if before is None else record.diff_against(before).changes
        user = record.history_user
        return Entry(
            id=strawberry.ID(str(record.history_id)),
            action=record.history_type,
            date=record.history_date,
            model=record.instance_type._meta.label_lower,
            object_id=strawberry.ID(str(record.id)),
            user=None if user is None else Account(id=strawberry.ID(str(user.pk)), username=user.username),
            changes=[Change(field=change.field, old=change.old, new=change.new) for change in changes],
        )

    #: What an attributed row has.
    named: dict[str, Any] = {"history_user__isnull": False, "correlation_id__isnull": False}

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """All history rows."""
        from benchmarks.lab.models import MODELS

        return [(model.history.model._default_manager.all(), self.named) for model in MODELS]

    def bulk_create(self, model: type[models.Model], objects: list[Any]) -> None:
        """Its helper; plain ``bulk_create`` leaves no row."""
        from simple_history.utils import bulk_create_with_history

        bulk_create_with_history(objects, model, default_user=self.user)

    def update(self, queryset: Any, **values: Any) -> None:
        """``update()`` leaves no row: read, set, and its helper."""
        objects = list(queryset)
        for instance in objects:
            for name, value in values.items():
                setattr(instance, name, value)
        self.bulk_update(queryset.model, objects, list(values))

    def bulk_update(self, model: type[models.Model], objects: list[Any], fields: list[str]) -> None:
        """Its helper; plain ``bulk_update`` leaves no row."""
        from simple_history.utils import bulk_update_with_history

        bulk_update_with_history(objects, model, fields, default_user=self.user)
