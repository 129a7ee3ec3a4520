"""What a worker does with its package. The base is plain Django: the same work without any audit."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, TypeVar

from django.db import models, transaction

M = TypeVar("M", bound=type[models.Model])


class Package:
    """Plain Django; a subclass says how its package is set up, attributed and asked to do the same work."""

    #: Added to INSTALLED_APPS.
    apps: Sequence[str] = ()
    #: Added to the settings.
    settings: dict[str, Any] = {}
    #: The distributions whose versions the report names.
    distributions: Sequence[str] = ("django",)
    user: Any = None

    def field(self, related_name: str) -> Any:
        """The history field of a lab model, or None where the package has none."""
        return None

    def track(self, model: M) -> M:
        """Register a lab model with the package."""
        return model

    def setup(self) -> None:
        """Make what attribution needs; the tables are there."""
        from django.contrib.auth import get_user_model

        self.user = get_user_model().objects.create_superuser("ada", "ada@example.org", None)

    @contextmanager
    def attributed(self) -> Iterator[str]:
        """Work inside is done by ``user`` under a correlation id of its own, which is given."""
        yield uuid.uuid4().hex

    def atomic(self) -> Any:
        """One transaction for several writes."""
        return transaction.atomic()

    def save(self, instance: models.Model) -> None:
        """One save."""
        instance.save()

    def bulk_create(self, model: type[models.Model], objects: list[Any]) -> None:
        """Insert many."""
        model._default_manager.bulk_create(objects)

    def update(self, queryset: Any, **values: Any) -> None:
        """Set the same values on many."""
        queryset.update(**values)

    def bulk_update(self, model: type[models.Model], objects: list[Any], fields: list[str]) -> None:
        """Write different values to many."""
        model._default_manager.bulk_update(objects, fields)

    def delete(self, queryset: Any) -> None:
        """Delete many and what hangs on them."""
        queryset.delete()

    def change(self, queryset: Any, **values: Any) -> None:
        """Set the same values on many, in a way that ``undo`` can find by its correlation id."""
        self.update(queryset, **values)

    def entries(self) -> list[tuple[Any, dict[str, Any]]]:
        """Querysets of all that was recorded, each with the filter that only attributed rows pass."""
        return []

    def recorded(self) -> tuple[int, int]:
        """How many entries there are, and how many of them name both user and correlation id."""
        found = self.entries()
        return sum(rows.count() for rows, _ in found), sum(rows.filter(**named).count() for rows, named in found)

    def versions(self) -> dict[str, str]:
        """Distribution to version."""
        return {name: version(name) for name in self.distributions}
