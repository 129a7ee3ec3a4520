"""The example bounds what an operation may ask for, and codes what its own resolvers raise."""

from collections.abc import Callable
from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import User
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from graphql import GraphQLError, get_introspection_query

from example_schema.errors import CodedErrors
from example_schema.schema import schema
from tests.graphql.asking import context
from tests.security.questions import HISTORY

pytestmark = pytest.mark.django_db


def ask(user: User, query: str) -> Any:
    return schema.execute_sync(query, context_value=context(user))


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("{ " + "__typename " * 2_001 + "}", "tokens"),
        ("{ " + "".join(f"a{n}: __typename " for n in range(101)) + "}", "aliases"),
        ("{ datasets { " + "project { datasets { " * 6 + "id" + " } }" * 6 + " } }", "depth"),
    ],
)
def test_what_asks_for_too_much_is_refused_before_it_runs(admin: User, query: str, word: str) -> None:
    result = ask(admin, query)
    assert result.data is None
    [error] = result.errors
    assert word in error.message.lower()
    assert error.path is None


@pytest.mark.parametrize("query", [get_introspection_query(), HISTORY])
def test_what_tools_and_clients_ask_is_not_too_much(admin: User, query: str) -> None:
    assert ask(admin, query).errors is None


def raising(error: Exception) -> Callable[[], str]:
    def resolver() -> str:
        raise error

    return resolver


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (RuntimeError("the key is s3cret"), "INTERNAL", "Unexpected error."),
        (ValidationError("Too short."), "BAD_INPUT", "Too short."),
        (ObjectDoesNotExist("s3cret"), "NOT_FOUND", "There is no such object."),
        (PermissionDenied("s3cret"), "FORBIDDEN", "You may not do this."),
        (GraphQLError("As it is."), "BAD_INPUT", "As it is."),
        (GraphQLError("Coded.", extensions={"code": "OWN"}), "OWN", "Coded."),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_error_of_a_resolver_has_a_code(error: Exception, code: str, message: str) -> None:
    @strawberry.type
    class Query:
        word: str = strawberry.field(resolver=raising(error))

    result = strawberry.Schema(query=Query, extensions=[CodedErrors]).execute_sync("{ word }")
    assert result.errors is not None
    [found] = result.errors
    assert (found.message, found.extensions, found.path) == (message, {"code": code}, ["word"])


def test_graphqls_own_errors_stay_as_they_are(admin: User) -> None:
    [error] = ask(admin, "{ nonsense }").errors
    assert "code" not in (error.extensions or {})
