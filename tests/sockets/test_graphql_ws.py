"""The live trail with ``graphql-ws``, the JavaScript client of the protocol: ``make clients-graphql-ws``."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.sockets.conftest import DATASETS, IMAGES, SECONDS, WATCH, Writer

FOLDER = Path(__file__).parent / "graphql_ws"


class Watcher:
    """A running ``watch.mjs``."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.cursors: dict[str, str] = {}

    async def said(self, count: int) -> list[tuple[str, Any]]:
        """The next lines: the stream's name, and what the entry is about or what else was told."""
        assert self.process.stdout is not None
        found = []
        for _ in range(count):
            line = await asyncio.wait_for(self.process.stdout.readline(), SECONDS)
            message = json.loads(line)
            name = message.pop("name")
            if "cursor" in message:
                self.cursors[name] = message.pop("cursor")
                found.append((name, message["label"]))
            else:
                found.append((name, message))
        return found


@asynccontextmanager
async def watching(
    address: str, writer: Writer, streams: dict[str, dict[str, Any]], *, through: str = "", reconnect: int = 0
) -> AsyncIterator[Watcher]:
    """The client in a process of its own; at the end it is killed, without a goodbye."""
    order = {
        "url": (through or address).replace("http", "ws", 1) + "/graphql",
        "headers": {"Cookie": writer.cookie, "Origin": through or address},
        "query": WATCH,
        "streams": streams,
        "reconnect": reconnect,
    }
    process = await asyncio.create_subprocess_exec(
        "node", "watch.mjs", json.dumps(order), cwd=FOLDER, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield Watcher(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_two_streams_on_one_socket_and_what_they_missed(address: str, writer: Writer) -> None:
    streams: dict[str, dict[str, Any]] = {"datasets": {"filters": DATASETS}, "images": {"filters": IMAGES}}
    async with watching(address, writer, streams) as watcher:
        assert sorted(await watcher.said(2)) == [("datasets", None), ("images", None)]
        await writer.datasets("live")
        assert await watcher.said(1) == [("datasets", "live")]
        await writer.image("live image")
        assert await watcher.said(1) == [("images", "live image")]
    await writer.datasets("missed 1", "missed 2")
    await writer.image("missed image")
    for name, variables in streams.items():
        variables["after"] = watcher.cursors[name]
    async with watching(address, writer, streams) as watcher:
        missed = await watcher.said(5)
        assert [label for name, label in missed if name == "datasets"] == [None, "missed 1", "missed 2"]
        assert [label for name, label in missed if name == "images"] == [None, "missed image"]
        await writer.datasets("live again")
        assert await watcher.said(1) == [("datasets", "live again")]


async def test_a_client_that_reconnects_by_itself_goes_on_with_its_cursor(address: str, writer: Writer) -> None:
    """A relay between client and server is cut while entries are written."""
    open_to_server = asyncio.Event()
    open_to_server.set()
    pipes: list[asyncio.StreamWriter] = []
    host, port = address.removeprefix("http://").split(":")

    async def copy(reader: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            target.write(data)
            await target.drain()

    async def relay(reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        await open_to_server.wait()
        from_server, to_server = await asyncio.open_connection(host, int(port))
        pipes.extend((client, to_server))
        copies = [asyncio.create_task(copy(reader, to_server)), asyncio.create_task(copy(from_server, client))]
        await asyncio.wait(copies, return_when=asyncio.FIRST_COMPLETED)
        for each in copies:
            each.cancel()
        await asyncio.wait(copies)
        for pipe in (client, to_server):
            pipe.transport.abort()

    between = await asyncio.start_server(relay, "127.0.0.1", 0)
    through = f"http://127.0.0.1:{between.sockets[0].getsockname()[1]}"
    try:
        streams: dict[str, dict[str, Any]] = {"datasets": {"filters": DATASETS}}
        async with watching(address, writer, streams, through=through, reconnect=5) as watcher:
            assert await watcher.said(1) == [("datasets", None)]
            await writer.datasets("before")
            assert await watcher.said(1) == [("datasets", "before")]
            open_to_server.clear()
            for pipe in pipes:
                pipe.transport.abort()
            await writer.datasets("meanwhile 1", "meanwhile 2")
            open_to_server.set()
            assert [label for _, label in await watcher.said(3)] == [None, "meanwhile 1", "meanwhile 2"]
    finally:
        between.close()


@pytest.mark.parametrize(
    ("variables", "code"), [({"after": "x"}, "BAD_CURSOR"), ({"filters": {"models": ["no.model"]}}, "BAD_FILTER")]
)
async def test_a_refusal_is_told_with_its_code(
    address: str, writer: Writer, variables: dict[str, Any], code: str
) -> None:
    async with watching(address, writer, {"refused": variables, "datasets": {"filters": DATASETS}}) as watcher:
        told = await watcher.said(3)
        assert [each for name, each in told if name == "refused"] == [{"codes": [code]}, {"complete": True}]
        assert [each for name, each in told if name == "datasets"] == [None]
        await writer.datasets("the other stream goes on")
        assert await watcher.said(1) == [("datasets", "the other stream goes on")]
