"""django-auditlog. It has no bulk paths: each object is logged by itself."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models, transaction

from benchmarks.packages.base import M, Package


class Auditlog(Package):
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
