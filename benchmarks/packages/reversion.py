"""django-reversion: versions are serialised and written together at the end of a revision."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import strawberry
from django.db import models

from benchmarks.packages.base import M
from benchmarks.packages.trail import ListedTrail, Undoing
from benchmarks.seeding import Slice


def text(value: Any) -> Any:
    """A value that JSON can hold."""
    return value if isinstance(value, int | str | None) else str(value)


class Reversion(ListedTrail, Undoing):
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

    def seed_slice(self, part: Slice) -> None:
        """A revision for each unit of work of a model, and its versions."""
        from django.contrib.contenttypes.models import ContentType
        from reversion.models import Revision, Version

        from benchmarks import seeding

        # A long history has one version a revision: an object is in a revision once.
        long = "%" not in part.pk
        base = part.index * 100_000_000 + (50_000_000 if long else 0)
        revision = {
            "id": f"({base} + n)",
            "date_created": part.date if long else seeding.moment("(n * 50)"),
            "user_id": seeding.user_key(self.users),
            "comment": "'task-' || n",
        }
        seeding.insert(Revision, part.count if long else part.count // 10 + 1, revision)
        fields = {name: sql for name, sql in part.values.items() if name not in ("id", "measured_at", "active")}
        pairs = " || ', ' || ".join(
            f"""'"{name.removesuffix("_id")}": "' || {sql} || '"'""" for name, sql in fields.items()
        )
        label = part.model._meta.label_lower
        serialized = (
            f"""'[{{"model": "{label}", "pk": ' || {part.pk} || ', "fields": {{' || {pairs} || """
            """', "active": false, "measured_at": "2026-01-01T00:00:00Z"}}]'"""
        )
        version = {
            # Its pages are ordered by key: the models take turns.
            "id": f"({1 if long else 1_000_000} + n * 5 + {part.index})",
            "object_id": f"'' || {part.pk}",
            "content_type_id": str(ContentType.objects.get_for_model(part.model).pk),
            "format": "'json'",
            "serialized_data": serialized,
            "object_repr": f"'object ' || {part.pk}",
            "db": "'default'",
            "revision_id": f"({base} + {'n' if long else 'n / 10'})",
        }
        seeding.insert(Version, part.count, version)

    def newest(self, first: int) -> list[Any]:
        """The newest versions of all models."""
        from reversion.models import Version

        return self.shown(Version.objects.select_related("revision__user", "content_type")[:first])

    def newest_of(self, object_id: int, first: int) -> list[Any]:
        """One sample's."""
        from reversion.models import Version

        from benchmarks.lab.models import Sample

        versions = Version.objects.get_for_object_reference(Sample, object_id)
        return self.shown(versions.select_related("revision__user", "content_type")[:first])

    @staticmethod
    def shown(versions: Any) -> list[Any]:
        """Each version, compared with the one before it."""
        from reversion.models import Version

        from benchmarks.lab.schema import Account, Change, Entry

        entries = []
        for version in versions:
            model = version.content_type.model_class()
            earlier = Version.objects.get_for_object_reference(model, version.object_id).filter(pk__lt=version.pk)
            before = earlier.first()
            now, then = version.field_dict, {} if before is None else before.field_dict
            user = version.revision.user
            entries.append(
                Entry(
                    id=strawberry.ID(str(version.pk)),
                    action="create" if before is None else "update",
                    date=version.revision.date_created,
                    model=model._meta.label_lower,
                    object_id=strawberry.ID(version.object_id),
                    user=user and Account(id=strawberry.ID(str(user.pk)), username=user.username),
                    changes=[
                        Change(field=name, old=text(then.get(name)), new=text(value))
                        for name, value in now.items()
                        if before is not None and then.get(name) != value
                    ],
                )
            )
        return entries

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
