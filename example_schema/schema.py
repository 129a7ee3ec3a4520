"""The example's GraphQL schema: the notebook's own types and mutations, and koherent's by inheritance."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import strawberry
import strawberry_django
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from strawberry.extensions import MaxAliasesLimiter, MaxTokensLimiter, QueryDepthLimiter, SchemaExtension
from strawberry.extensions.field_extension import AsyncExtensionResolver, FieldExtension, SyncExtensionResolver
from strawberry_django import auth, mutations
from strawberry_django.optimizer import DjangoOptimizerExtension

import koherent.graphql
from example_schema import models
from example_schema.errors import CodedErrors
from koherent.errors import Forbidden, KoherentError, Unauthenticated
from koherent.graphql import HistoryEntryConnection, KoherentExtension, history_field
from koherent.graphql.errors import coded
from koherent.graphql.requests import viewer_of
from koherent.graphql.resolving import in_sync


class Requires(FieldExtension):
    """Refuses a field, with a code, to everybody without a model permission such as ``example_schema.add_tag``."""

    def __init__(self, permission: str) -> None:
        self.permission = permission

    def _check(self, info: strawberry.Info) -> None:
        viewer = viewer_of(info)
        error: KoherentError | None = None
        if not viewer.is_active:
            error = Unauthenticated("Log in first.")
        elif not viewer.user.has_perm(self.permission):
            error = Forbidden("You may not do this.", permission=self.permission)
        if error is not None:
            raise coded(error)

    def resolve(self, next_: SyncExtensionResolver, source: Any, info: strawberry.Info, **kwargs: Any) -> Any:
        """Check, then resolve; under async execution the check runs in a thread."""
        checked: Any = in_sync(lambda: self._check(info))
        if not inspect.isawaitable(checked):
            return next_(source, info, **kwargs)

        async def after_check() -> Any:
            await checked
            result = next_(source, info, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return after_check()

    async def resolve_async(
        self, next_: AsyncExtensionResolver, source: Any, info: strawberry.Info, **kwargs: Any
    ) -> Any:
        """Check in a thread, then resolve."""
        await sync_to_async(self._check)(info)
        return await next_(source, info, **kwargs)


def requires(permission: str) -> list[FieldExtension]:
    """The extensions of a field that asks for a permission of this app."""
    return [Requires(f"example_schema.{permission}")]


def writes(permission: str) -> dict[str, Any]:
    """The options of a mutation: who may call it, and bad values come back as ``OperationInfo``."""
    return {"extensions": requires(permission), "handle_django_errors": True}


@strawberry_django.type(get_user_model(), description="An account.")
class User:
    id: strawberry.auto = strawberry_django.field(description="Primary key.")
    username: strawberry.auto = strawberry_django.field(description="Name to log in with.")


@strawberry_django.type(models.Project, description="A project holds datasets.", pagination=True)
class Project:
    id: strawberry.auto = strawberry_django.field(description="Primary key.")
    name: strawberry.auto = strawberry_django.field(description="Unique name.")
    description: strawberry.auto = strawberry_django.field(description="What the project is about.")
    datasets: list["Dataset"] = strawberry_django.field(description="Its datasets.")


@strawberry_django.type(models.Tag, description="A tag describes datasets.", pagination=True)
class Tag:
    id: strawberry.auto = strawberry_django.field(description="Primary key.")
    name: strawberry.auto = strawberry_django.field(description="Unique name.")


@strawberry_django.type(models.Dataset, description="A dataset holds images.", pagination=True)
class Dataset:
    id: strawberry.auto = strawberry_django.field(description="Primary key.")
    project: Project = strawberry_django.field(description="The project it belongs to.")
    title: strawberry.auto = strawberry_django.field(description="A short title for people.")
    status: strawberry.auto = strawberry_django.field(description="`draft` or `published`.")
    tags: list[Tag] = strawberry_django.field(description="Its tags.")
    images: list["Image"] = strawberry_django.field(description="Its images.")
    created_at: strawberry.auto = strawberry_django.field(description="When it was created.")
    updated_at: strawberry.auto = strawberry_django.field(description="When it was last saved.")
    history: HistoryEntryConnection | None = history_field()


@strawberry_django.type(models.Image, description="An image of a dataset.", pagination=True)
class Image:
    id: strawberry.auto = strawberry_django.field(description="Primary key.")
    dataset: Dataset = strawberry_django.field(description="The dataset it belongs to.")
    name: strawberry.auto = strawberry_django.field(description="Name.")
    width: strawberry.auto = strawberry_django.field(description="Width in pixels.")
    height: strawberry.auto = strawberry_django.field(description="Height in pixels.")
    exposure_ms: strawberry.auto = strawberry_django.field(description="Exposure time in milliseconds.")
    extra: strawberry.auto = strawberry_django.field(description="What else is known.")


@strawberry_django.input(models.Project, description="A new project.")
class ProjectInput:
    name: strawberry.auto
    description: strawberry.auto


@strawberry_django.partial(models.Project, description="Changes to a project.")
class ProjectPatch:
    id: strawberry.ID
    name: strawberry.auto
    description: strawberry.auto


@strawberry_django.input(models.Tag, description="A new tag.")
class TagInput:
    name: strawberry.auto


@strawberry_django.partial(models.Tag, description="Changes to a tag.")
class TagPatch:
    id: strawberry.ID
    name: strawberry.auto


@strawberry_django.input(models.Dataset, description="A new dataset.")
class DatasetInput:
    project: strawberry.auto
    title: strawberry.auto
    status: strawberry.auto
    access_notes: strawberry.auto
    tags: strawberry.auto


@strawberry_django.partial(models.Dataset, description="Changes to a dataset.")
class DatasetPatch:
    id: strawberry.ID
    project: strawberry.auto
    title: strawberry.auto
    status: strawberry.auto
    access_notes: strawberry.auto
    tags: strawberry.auto


@strawberry_django.input(models.Image, description="A new image.")
class ImageInput:
    dataset: strawberry.auto
    name: strawberry.auto
    width: strawberry.auto
    height: strawberry.auto
    exposure_ms: strawberry.auto
    extra: strawberry.auto


@strawberry_django.partial(models.Image, description="Changes to an image.")
class ImagePatch:
    id: strawberry.ID
    dataset: strawberry.auto
    name: strawberry.auto
    width: strawberry.auto
    height: strawberry.auto
    exposure_ms: strawberry.auto
    extra: strawberry.auto


@strawberry_django.input(models.Project, description="The object to delete.")
class DeleteInput:
    id: strawberry.ID


@strawberry.type(description="The notebook, and its audit trail.")
class Query(koherent.graphql.Query):
    projects: list[Project] = strawberry_django.field(description="All projects.", extensions=requires("view_project"))
    datasets: list[Dataset] = strawberry_django.field(description="All datasets.", extensions=requires("view_dataset"))
    images: list[Image] = strawberry_django.field(description="All images.", extensions=requires("view_image"))
    tags: list[Tag] = strawberry_django.field(description="All tags.", extensions=requires("view_tag"))


@strawberry.type(description="Changes to the notebook, and how to undo them.")
class Mutation(koherent.graphql.Mutation):
    login: User | None = auth.login(description="Log in.")
    logout: bool = auth.logout(description="Log out.")

    create_project: Project = mutations.create(ProjectInput, description="Create a project.", **writes("add_project"))
    update_project: Project = mutations.update(
        ProjectPatch, description="Change a project.", **writes("change_project")
    )
    delete_project: Project = mutations.delete(
        DeleteInput, description="Delete a project and its datasets.", **writes("delete_project")
    )
    create_tag: Tag = mutations.create(TagInput, description="Create a tag.", **writes("add_tag"))
    update_tag: Tag = mutations.update(TagPatch, description="Change a tag.", **writes("change_tag"))
    delete_tag: Tag = mutations.delete(DeleteInput, description="Delete a tag.", **writes("delete_tag"))
    create_dataset: Dataset = mutations.create(DatasetInput, description="Create a dataset.", **writes("add_dataset"))
    update_dataset: Dataset = mutations.update(
        DatasetPatch, description="Change a dataset.", **writes("change_dataset")
    )
    delete_dataset: Dataset = mutations.delete(
        DeleteInput, description="Delete a dataset and its images.", **writes("delete_dataset")
    )
    create_image: Image = mutations.create(ImageInput, description="Create an image.", **writes("add_image"))
    update_image: Image = mutations.update(ImagePatch, description="Change an image.", **writes("change_image"))
    delete_image: Image = mutations.delete(DeleteInput, description="Delete an image.", **writes("delete_image"))


@strawberry.type(description="The live trail.")
class Subscription(koherent.graphql.Subscription):
    pass


# What an operation may ask for at most, whoever asks.
limits: list[Callable[[], SchemaExtension]] = [
    partial(MaxTokensLimiter, max_token_count=2_000),
    partial(MaxAliasesLimiter, max_alias_count=100),
    partial(QueryDepthLimiter, max_depth=12),
]

# koherent's extension is last: when a later one raises on entry, Strawberry does not unwind the earlier ones.
schema = koherent.graphql.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    extensions=[CodedErrors, *limits, DjangoOptimizerExtension, KoherentExtension],
)
