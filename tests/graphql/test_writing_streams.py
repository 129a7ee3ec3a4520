"""What a subscription changes is its own operation's, item by item, beside others on the same socket."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import strawberry
from channels.testing import WebsocketCommunicator
from django.contrib.auth.models import User

import koherent.graphql
from example_schema.models import Tag
from koherent.context import current_audit
from koherent.graphql import GraphQLWSConsumer, KoherentExtension
from tests.graphql.asking import in_thread
from tests.graphql.test_attribution import with_user

ITEMS = 5
turns: dict[str, asyncio.Barrier] = {}


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def write(self, name: str) -> AsyncIterator[str]:
        for number in range(ITEMS):
            await turns["write"].wait()
            await Tag.objects.acreate(name=f"{name} {number}")
            yield f"{name} {number}"


schema = strawberry.Schema(query=koherent.graphql.Query, subscription=Subscription, extensions=[KoherentExtension])
PROTOCOLS = [("graphql-transport-ws", "subscribe", "next"), ("graphql-ws", "start", "data")]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("protocol", "start", "item"), PROTOCOLS)
async def test_two_streams_on_one_socket_write_in_turns(admin: User, protocol: str, start: str, item: str) -> None:
    turns["write"] = asyncio.Barrier(2)
    application = with_user(GraphQLWSConsumer.as_asgi(schema=schema), admin)
    communicator = WebsocketCommunicator(application, "/graphql", subprotocols=[protocol])
    assert (await communicator.connect())[0]
    await communicator.send_json_to({"type": "connection_init", "payload": {"app": "connection"}})
    assert (await communicator.receive_json_from())["type"] == "connection_ack"
    for name in ("a", "b"):
        extensions = {"assignationId": f"task {name}", **({"app": "operation"} if name == "b" else {})}
        payload = {"query": f'subscription {{ write(name: "{name}") }}', "extensions": extensions}
        await communicator.send_json_to({"id": name, "type": start, "payload": payload})
    received = 0
    while received < 2 * ITEMS:
        message = await communicator.receive_json_from(timeout=10)
        assert "errors" not in (message.get("payload") or {}), message
        received += message["type"] == item
    await communicator.disconnect()

    def rows() -> list[tuple[Any, ...]]:
        history: Any = Tag.history
        return sorted(history.values_list("name", "actor_name", "app", "assignation_id"))

    assert await in_thread(rows) == [
        (f"{name} {number}", "root", app, f"task {name}")
        for name, app in (("a", "connection"), ("b", "operation"))
        for number in range(ITEMS)
    ]
    assert current_audit().app is None
