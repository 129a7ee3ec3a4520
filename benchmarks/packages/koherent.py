"""koherent, from the working tree."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """All history rows."""
        from benchmarks.lab.models import MODELS

        named = {"actor_id__isnull": False, "assignation_id__isnull": False}
        return [(model.history.model._default_manager.all(), named) for model in MODELS]

    def atomic(self) -> Any:
        """koherent's own unit of work, where there is one."""
        import koherent

        return getattr(koherent, "atomic", super().atomic)()
