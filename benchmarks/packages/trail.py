"""What a package can do besides recording: show its entries, and take changes back."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from django.db import models

from benchmarks.packages.base import Package

if TYPE_CHECKING:
    from benchmarks.lab.schema import Entry
    from benchmarks.seeding import Slice


class Trail(Package, ABC):
    """A package whose entries can be made inside the database and read through GraphQL."""

    #: Keys of the accounts that made the seeded entries; the last one hardly ever acts.
    users: list[int] = []

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

    def seed_shared(self, entries: int) -> None:  # entries of some packages share nothing
        """What entries of all models refer to."""

    @abstractmethod
    def seed_slice(self, part: "Slice") -> None:
        """A run of entries of one model."""

    def reader(self) -> Any:
        """Who asks, as a request brings it."""
        return None

    @abstractmethod
    def page(self, reader: Any, first: int, object_id: int | None = None) -> list[Any]:
        """The newest entries, or one sample's, with user and changes, through GraphQL."""


class ListedTrail(Trail):
    """A package without a GraphQL of its own: the lab's schema shows what it lists."""

    def page(self, reader: Any, first: int, object_id: int | None = None) -> list[Any]:
        """The root field of the lab's schema."""
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

    @abstractmethod
    def newest(self, first: int) -> list["Entry"]:
        """The newest entries of all models, as the shared schema shows them."""

    @abstractmethod
    def newest_of(self, object_id: int, first: int) -> list["Entry"]:
        """The newest entries of one sample."""


class Undoing(Package, ABC):
    """A package that takes changes back."""

    @abstractmethod
    def undo(self, model: type[models.Model], correlation_id: str) -> None:
        """Take back what a correlation id did to a model's objects."""

    @abstractmethod
    def entry_before(self, instance: models.Model) -> Any:
        """The entry before the newest one of an object."""

    @abstractmethod
    def undo_one(self, model: type[models.Model], key: Any) -> None:
        """Give an object the values of the entry with this key."""
