"""The example's schema, asked over every transport."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User

from example_schema.schema import schema
from tests.graphql.asking import context

Ask = Callable[..., Any]


@pytest.fixture
def ask(admin: User) -> Ask:
    """``ask(query, user=..., headers=..., extensions=..., **variables)`` under ``execute_sync``; the result."""

    def run(query: str, *, user: Any = admin, headers: Any = None, extensions: Any = None, **variables: Any) -> Any:
        return schema.execute_sync(
            query,
            variable_values=variables,
            context_value=context(user, headers),
            operation_extensions=extensions,
        )

    return run


@pytest.fixture
def dict_context(admin: User) -> dict[str, Any]:
    """A context that is a mapping."""
    return {"request": SimpleNamespace(user=admin, headers={"X-Assignation-Id": "task-1"})}
