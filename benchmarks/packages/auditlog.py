"""django-auditlog. It has no bulk paths: each object is logged by itself."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import strawberry
from django.db import models, transaction

from benchmarks.packages.base import M
from benchmarks.packages.trail import ListedTrail
from benchmarks.seeding import Slice


class Auditlog(ListedTrail):
    """Attributed as its middleware does it: an actor and a correlation id."""

    apps = ("auditlog",)
    distributions = ("django", "django-auditlog")

    def track(self, model: M) -> M:
        """Its registry."""
        from auditlog.registry import auditlog

        tracked: M = auditlog.register()(model)
        return tracked

    @contextmanager
    def attributed(self) -> Iterator[str]:
        """An actor and a correlation id."""
        from auditlog.cid import correlation_id
        from auditlog.context import set_actor

        token = correlation_id.set(uuid.uuid4().hex)
        try:
            with set_actor(self.user):
                yield str(correlation_id.get())
        finally:
            correlation_id.reset(token)

    def seed_slice(self, part: Slice) -> None:
        """Log entries with their difference stored."""
        from auditlog.models import LogEntry
        from django.contrib.contenttypes.models import ContentType

        from benchmarks import seeding

        version = part.version
        difference = (
            f"""'{{"quantity": ["' || ({version} - 1) || '", "' || {version} || '"], """
            f""""note": ["note ' || ({version} - 1) || '", "note ' || {version} || '"]}}'"""
        )
        columns = {
            "content_type_id": str(ContentType.objects.get_for_model(part.model).pk),
            "object_pk": f"'' || {part.pk}",
            "object_id": part.pk,
            "object_repr": f"'object ' || {part.pk}",
            "action": f"CASE WHEN {part.action} = '+' THEN 0 ELSE 1 END",
            "changes": seeding.json(difference),
            "changes_text": "''",
            "actor_id": seeding.user_key(self.users),
            "timestamp": part.date,
            "cid": f"'task-' || {part.unit}",
        }
        seeding.insert(LogEntry, part.count, columns)

    def newest(self, first: int) -> list[Any]:
        """One statement."""
        from auditlog.models import LogEntry

        return self.shown(LogEntry.objects.select_related("actor", "content_type")[:first])

    def newest_of(self, object_id: int, first: int) -> list[Any]:
        """One statement."""
        from auditlog.models import LogEntry

        from benchmarks.lab.models import Sample

        entries = LogEntry.objects.get_for_object(Sample(pk=object_id))
        return self.shown(entries.select_related("actor", "content_type")[:first])

    @staticmethod
    def shown(entries: Any) -> list[Any]:
        """As the shared schema has them."""
        from benchmarks.lab.schema import Account, Change, Entry

        return [
            Entry(
                id=strawberry.ID(str(entry.pk)),
                action=entry.get_action_display(),
                date=entry.timestamp,
                model=f"{entry.content_type.app_label}.{entry.content_type.model}",
                object_id=strawberry.ID(entry.object_pk),
                user=entry.actor and Account(id=strawberry.ID(str(entry.actor_id)), username=entry.actor.username),
                changes=[Change(field=name, old=old, new=new) for name, (old, new) in entry.changes_dict.items()],
            )
            for entry in entries
        ]

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """Its one table."""
        from auditlog.models import LogEntry

        return [(LogEntry.objects.all(), {"actor__isnull": False, "cid__isnull": False})]

    def bulk_create(self, model: type[models.Model], objects: list[Any]) -> None:
        """``bulk_create`` is not logged: save each."""
        with transaction.atomic():
            for instance in objects:
                instance.save(force_insert=True)

    def update(self, queryset: Any, **values: Any) -> None:
        """``update()`` is not logged: read, set and save each."""
        with transaction.atomic():
            for instance in queryset:
                for name, value in values.items():
                    setattr(instance, name, value)
                instance.save(update_fields=list(values))

    def bulk_update(self, model: type[models.Model], objects: list[Any], fields: list[str]) -> None:
        """``bulk_update`` is not logged: save each."""
        with transaction.atomic():
            for instance in objects:
                instance.save(update_fields=fields)
