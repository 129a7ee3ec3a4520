"""Helpers of these tests."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, TypeVar

from asgiref.sync import sync_to_async

from example_schema.models import Project

R = TypeVar("R")
CREATE = (
    'mutation { createProject(data: {name: "Cells"}) '
    "{ ... on Project { id name } ... on OperationInfo { messages { message } } } }"
)


def context(user: Any, headers: Any = None) -> Any:
    """A context object with a request, as views make it."""
    return SimpleNamespace(request=SimpleNamespace(user=user, headers=headers or {}))


def codes(result: Any) -> list[Any]:
    """The codes of a result's errors."""
    return [(error.extensions or {}).get("code") for error in result.errors or ()]


def written() -> list[tuple[Any, ...]]:
    """Who wrote what about projects: (type, actor, app, assignation, reason)."""
    names = ("history_type", "actor_name", "app", "assignation_id", "history_change_reason")
    return list(Project.history.order_by("history_id").values_list(*names))


async def in_thread(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Synchronous code, from an asynchronous test, on the connection that resolvers use."""
    return await sync_to_async(function)(*args, **kwargs)
