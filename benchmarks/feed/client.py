"""Many sockets in one process: ``python -m benchmarks.feed.client``. Orders and answers are JSON, a line each."""

import asyncio
import json
import re
import resource
import sys
import time
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

_NAME = re.compile(r'"objectLabel":"([^"]*)"')
_AT_ONCE = 25
#: Stands for the name of an entry's object in samples of messages.
NAME = "%name%"


class Clients:
    """The sockets, and what each of them received with its time."""

    def __init__(self) -> None:
        self.sockets: list[ClientConnection] = []
        self.received: list[list[tuple[float, str]]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.samples: list[str] = []

    async def open(self, url: str, sessions: list[str], queries: list[str], count: int) -> float:
        """``count`` subscribers, of the sessions and the queries in turn; seconds until all of them are live."""
        began = time.monotonic()
        self.samples = [""] * len(queries)
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> ClientConnection:
            async with gate:
                document = number % len(queries)
                socket = await connect(
                    f"{url}?document={document}",
                    subprotocols=["graphql-transport-ws"],  # type: ignore[list-item]
                    additional_headers={"Cookie": f"sessionid={sessions[number % len(sessions)]}"},
                    compression=None,
                    max_queue=None,
                    ping_interval=None,
                    open_timeout=60,
                )
                if queries[document]:
                    await socket.send('{"type":"connection_init"}')
                    await socket.recv()
                    payload = {"query": queries[document]}
                    await socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": payload}))
                first = str(await socket.recv())
                if '"errors"' in first or '"error"' in first:
                    raise RuntimeError(first)
                return socket

        self.sockets = await asyncio.gather(*(one(number) for number in range(count)))
        self.received = [[] for _ in self.sockets]
        self.tasks = [asyncio.create_task(self._receive(*pair)) for pair in enumerate(self.sockets)]
        return time.monotonic() - began

    async def _receive(self, number: int, socket: ClientConnection) -> None:
        received = self.received[number]
        async for message in socket:
            received.append((time.time(), str(message)))

    async def collect(self, times: dict[str, float], timeout: float) -> dict[str, Any]:
        """Wait until every subscriber has every entry; how long each took from its commit, and what was missing."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and any(len(each) < len(times) for each in self.received):
            await asyncio.sleep(0.05)
        late, last, missing = [], 0.0, 0
        for number, received in enumerate(self.received):
            names = set()
            for at, text in received:
                match = _NAME.search(text)
                if match is None or match[1] not in times:
                    continue
                names.add(match[1])
                late.append(at - times[match[1]])
                last = max(last, at)
                self.samples[number % len(self.samples)] = text.replace(match[1], NAME)
            missing += len(times) - len(names)
            received.clear()
        late.sort()
        return {
            "deliveries": len(late),
            "missing": missing,
            "seconds": last - min(times.values()),
            "p50": late[len(late) // 2] if late else None,
            "p99": late[len(late) * 99 // 100] if late else None,
            "samples": self.samples,
        }

    async def close(self) -> None:
        """Close all sockets."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*(socket.close() for socket in self.sockets), return_exceptions=True)


async def main() -> None:
    """Obey until there are no more orders."""
    clients = Clients()
    loop = asyncio.get_running_loop()
    sys.stdout.write('{"ok": null}\n')
    sys.stdout.flush()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        answer = await getattr(clients, order.pop("do"))(**order)
        sys.stdout.write(json.dumps({"ok": answer}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    wanted = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    asyncio.run(main())
