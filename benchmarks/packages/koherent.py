"""koherent, from the working tree."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

from django.db import models

from benchmarks.packages.trail import Trail, Undoing
from benchmarks.seeding import Slice

PAGE = """
query($first: Int, $after: String, $last: Int, $before: String, $filters: HistoryFilter) {
  history(first: $first, after: $after, last: $last, before: $before, filters: $filters) {
    pageInfo { startCursor endCursor }
    edges { node { id action date model objectId user { id username } changes { field old new } } }
  }
}
"""


PARENTS = """
query($first: Int!) {
  samples(pagination: {limit: $first}) {
    id
    history(first: 3) { edges { node { id action date user { id username } changes { field old new } } } }
  }
}
"""


@cache
def schema() -> Any:
    """koherent's own query, without what it does not need, as the other packages have it in the lab's schema."""
    import strawberry

    import koherent.graphql

    return strawberry.Schema(query=koherent.graphql.Query, extensions=[koherent.graphql.KoherentExtension])


@cache
def optimized_schema() -> Any:
    """A schema as a team's would be: koherent's field on a type of the team's, and strawberry-django's optimizer."""
    import strawberry
    import strawberry_django
    from strawberry_django.optimizer import DjangoOptimizerExtension

    import koherent.graphql
    from benchmarks.lab.models import Sample

    @strawberry_django.type(Sample, pagination=True, ordering=None)
    class SampleType:
        id: strawberry.auto
        history: koherent.graphql.HistoryEntryConnection | None = koherent.graphql.history_field()

    @strawberry.type
    class Query(koherent.graphql.Query):
        samples: list[SampleType] = strawberry_django.field()

    return strawberry.Schema(query=Query, extensions=[DjangoOptimizerExtension, koherent.graphql.KoherentExtension])


def answer(schema: Any, query: str, reader: Any, variables: dict[str, Any]) -> Any:
    """The data of one operation. Raises its first error."""
    context = SimpleNamespace(request=SimpleNamespace(user=reader, headers={}))
    result = schema.execute_sync(query, variables, context_value=context)
    if result.errors:
        raise result.errors[0]
    return result.data or {}


class Koherent(Trail, Undoing):
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

    def seed_shared(self, entries: int) -> None:
        """The units of work, and an account that may read all."""
        from django.contrib.auth import get_user_model
        from django.contrib.auth.models import Permission

        from benchmarks import seeding
        from koherent.models import Assignation

        count = max(entries // 5, seeding.VERSIONS) // 20 + 1
        columns = {"assignation_id": "'task-' || n", "started_at": seeding.moment("(n * 100)")}
        seeding.insert(Assignation, count, columns)
        account: Any = get_user_model()
        reader = account.objects.create_user("reader")
        reader.user_permissions.set(Permission.objects.filter(content_type__app_label="lab"))

    def seed_slice(self, part: Slice) -> None:
        """History rows; half of them have an assignation."""
        from benchmarks import seeding
        from koherent import registry

        tracked = registry.for_model(part.model)
        assert tracked is not None
        user = seeding.user_key(self.users)
        columns = {
            **part.values,
            "history_date": part.date,
            "history_type": part.action,
            "history_user_id": user,
            "app": "'app-' || (n % 3)",
            "assignation_id": f"CASE WHEN {part.unit} % 2 = 0 THEN 'task-' || ({part.unit} / 2) END",
            "actor_id": f"'' || {user}",
            "actor_name": f"'user-' || {user}",
            "field_set": str(tracked.field_set),
        }
        seeding.insert(tracked.history_model, part.count, columns)

    def reader(self) -> Any:
        """An account without any right but to view, fresh, so that its rights are read anew."""
        from django.contrib.auth import get_user_model

        account: Any = get_user_model()
        return account.objects.get(username="reader")

    def page(self, reader: Any, first: int, object_id: int | None = None) -> list[Any]:
        """Its own root field, under its default policy."""
        filters = None if object_id is None else {"models": ["lab.sample"], "objectId": str(object_id)}
        edges: list[Any] = self.ask(reader, {"first": first, "filters": filters})["edges"]
        return [edge["node"] for edge in edges]

    def ask(self, reader: Any, variables: dict[str, Any]) -> Any:
        """The root field ``history`` with these variables."""
        return answer(schema(), PAGE, reader, variables)["history"]

    def parents(self, reader: Any, first: int) -> list[Any]:
        """Its field on a team's own type."""
        found: list[Any] = answer(optimized_schema(), PARENTS, reader, {"first": first})["samples"]
        return found

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """All history rows."""
        from benchmarks.lab.models import MODELS

        named = {"actor_id__isnull": False, "assignation_id__isnull": False}
        return [(model.history.model._default_manager.all(), named) for model in MODELS]

    def atomic(self) -> Any:
        """koherent's own unit of work, whose entries are written together."""
        import koherent

        return koherent.atomic()
