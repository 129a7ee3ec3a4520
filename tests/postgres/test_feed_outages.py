"""PostgreSQL and Redis only: connections are killed and services go away, and the feed is complete afterwards."""

import asyncio
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import pytest
import redis
from channels.layers import channel_layers
from channels_redis.core import RedisChannelLayer
from django.contrib.auth.models import User
from django.db import connection, connections
from django.db.utils import InterfaceError, OperationalError

from example_schema.models import Tag
from koherent.conf import settings as conf
from koherent.feed import hub as hubs
from koherent.feed import subscribe
from koherent.feed.doorbell import Doorbell
from koherent.policy import Viewer
from tests.feed.conftest import do, entries, following, names

pytestmark = pytest.mark.django_db(transaction=True)
WAIT = 20.0


@pytest.fixture
def root() -> Viewer:
    return Viewer(user=User.objects.create_superuser("watcher", password="not-used"))


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "BACKOFF_SECONDS", (0.02, 0.1))


class Redis:
    """A server of the test's own, which may stop and start again at the same address."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("redis-server")
        assert program is not None, "redis-server is needed here"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        end = time.monotonic() + WAIT
        while True:
            try:
                with self.client() as client:
                    client.ping()
                return
            except redis.exceptions.ConnectionError:
                assert time.monotonic() < end
                time.sleep(0.02)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(WAIT)
            self.process = None

    @contextmanager
    def client(self) -> Iterator["redis.Redis"]:
        with redis.Redis(port=self.port) as client:
            yield client

    def kill_connections(self) -> int:
        with self.client() as client:
            return sum(int(client.client_kill_filter(_type=kind, skipme=True)) for kind in ("normal", "pubsub"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Redis]:
    made = Redis()
    made.start()
    layer = RedisChannelLayer(hosts=[{"host": "127.0.0.1", "port": made.port, "socket_timeout": None}])
    monkeypatch.setitem(channel_layers.backends, conf().feed_layer, layer)
    yield made
    made.stop()


def poll_every(settings: Any, seconds: float) -> None:
    settings.KOHERENT = {**settings.KOHERENT, "FEED_POLL_SECONDS": seconds}


async def until_listening() -> None:
    async with asyncio.timeout(WAIT):
        while not all(hub.listening for hub in hubs.hubs()):
            await asyncio.sleep(0.01)


async def write_and_get(stream: Any, *wanted: str) -> None:
    for name in wanted:
        await do(lambda name=name: Tag.objects.create(name=name))
    assert names(await entries(stream, len(wanted))) == list(wanted)


async def test_killed_redis_connections_are_made_anew(
    root: Viewer, server: Redis, elsewhere: Doorbell, settings: Any
) -> None:
    poll_every(settings, 3600.0)
    async with aclosing(subscribe(root)) as stream:
        await following(stream)
        await until_listening()
        await write_and_get(stream, "before")
        poll_every(settings, 0.5)
        for number in range(5):
            assert await do(server.kill_connections)
            await write_and_get(stream, f"after kill {number}", f"and {number}")


async def test_redis_that_stops_and_starts_again_rings_again(
    root: Viewer, server: Redis, elsewhere: Doorbell, settings: Any
) -> None:
    poll_every(settings, 0.5)
    async with aclosing(subscribe(root)) as stream:
        await following(stream)
        await until_listening()
        await do(server.stop)
        await write_and_get(stream, "without redis", "still without")
        assert not all(hub.listening for hub in hubs.hubs())
        await do(server.start)
        await until_listening()
        poll_every(settings, 3600.0)
        # The poll that is under way still ends; from the next one on, only a ring can tell.
        await write_and_get(stream, "first", "second", "third")


@pytest.fixture
def _connection_of_its_own() -> Iterator[None]:
    """The connection of the test's own thread does not survive the test."""
    yield
    connection.close()


@pytest.mark.usefixtures("_connection_of_its_own")
async def test_killed_database_connections_are_made_anew(root: Viewer, settings: Any) -> None:
    poll_every(settings, 0.2)

    def kill_all() -> int:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return int(cursor.fetchone()[0])

    def write(name: str) -> None:
        # The writer's own connection may be among the dead: what fails is not committed, and tried again.
        while True:
            try:
                Tag.objects.create(name=name)
                return
            except (InterfaceError, OperationalError):
                connections.close_all()

    wanted = [f"t{number}" for number in range(20)]
    killed = 0
    async with aclosing(subscribe(root)) as stream:
        await following(stream)
        for name in wanted:
            await do(write, name)
            killed += await do(kill_all)
        assert names(await entries(stream, len(wanted))) == wanted
    assert killed
