"""django-reversion: versions are serialised and written together at the end of a revision."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import models

from benchmarks.packages.base import M, Package


class Reversion(Package):
    """Work happens in a revision with a user; the correlation id is its comment. Deletions are never recorded."""

    apps = ("reversion",)
    distributions = ("django", "django-reversion")

    def track(self, model: M) -> M:
        """Its registry."""
        import reversion

        tracked: M = reversion.register()(model)
        return tracked

    @contextmanager
    def attributed(self) -> Iterator[str]:
        """A revision."""
        import reversion

        correlation_id = uuid.uuid4().hex
        with reversion.create_revision():
            reversion.set_user(self.user)
            reversion.set_comment(correlation_id)
            yield correlation_id

    def undo(self, model: type[models.Model], correlation_id: str) -> None:
        """The revision before, which holds all of the same objects, reverted to."""
        from reversion.models import Revision

        done = Revision.objects.get(comment=correlation_id)
        Revision.objects.filter(pk__lt=done.pk).order_by("-pk")[0].revert()

    def entry_before(self, instance: models.Model) -> Any:
        """The second newest version."""
        from reversion.models import Version

        return Version.objects.get_for_object(instance)[1]

    def undo_one(self, model: type[models.Model], key: Any) -> None:
        """Its own revert."""
        from reversion.models import Version

        Version.objects.get(pk=key).revert()

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """Its one table of versions."""
        from reversion.models import Version

        return [(Version.objects.all(), {"revision__user__isnull": False})]

    def bulk_create(self, model: type[models.Model], objects: list[Any]) -> None:
        """``bulk_create`` is not recorded: add each to the revision."""
        import reversion

        super().bulk_create(model, objects)
        for instance in objects:
            reversion.add_to_revision(instance)

    def update(self, queryset: Any, **values: Any) -> None:
        """``update()`` is not recorded: add each to the revision."""
        import reversion

        keys = list(queryset.values_list("pk", flat=True))
        queryset.update(**values)
        for instance in queryset.model._default_manager.filter(pk__in=keys):
            reversion.add_to_revision(instance)

    def bulk_update(self, model: type[models.Model], objects: list[Any], fields: list[str]) -> None:
        """``bulk_update`` is not recorded: add each to the revision."""
        import reversion

        super().bulk_update(model, objects, fields)
        for instance in objects:
            reversion.add_to_revision(instance)
