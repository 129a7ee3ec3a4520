"""Subscribers that come and go: each goes on from its last cursor, and in the end must have seen every entry."""

import asyncio
import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

Until = Callable[[dict[str, Any]], bool]
AT_ONCE = 25
DOCUMENT = "subscription($after: String) { historyEntries(after: $after) { cursor entry { id objectLabel } } }"


@dataclass
class Subscriber:
    """One client: what it has seen, how often it came, and how many entries came twice."""

    host: str
    session: str
    cursor: str | None = None
    seen: set[str] = field(default_factory=set)
    doubles: int = 0
    stays: int = 0
    refusals: list[str] = field(default_factory=list)

    async def stay(self, seconds: float, until: Until = lambda item: False) -> bool:
        """Subscribe for a while, or until an item is what is waited for; returns whether it came."""
        self.stays += 1
        found = False
        with suppress(TimeoutError, ConnectionClosed, OSError):
            async with asyncio.timeout(seconds), self._socket() as socket:
                await socket.send('{"type":"connection_init"}')
                await socket.recv()
                payload = {"query": DOCUMENT, "variables": {"after": self.cursor}}
                await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
                async for message in socket:
                    item = self._take(json.loads(message))
                    if item is not None and until(item):
                        found = True
                        break
        return found

    def _socket(self) -> Any:
        return connect(
            f"ws://{self.host}/graphql",
            subprotocols=[Subprotocol("graphql-transport-ws")],
            additional_headers={"Cookie": f"sessionid={self.session}"},
            origin=Origin(f"http://{self.host}"),
            max_queue=None,
            open_timeout=60,
        )

    def _take(self, message: dict[str, Any]) -> dict[str, Any] | None:
        if message["type"] != "next" or message["payload"].get("errors"):
            self.refusals.append(json.dumps(message)[:300])
            return None
        item: dict[str, Any] = message["payload"]["data"]["historyEntries"]
        self.cursor, entry = item["cursor"], item["entry"]
        if entry is not None:
            self.doubles += entry["id"] in self.seen
            self.seen.add(entry["id"])
        return item


async def begin(subscribers: list[Subscriber]) -> int:
    """Everybody gets a cursor from before the first write; returns how many did not."""
    arrived = []
    for start in range(0, len(subscribers), AT_ONCE):
        some = subscribers[start : start + AT_ONCE]
        arrived += await asyncio.gather(*(each.stay(60, until=lambda item: True) for each in some))
    return arrived.count(False)


async def come_and_go(subscribers: list[Subscriber], seconds: float) -> None:
    """Each stays between two seconds and a minute, is away for up to five seconds, and comes again."""
    end = asyncio.get_running_loop().time() + seconds

    async def live(subscriber: Subscriber) -> None:
        chance = random.Random(id(subscriber))
        while (left := end - asyncio.get_running_loop().time()) > 0:
            await subscriber.stay(min(chance.uniform(2, 60), left))
            await asyncio.sleep(chance.uniform(0, 5))

    await asyncio.gather(*map(live, subscribers))


async def catch_up(subscribers: list[Subscriber], label: str, seconds: float) -> int:
    """Everybody reads on until the entry of that object; returns how many did not get there."""

    def is_last(item: dict[str, Any]) -> bool:
        return bool(item["entry"] and item["entry"]["objectLabel"] == label)

    arrived = await asyncio.gather(*(subscriber.stay(seconds, until=is_last) for subscriber in subscribers))
    return arrived.count(False)
