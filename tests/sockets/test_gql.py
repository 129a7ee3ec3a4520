"""The live trail with ``gql``, a client for Python: live, with a gap, several streams on one socket, refused."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from gql import Client, GraphQLRequest, gql
from gql.client import AsyncClientSession
from gql.transport.exceptions import TransportQueryError
from gql.transport.websockets import WebsocketsTransport

from tests.sockets.conftest import DATASETS, IMAGES, SECONDS, WATCH, Writer


@asynccontextmanager
async def session(address: str, writer: Writer) -> AsyncIterator[AsyncClientSession]:
    """One socket of the protocol graphql-transport-ws."""
    transport = WebsocketsTransport(
        url=address.replace("http", "ws", 1) + "/graphql",
        headers={"Cookie": writer.cookie, "Origin": address},
        subprotocols=[WebsocketsTransport.GRAPHQLWS_SUBPROTOCOL],
    )
    async with Client(transport=transport) as opened:
        yield opened


def watch(opened: AsyncClientSession, after: str | None, filters: Any) -> AsyncGenerator[dict[str, Any], None]:
    """A stream on the socket."""
    return opened.subscribe(GraphQLRequest(gql(WATCH), variable_values={"after": after, "filters": filters}))


async def item(stream: AsyncGenerator[dict[str, Any], None]) -> tuple[str, str | None]:
    """The next item's cursor, and what the entry is about; None for a checkpoint."""
    found = (await asyncio.wait_for(anext(stream), SECONDS))["historyEntries"]
    return found["cursor"], found["entry"] and found["entry"]["objectLabel"]


async def about(stream: AsyncGenerator[dict[str, Any], None], count: int) -> list[str | None]:
    """What the next items are about."""
    return [(await item(stream))[1] for _ in range(count)]


async def test_gql_gets_what_is_committed_and_after_a_gap_what_it_missed(address: str, writer: Writer) -> None:
    async with session(address, writer) as opened, aclosing(watch(opened, None, DATASETS)) as stream:
        assert (await item(stream))[1] is None
        await writer.datasets("live")
        cursor, label = await item(stream)
        assert label == "live"
    await writer.datasets("missed 1", "missed 2", "missed 3")
    async with session(address, writer) as opened, aclosing(watch(opened, cursor, DATASETS)) as stream:
        assert await about(stream, 4) == [None, "missed 1", "missed 2", "missed 3"]
        await writer.datasets("live again")
        assert await about(stream, 1) == ["live again"]


async def test_streams_on_one_socket_are_kept_apart(address: str, writer: Writer) -> None:
    async with session(address, writer) as opened:
        everything, images = watch(opened, None, None), watch(opened, None, IMAGES)
        async with aclosing(images), aclosing(everything):
            assert [await about(each, 1) for each in (everything, images)] == [[None], [None]]
            await writer.datasets("a dataset")
            await writer.image("an image")
            assert await about(images, 1) == ["an image"]
            assert await about(everything, 2) == ["a dataset", "an image"]
            # One that ends leaves the other alone.
            await images.aclose()
            await writer.image("another image")
            assert await about(everything, 1) == ["another image"]


async def test_gql_is_told_the_code_and_the_socket_goes_on(address: str, writer: Writer) -> None:
    async with session(address, writer) as opened:
        with pytest.raises(TransportQueryError) as refused:
            await about(watch(opened, "not a cursor", DATASETS), 1)
        assert refused.value.errors is not None
        assert [error["extensions"] for error in refused.value.errors] == [{"code": "BAD_CURSOR"}]
        async with aclosing(watch(opened, None, DATASETS)) as stream:
            assert await about(stream, 1) == [None]
