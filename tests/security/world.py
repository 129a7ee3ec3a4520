"""What is in the trail of these tests: visible and invisible entries, side by side and about the same objects."""

from types import SimpleNamespace
from typing import Any

import strawberry
from django.contrib.auth.models import User
from strawberry import relay
from strawberry.extensions import ParserCache, ValidationCache
from strawberry_django.optimizer import DjangoOptimizerExtension

import koherent
from example_schema import schema as example
from example_schema.models import Dataset, Image, Project, Tag
from koherent.graphql import KoherentExtension
from koherent.policy import Viewer
from koherent.registry import tracked_models
from koherent.revert import revert_assignation


@strawberry.type
class Query(example.Query):
    """The example's, and relay's door to everything that has an id."""

    node: relay.Node | None = relay.node()


#: The example's schema, which checks a question once however often it is asked.
schema = strawberry.Schema(
    query=Query,
    mutation=example.Mutation,
    subscription=example.Subscription,
    extensions=[ParserCache, ValidationCache, DjangoOptimizerExtension, KoherentExtension],
)
MODELS = (Project, Tag, Dataset, Image)
#: A value that is in hidden entries, hidden objects and redacted fields only.
SECRET = "s3cret"
#: A value that is in tags only.
OF_TAGS = "of-t4gs"


class World:
    """Makes the trail; ``ask()`` asks as one of its users, ``hide_more()`` adds what the lesser one does not see."""

    def __init__(self, greater: User, lesser: User) -> None:
        self.greater, self.lesser = greater, lesser
        with self.openly("work", reason="because"):
            self.project = Project.objects.create(name="Moon")
            self.dataset = Dataset.objects.create(project=self.project, title="Craters", access_notes=SECRET)
            self.image = Image.objects.create(dataset=self.dataset, name="one", width=1, height=2)
        with self.secretly("work"):
            # Hidden entries of an assignation, and of objects, that are visible for the rest.
            Project.objects.create(name=f"{SECRET} of work")
            self.image.name = SECRET
            self.image.save()
            self.image.name = "one"
            self.image.save()
        with self.openly("more"):
            # Two hidden entries lie between this one and the visible one before it.
            self.image.width = 8
            self.image.save()
            self.tag = Tag.objects.create(name=OF_TAGS)
            self.dataset.tags.add(self.tag)
            self.dataset.status = Dataset.Status.PUBLISHED
            self.dataset.access_notes = f"{SECRET} too"
            self.dataset.save()
        with self.openly("gone"):
            gone = Image.objects.create(dataset=self.dataset, name="gone", width=3, height=4)
            gone.delete()
            Image.objects.create(dataset=self.dataset, name="stays", width=5, height=6)
        with self.secretly("hidden"):
            self.hidden_project = Project.objects.create(name=f"{SECRET} project")
            self.hidden_dataset = Dataset.objects.create(project=self.hidden_project, title=SECRET)
        with self.secretly("hidden"):
            adopted = Image.objects.create(dataset=self.dataset, name=SECRET, width=7, height=8)
        with self.openly("adopts"):
            # A visible entry of an object whose beginning is hidden.
            adopted.name = "adopted"
            adopted.save()
        with self.openly("moves"):
            # A visible entry that refers to an object of which nothing is visible.
            moved = Dataset.objects.create(project=self.project, title="Moves")
            moved.project = self.hidden_project
            moved.save()
        with self.openly("undone"):
            self.project.description = "to be undone"
            self.project.save()
        with koherent.audit(user=self.lesser, app="lab"):
            self.undone = revert_assignation(Viewer(user=self.greater), "undone").assignation_id
        with self.openly("mars"):
            mars = Project.objects.create(name="Mars")
        for assignation in ("early", "late"):
            with self.openly(assignation):
                mars.description = assignation
                mars.save()
        with self.secretly("x"):
            self.undone_again = revert_assignation(Viewer(user=self.greater), "more", dry_run=False).assignation_id
            revert_assignation(Viewer(user=self.greater), str(self.undone_again))

    def openly(self, assignation: str, reason: str | None = None) -> Any:
        """What the lesser user sees."""
        return koherent.audit(
            user=self.lesser, app="lab", assignation_id=assignation, reason=reason, ticket=7, address=SECRET
        )

    def secretly(self, assignation: str) -> Any:
        """What only the greater user sees."""
        return koherent.audit(user=self.greater, app="secret", assignation_id=assignation, reason=SECRET, ticket=8)

    def hide_more(self) -> None:
        """Write a lot that the lesser user does not see; live rows that they see stay as they are."""
        with self.secretly("hidden"):
            for number in range(3):
                self.hidden_dataset.title = f"{SECRET} {number}"
                self.hidden_dataset.save()
            Dataset.objects.create(project=self.hidden_project, title=f"{SECRET} more").delete()
        with self.secretly("new"):
            Project.objects.create(name=f"{SECRET} new")
            Tag.objects.create(name=f"{SECRET} {OF_TAGS}")
        with self.openly("hidden model"):
            Tag.objects.create(name=f"{OF_TAGS} again")
        with self.secretly("x"):
            revert_assignation(Viewer(user=self.greater), "new")

    def hide_more_of_what_shows(self) -> None:
        """Hidden entries of objects and assignations that the lesser user knows."""
        with self.secretly("work"):
            Project.objects.filter(pk=self.project.pk).update(name=f"{SECRET} name", description=SECRET)
            Dataset.objects.filter(pk=self.dataset.pk).update(title=f"{SECRET} title")
            Image.objects.filter(name="stays").delete()
            Project.objects.create(name=f"{SECRET} again")
        with self.secretly("y"):
            revert_assignation(Viewer(user=self.greater), "undone")

    def ask(self, user: Any, query: str, **variables: Any) -> Any:
        """The result of an operation."""
        return schema.execute_sync(query, variable_values=variables, context_value=context_of(user))

    @staticmethod
    def entries() -> list[tuple[str, int]]:
        """(GraphQL type, history id) of every entry there is."""
        return [
            (f"{tracked.type_name}History", history_id)
            for tracked in tracked_models()
            for history_id in tracked.history_model._base_manager.order_by("pk").values_list("pk", flat=True)
        ]


def context_of(user: Any) -> Any:
    """What a view hands to an operation of this user."""
    return SimpleNamespace(request=SimpleNamespace(user=fresh(user), headers={}))


def fresh(user: Any) -> Any:
    """The account without what it remembers of its permissions; who is none stays as they are."""
    return user if user is None or user.pk is None else User.objects.get(pk=user.pk)
