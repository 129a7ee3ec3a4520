"""A service's federation schema as Kante makes it, with the trail in it."""

import kante
import strawberry
import strawberry_django
from authentikate.strawberry import AuthentikateExtension
from kante.scoping import OrganizationScoper
from strawberry_django import mutations

import koherent.graphql
from example_schema import models
from koherent.graphql import KoherentExtension

for_everybody = OrganizationScoper(unscoped_models={"Project"}).for_org


@kante.django_type(models.Project)
class Project:
    id: strawberry.auto
    name: strawberry.auto


@strawberry_django.input(models.Project)
class ProjectInput:
    name: strawberry.auto


@strawberry.type
class Query(koherent.graphql.Query):
    projects: list[Project] = strawberry_django.field()


@strawberry.type
class Mutation(koherent.graphql.Mutation):
    create_project: Project = mutations.create(ProjectInput)

    @strawberry.mutation
    async def create_later(self, name: str) -> str:
        project = await models.Project.objects.acreate(name=name)
        return project.name


@strawberry.type
class Subscription(koherent.graphql.Subscription):
    pass


schema = kante.Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    extensions=[AuthentikateExtension, KoherentExtension],
)
