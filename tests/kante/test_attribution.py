"""Kante's transports, authentikate's accounts, clients and tasks, attributed by a koherent that knows neither."""

import json
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from authentikate.models import User
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.urls import re_path
from joserfc import jwt
from kante.consumers import KanteWsConsumer
from kante.router import router

from example_schema.models import Project
from koherent.graphql import GraphQLWSConsumer
from tests.kante import settings
from tests.kante.schema import schema

pytestmark = pytest.mark.django_db(transaction=True)
CREATE = 'mutation { createProject(data: {name: "%s"}) { name } }'


class SocketConsumer(GraphQLWSConsumer, KanteWsConsumer):  # type: ignore[misc]  # Kante is not in this environment
    """Kante's socket consumer, plus koherent's per-operation extensions."""


per_operation = ProtocolTypeRouter(
    {"websocket": URLRouter([re_path("^graphql", SocketConsumer.as_asgi(schema=schema))])}
)


def signed(key_id: str, claims: dict[str, Any], key: Any) -> str:
    return str(jwt.encode({"alg": "Ed25519", "kid": key_id}, claims, key, algorithms=["Ed25519"]))


def account(sub: str = "7", client: str = "microscope") -> str:
    """The token of an account, acting through a client."""
    claims = {
        "sub": sub,
        "iss": settings.ISSUER,
        "aud": [settings.SERVICE],
        "exp": int(time.time()) + 60,
        "iat": int(time.time()),
        "client_id": client,
        "preferred_username": "ada",
        "org": "1",
        "roles": ["admin"],
        "scope": "openid",
    }
    return signed("accounts", claims, settings.ACCOUNT_KEY)


def task(sub: str = "7", client: str = "microscope") -> str:
    """The token of a task that this account works on through this client."""
    claims = {
        "iss": settings.TASKS,
        "aud": [settings.SERVICE],
        "sub": "9",
        "act": {"sub": sub, "cid": client},
        "iat": int(time.time()),
        "exp": int(time.time()) + 60,
        "jti": "1",
        "tsk": "task-2",
        "ptk": "task-1",
        "rtk": "task-1",
        "rcb": "9",
        "ahs": "0",
        "aha": "sha256-canonical-v1",
    }
    return signed("tasks", claims, settings.TASK_KEY)


async def post(query: str, **headers: str) -> Any:
    raw = [(b"content-type", b"application/json")]
    raw += [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    communicator = HttpCommunicator(router(schema), "POST", "/graphql", json.dumps({"query": query}).encode(), raw)
    return json.loads((await communicator.get_response(timeout=10))["body"])


async def connect(application: Any, **params: str) -> Any:
    communicator = WebsocketCommunicator(application, "/graphql", subprotocols=["graphql-transport-ws"])
    assert (await communicator.connect(timeout=10))[0]
    await communicator.send_json_to({"type": "connection_init", "payload": params})
    assert (await communicator.receive_json_from(timeout=10))["type"] == "connection_ack"
    return communicator


async def operate(communicator: Any, query: str, id: str = "1", **payload: Any) -> Any:
    await communicator.send_json_to({"id": id, "type": "subscribe", "payload": {"query": query, **payload}})
    message = await communicator.receive_json_from(timeout=10)
    assert message["type"] == "next", message
    assert "errors" not in message["payload"], message
    return message["payload"]["data"]


@sync_to_async
def rows() -> list[tuple[Any, ...]]:
    """Who wrote what: (object, subject of the account, client, assignation, metadata)."""
    subjects = {str(user.pk): user.sub for user in User.objects.all()}
    names = {str(user.pk): user.username for user in User.objects.all()}
    history: Any = Project.history
    entries = list(history.order_by("history_id"))
    assert all(row.actor_name == names.get(row.actor_id) for row in entries)
    return [(row.name, subjects.get(row.actor_id), row.app, row.assignation_id, row.metadata) for row in entries]


async def test_http_names_the_account_the_client_and_the_assignation() -> None:
    found = await post(CREATE % "a", authorization=f"Bearer {account()}", x_assignation_id="sent")
    assert found == {"data": {"createProject": {"name": "a"}}}
    await post('mutation { createLater(name: "b") }', authorization=f"Bearer {account('8', 'tablet')}")
    assert await rows() == [("a", "7", "microscope", "sent", {}), ("b", "8", "tablet", None, {})]


async def test_a_verified_task_is_the_assignation() -> None:
    await post(CREATE % "a", authorization=f"Bearer {account()}", rekuest_task=task())
    await post(CREATE % "b", authorization=f"Bearer {account()}", rekuest_task=task(), x_assignation_id="sent")
    assert await rows() == [
        ("a", "7", "microscope", "task-2", {"root_task": "task-1"}),
        ("b", "7", "microscope", "sent", {"root_task": "task-1"}),
    ]


async def test_a_task_of_somebody_else_is_refused() -> None:
    found = await post(CREATE % "a", authorization=f"Bearer {account('8')}", rekuest_task=task())
    assert len(found["errors"]) == 1
    assert await rows() == []


async def test_a_socket_names_the_account_the_client_and_the_task() -> None:
    communicator = await connect(router(schema), token=account(), **{"rekuest-task": task()})
    assert await operate(communicator, CREATE % "a") == {"createProject": {"name": "a"}}
    await communicator.disconnect()
    other = await connect(router(schema), token=account("8", "tablet"), assignationId="sent")
    await operate(other, CREATE % "b")
    await other.disconnect()
    assert await rows() == [
        ("a", "7", "microscope", "task-2", {"root_task": "task-1"}),
        ("b", "8", "tablet", "sent", {}),
    ]


async def test_a_socket_may_carry_operations_of_many_assignations() -> None:
    communicator = await connect(per_operation, token=account())
    for number in (1, 2):
        extensions = {"assignationId": f"sent-{number}", "app": f"app-{number}"}
        await operate(communicator, CREATE % number, str(number), extensions=extensions)
        assert (await communicator.receive_json_from(timeout=10))["type"] == "complete"
    await communicator.disconnect()
    assert await rows() == [("1", "7", "app-1", "sent-1", {}), ("2", "7", "app-2", "sent-2", {})]


async def test_the_trail_is_part_of_the_federation_schema() -> None:
    sdl = schema.as_str()
    assert "type ProjectHistory implements HistoryEntry & Node" in sdl
    bearer = f"Bearer {account()}"
    await post(CREATE % "a", authorization=bearer, x_assignation_id="sent")
    service = await post("{ _service { sdl } }", authorization=bearer)
    assert "type ProjectHistory" in service["data"]["_service"]["sdl"]
    refused = await post("{ history { totalCount } }", authorization=bearer)
    assert refused["errors"][0]["extensions"]["code"] == "FORBIDDEN"
    await User.objects.aupdate(is_superuser=True)
    query = "{ history { edges { node { model objectLabel app assignationId user { username } } } } }"
    [edge] = (await post(query, authorization=bearer))["data"]["history"]["edges"]
    username = (await User.objects.aget()).username
    assert edge["node"] == {
        "model": "example_schema.project",
        "objectLabel": "a",
        "app": "microscope",
        "assignationId": "sent",
        "user": {"username": username},
    }
    project = await Project.objects.aget()
    reference = f'{{ _entities(representations: [{{__typename: "Project", id: "{project.pk}"}}]) {{ ...P }} }}'
    found = await post(f"{reference} fragment P on Project {{ name }}", authorization=bearer)
    assert found == {"data": {"_entities": [{"name": "a"}]}}


async def test_the_trail_is_live_on_kantes_sockets_and_can_be_undone() -> None:
    bearer = f"Bearer {account()}"
    await post(CREATE % "a", authorization=bearer, x_assignation_id="sent")
    await User.objects.aupdate(is_superuser=True)
    communicator = await connect(router(schema), token=account())
    first = await operate(communicator, "subscription { historyEntries { entry { objectLabel action app } } }")
    assert first == {"historyEntries": {"entry": None}}
    undo = 'mutation { revertAssignation(assignationId: "sent") { ... on RevertReport { status } } }'
    assert await post(undo, authorization=bearer) == {"data": {"revertAssignation": {"status": "APPLIED"}}}
    message = await communicator.receive_json_from(timeout=15)
    assert message["payload"]["data"] == {
        "historyEntries": {"entry": {"objectLabel": "a", "action": "DELETE", "app": "microscope"}}
    }
    await communicator.disconnect()
    assert [row[1:3] for row in await rows()] == [("7", "microscope")] * 2


async def test_without_a_token_nothing_is_written() -> None:
    found = await post(CREATE % "a", x_assignation_id="sent")
    assert found["data"] is None
    assert len(found["errors"]) == 1
    assert await rows() == []
