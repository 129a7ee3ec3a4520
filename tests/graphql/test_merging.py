"""koherent's root types join a team's schema by inheritance and by ``merge_types``, any number of times a process."""

from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import User
from strawberry import relay
from strawberry.federation import Schema as FederationSchema
from strawberry.tools import merge_types

import koherent.graphql
from example_schema.models import Project
from tests.graphql.asking import context

PAGE = "{ history { edges { node { __typename id ... on ProjectHistory { record { name } } typed { __typename } } } } }"


@strawberry.type
class Own:
    answer: int = 42


def schemas() -> list[Any]:
    @strawberry.type
    class Inherited(koherent.graphql.Query):
        answer: int = 42

    merged = merge_types("Query", (Own, koherent.graphql.Query))
    return [
        strawberry.Schema(query=Inherited),
        strawberry.Schema(query=merged, mutation=merge_types("Mutation", (koherent.graphql.Mutation,))),
        FederationSchema(query=Inherited),
    ]


@pytest.mark.django_db
def test_each_schema_reaches_every_concrete_type(admin: User) -> None:
    Project.objects.create(name="Cells")
    for schema in schemas():
        result = schema.execute_sync(PAGE, context_value=context(admin))
        assert result.errors is None
        [edge] = result.data["history"]["edges"]
        assert edge["node"]["__typename"] == edge["node"]["typed"]["__typename"] == "ProjectHistory"
        assert edge["node"]["record"] == {"name": "Cells"}
        assert relay.from_base64(edge["node"]["id"])[0] == "ProjectHistory"


@pytest.mark.django_db
def test_node_resolves_an_entry_under_the_same_policy(admin: User, django_user_model: type[User]) -> None:
    @strawberry.type
    class WithNode(koherent.graphql.Query):
        node: relay.Node | None = relay.node()

    schema = strawberry.Schema(query=WithNode)
    Project.objects.create(name="Cells")
    page = schema.execute_sync(PAGE, context_value=context(admin))
    assert page.data is not None
    id = page.data["history"]["edges"][0]["node"]["id"]
    query = "query($id: ID!) { node(id: $id) { id ... on ProjectHistory { objectLabel } } }"
    found = schema.execute_sync(query, {"id": id}, context_value=context(admin))
    assert (found.errors, found.data) == (None, {"node": {"id": id, "objectLabel": "Cells"}})
    nobody = schema.execute_sync(query, {"id": id}, context_value=context(django_user_model.objects.create_user("eve")))
    assert nobody.data == {"node": None}
    assert nobody.errors is not None
    assert (nobody.errors[0].extensions or {})["code"] == "FORBIDDEN"
