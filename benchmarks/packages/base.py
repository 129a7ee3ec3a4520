"""What a worker does with its package. The base is plain Django: the same work without any audit."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import models, transaction

if TYPE_CHECKING:
    from benchmarks.lab.schema import Entry
    from benchmarks.seeding import Slice

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
    #: Keys of the accounts that made the seeded entries; the last one hardly ever acts.
    users: list[int] = []

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

    def undo(self, model: type[models.Model], correlation_id: str) -> None:
        """Take back what a correlation id did to a model's objects."""
        raise NotImplementedError

    def entry_before(self, instance: models.Model) -> Any:
        """The entry before the newest one of an object."""
        raise NotImplementedError

    def undo_one(self, model: type[models.Model], key: Any) -> None:
        """Give an object the values of the entry with this key."""
        raise NotImplementedError

    def seed_history(self, entries: int) -> None:
        """So many entries over all models, and one long history, made inside the database; what was there goes."""
        from django.contrib.auth import get_user_model
        from django.contrib.contenttypes.models import ContentType
        from django.core.management import call_command

        from benchmarks import seeding
        from benchmarks.lab.models import MODELS

        call_command("flush", interactive=False, verbosity=0)
        ContentType.objects.clear_cache()
        self.setup()
        account: Any = get_user_model()
        made = [account.objects.create_user(f"user-{number}") for number in range(5)]
        self.users = [user.pk for user in made]
        self.seed_shared(entries)
        self.seed_objects(entries)
        for index, model in enumerate(MODELS):
            for part in seeding.slices(entries, index, model):
                self.seed_slice(part)

    def seed_objects(self, entries: int) -> None:
        """The live rows, without a trace in the trail."""
        from benchmarks import seeding
        from benchmarks.lab.models import MODELS

        for index, model in enumerate(MODELS):
            seeding.objects(entries, index, model)

    def seed_shared(self, entries: int) -> None:
        """What entries of all models refer to."""

    def seed_slice(self, part: "Slice") -> None:
        """A run of entries of one model."""
        raise NotImplementedError

    def reader(self) -> Any:
        """Who asks, as a request brings it."""
        return None

    def page(self, reader: Any, first: int, object_id: int | None = None) -> list[Any]:
        """The newest entries, or one sample's, with user and changes, through GraphQL."""
        from benchmarks.lab.schema import schema

        query = (
            "query($first: Int!, $object: Int) { entries(first: $first, objectId: $object) "
            "{ id action date model objectId user { id username } changes { field old new } } }"
        )
        result = schema.execute_sync(query, {"first": first, "object": object_id})
        if result.errors:
            raise result.errors[0]
        found: list[Any] = (result.data or {})["entries"]
        return found

    def ask(self, reader: Any, variables: dict[str, Any]) -> Any:
        """koherent's root field ``history`` with these variables."""
        raise NotImplementedError

    def parents(self, reader: Any, first: int) -> list[Any]:
        """So many samples, each with its three newest entries and their changes."""
        raise NotImplementedError

    def newest(self, first: int) -> list["Entry"]:
        """The newest entries of all models, as the shared schema shows them."""
        raise NotImplementedError

    def newest_of(self, object_id: int, first: int) -> list["Entry"]:
        """The newest entries of one sample."""
        raise NotImplementedError

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
