"""The contenders: koherent's subscription, one that reads the row for each subscriber, and a bare consumer."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from urllib.parse import parse_qs

import strawberry
from channels.auth import AuthMiddlewareStack
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path

from benchmarks.feed.client import NAME
from benchmarks.feed.run import BY_HAND, KOHERENT
from example_schema.models import Tag
from example_schema.schema import schema
from koherent import commits
from koherent.feed.doorbell import ring
from koherent.graphql import GraphQLWSConsumer
from koherent.policy import Policy, Viewer

GROUP = "benchmark"


class Unshared(Policy):
    """The default rules, but nobody shares."""

    def rights_key(self, viewer: Viewer) -> None:
        return None


@strawberry.type
class User:
    username: str


@strawberry.type
class Entry:
    id: strawberry.ID
    action: str
    model: str
    object_id: strawberry.ID
    object_label: str
    date: str
    user: User | None
    app: str | None
    assignation_id: strawberry.ID | None


@strawberry.type
class Item:
    cursor: str
    entry: Entry | None


def read(history_id: int) -> Entry:
    """One row by its key: what a subscriber does that is told of it."""
    row: Any = Tag.history.get(history_id=history_id)
    return Entry(
        id=strawberry.ID(str(row.history_id)),
        action=row.history_type,
        model="example_schema.tag",
        object_id=strawberry.ID(str(row.id)),
        object_label=row.name,
        date=row.history_date.isoformat(),
        user=None if row.actor_id is None else User(username=row.actor_name or ""),
        app=row.app,
        assignation_id=row.assignation_id,
    )


@strawberry.type
class ByHand:
    @strawberry.subscription
    async def history_entries(self, info: strawberry.Info) -> AsyncGenerator[Item, None]:
        socket: Any = info.context["ws"]
        async with socket.listen_to_channel("entry", groups=[GROUP]) as messages:
            yield Item(cursor="", entry=None)
            async for message in messages:
                entry = await database_sync_to_async(read)(message["id"])
                yield Item(cursor=str(message["id"]), entry=entry)


@strawberry.type
class Query:
    nothing: str = ""


class BareConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Sends what the layer brings."""

    async def connect(self) -> None:
        """Join the group of the document that the query string names."""
        document = parse_qs(self.scope["query_string"].decode())["document"][0]
        await self.channel_layer.group_add(f"{GROUP}{document}", self.channel_name)
        await self.accept(self.scope["subprotocols"][0])
        await self.send("joined")

    async def entry_text(self, message: dict[str, Any]) -> None:
        """One entry's bytes."""
        await self.send(message["text"])

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Clients say nothing that matters."""


def application() -> Any:
    """All three, each at a path of its own, behind Django's sessions."""
    by_hand = strawberry.Schema(query=Query, subscription=ByHand)
    routes = [
        re_path("^koherent$", GraphQLWSConsumer.as_asgi(schema=schema)),
        re_path("^byhand$", GraphQLWSConsumer.as_asgi(schema=by_hand)),
        re_path("^bare$", BareConsumer.as_asgi()),
    ]
    return ProtocolTypeRouter({"websocket": AuthMiddlewareStack(URLRouter(routes))})


class Announcer:
    """What the contenders that are not koherent do after a commit; ``loop`` is where the layer lives."""

    def __init__(self, way: str, texts: Sequence[str], loop: asyncio.AbstractEventLoop) -> None:
        self.way, self.texts, self.loop = way, texts, loop
        #: Of the object that is being written: what clients know the entry by.
        self.name = ""
        # Everything else that hears of commits would only take time from them.
        commits.on_committed[:] = [ring] if way == KOHERENT else [self]

    def __call__(self, using: str, keys: Sequence[tuple[str, int]]) -> None:
        for _, history_id in keys:
            asyncio.run_coroutine_threadsafe(self._send(history_id, self.name), self.loop)

    async def _send(self, history_id: int, name: str) -> None:
        layer: Any = get_channel_layer()
        if self.way == BY_HAND:
            await layer.group_send(GROUP, {"type": "entry", "id": history_id})
            return
        for document, text in enumerate(self.texts):
            message = {"type": "entry.text", "text": text.replace(NAME, name)}
            await layer.group_send(f"{GROUP}{document}", message)


def own_loop() -> asyncio.AbstractEventLoop:
    """A loop in a thread, for a process that runs none."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True, name=f"layer-{os.getpid()}").start()
    return loop
