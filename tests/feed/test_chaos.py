"""A channel layer that drops, delays, doubles, reorders and raises; nobody misses anything for it.

What is committed here rings as another process would: through the layer alone.
"""

import asyncio
import random
import threading
from contextlib import aclosing
from typing import Any, ClassVar

import pytest
from channels.layers import BaseChannelLayer, InMemoryChannelLayer, channel_layers

from example_schema.models import Tag
from koherent.conf import settings as conf
from koherent.feed import hub as hubs
from koherent.feed import subscribe
from koherent.feed.doorbell import Doorbell
from koherent.policy import Viewer
from tests.feed.conftest import do, entries, following, names

pytestmark = pytest.mark.django_db(transaction=True)
COUNT = 40


class Chaos(BaseChannelLayer):  # type: ignore[misc]
    """Carries messages between event loops, badly: ``fault`` says how."""

    faults: ClassVar = ("drop", "delay", "double", "reorder", "send", "receive", "group_add", "all")

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.fault, self.chance = fault, random.Random(fault)
        self.lock = threading.Lock()
        self.members: dict[str, tuple[asyncio.AbstractEventLoop, asyncio.Queue[dict[str, Any]]]] = {}
        self.held: list[dict[str, Any]] = []
        self.happened = 0

    def strikes(self, fault: str) -> bool:
        strikes = self.fault in (fault, "all") and self.chance.random() < 0.5
        self.happened += strikes
        return strikes

    async def new_channel(self) -> str:
        name = f"channel-{self.chance.random()}"
        self.members[name] = (asyncio.get_running_loop(), asyncio.Queue())
        return name

    async def group_add(self, group: str, channel: str) -> None:
        if self.strikes("group_add"):
            raise ConnectionError("no joining now")

    async def group_discard(self, group: str, channel: str) -> None:
        self.members.pop(channel, None)

    async def receive(self, channel: str) -> dict[str, Any]:
        message = await self.members[channel][1].get()
        if self.strikes("receive"):
            raise ConnectionError("the connection is gone, and a message with it")
        return message

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        if self.strikes("send"):
            raise ConnectionError("no sending now")
        if self.strikes("drop"):
            return
        if self.strikes("delay"):
            await asyncio.sleep(0.05)
        with self.lock:
            if self.strikes("reorder"):
                self.held.append(message)
                return
            messages = [message, *self.held, *([message] if self.strikes("double") else [])]
            self.held.clear()
        for loop, queue in list(self.members.values()):
            for each in messages:
                loop.call_soon_threadsafe(queue.put_nowait, each)


@pytest.mark.parametrize("fault", Chaos.faults)
async def test_a_bad_layer_delays_and_loses_nothing(
    root: Viewer, elsewhere: Doorbell, fault: str, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    layer = Chaos(fault)
    monkeypatch.setitem(channel_layers.backends, conf().feed_layer, layer)
    settings.KOHERENT = {**settings.KOHERENT, "FEED_POLL_SECONDS": 0.5}

    def write() -> None:
        for number in range(COUNT):
            Tag.objects.create(name=f"t{number}")

    async with aclosing(subscribe(root)) as stream:
        await following(stream)
        writing = asyncio.create_task(do(write))
        found = await entries(stream, COUNT)
        await writing
    assert names(found) == [f"t{number}" for number in range(COUNT)]
    assert layer.happened


async def test_a_message_that_expired_in_memory_delays_and_loses_nothing(
    root: Viewer, elsewhere: Doorbell, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    class Forgetful(InMemoryChannelLayer):  # type: ignore[misc]
        """Every message has expired before anybody takes it."""

        async def group_send(self, group: str, message: dict[str, Any]) -> None:
            await super().group_send(group, message)
            for queue in self.channels.values():
                while not queue.empty():
                    queue.get_nowait()

    monkeypatch.setitem(channel_layers.backends, conf().feed_layer, Forgetful())
    settings.KOHERENT = {**settings.KOHERENT, "FEED_POLL_SECONDS": 0.2}
    async with aclosing(subscribe(root)) as stream:
        await following(stream)
        await do(lambda: Tag.objects.create(name="quiet"))
        assert names(await entries(stream, 1)) == ["quiet"]


async def test_without_a_fault_the_ring_arrives_long_before_the_poll(
    root: Viewer, elsewhere: Doorbell, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    monkeypatch.setitem(channel_layers.backends, conf().feed_layer, Chaos("none"))
    settings.KOHERENT = {**settings.KOHERENT, "FEED_POLL_SECONDS": 3600.0}
    async with aclosing(subscribe(root)) as stream:
        await following(stream)
        # The hub listens once it has joined, which it does beside the first read.
        async with asyncio.timeout(20):
            while not all(hub.listening for hub in hubs.hubs()):
                await asyncio.sleep(0.01)
        await do(lambda: Tag.objects.create(name="heard"))
        assert names(await entries(stream, 1)) == ["heard"]
