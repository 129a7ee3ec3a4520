"""``python -m tests.soak`` (``make soak``): many subscribers come and go for a while, and nobody may miss anything.

Two server processes (uvicorn), two writing processes, PostgreSQL and Redis, which must be running (``PGHOST``,
``PGUSER``, ``EXAMPLE_REDIS``); a database of its own is made and dropped. Prints a report; exit status 1 when an entry
was lost, memory grew, a task or a connection was left, or a stream was refused.
"""

import argparse
import asyncio
import io
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, LiteralString

import django
import httpx
import psycopg
from psycopg import sql

from tests.soak.subscribers import Subscriber, begin, catch_up, come_and_go

DATABASE = "koherent_soak"
LAST = "the last of all"
SAMPLE_SECONDS = 10.0
MEBI = 1024 * 1024
#: What a server's memory may grow by between the second quarter of the time and the last.
GROWTH = 24 * MEBI
#: Connections that a server process may keep: one for the threads of its requests, and what they had before.
KEPT = 4


@dataclass
class Server:
    """A server process and what it told of itself."""

    name: str
    port: int
    samples: list[dict[str, Any]] = field(default_factory=list)
    connections: int = 0

    async def sample(self, client: httpx.AsyncClient) -> dict[str, Any]:
        told: dict[str, Any] = (await client.get(f"http://127.0.0.1:{self.port}/soak", timeout=30)).json()
        self.samples.append(told)
        self.connections = max(self.connections, connections_of(self.name))
        return told

    @property
    def growth(self) -> int:
        memory = [sample["memory"] for sample in self.samples]
        quarter = max(len(memory) // 4, 1)
        return int(median(memory[-quarter:]) - median(memory[quarter : 2 * quarter] or memory))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def administer(statement: LiteralString) -> None:
    address = "host={} user={} dbname=postgres".format(
        os.environ.get("PGHOST", "127.0.0.1"), os.environ.get("PGUSER", "postgres")
    )
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(sql.SQL(statement).format(sql.Identifier(DATABASE)))


def connections_of(name: str) -> int:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [name])
        return int(cursor.fetchone()[0])


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """A Python process, ended by its id."""
    command = [sys.executable, "-W", "ignore", "-m", *arguments]
    running = subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def prepare() -> list[str]:
    """The database with the example's accounts; returns a session of each."""
    administer("DROP DATABASE IF EXISTS {} WITH (FORCE)")
    administer("CREATE DATABASE {}")
    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    call_command("seed_example", stdout=io.StringIO())
    sessions = []
    for user in get_user_model()._default_manager.all():
        client = Client()
        client.force_login(user)
        sessions.append(client.cookies["sessionid"].value)
    return sessions


async def until_up(servers: list[Server]) -> None:
    async with httpx.AsyncClient() as client:
        for server in servers:
            end = time.monotonic() + 60
            while True:
                try:
                    await server.sample(client)
                    break
                except httpx.TransportError:
                    if time.monotonic() > end:
                        raise
                    await asyncio.sleep(0.2)
            server.samples.clear()


async def watch(servers: list[Server], seconds: float) -> None:
    end = time.monotonic() + seconds
    async with httpx.AsyncClient() as client:
        while time.monotonic() < end:
            for server in servers:
                await server.sample(client)
            await asyncio.sleep(SAMPLE_SECONDS)


def expected() -> int:
    """How many entries were written since everybody subscribed: all that any model has, but the seed's."""
    from koherent.registry import tracked_models

    return sum(tracked.history_model._default_manager.count() for tracked in tracked_models())


def main() -> int:
    """Run, report; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--subscribers", type=int, default=300)
    parser.add_argument("--rate", type=float, default=1.5, help="entries a second of each of the two writers")
    options = parser.parse_args()
    os.environ.update(
        DJANGO_SETTINGS_MODULE="tests.soak.settings",
        EXAMPLE_DB="postgres",
        PGDATABASE=DATABASE,
        EXAMPLE_REDIS=os.environ.get("EXAMPLE_REDIS", "redis://127.0.0.1:6379/0"),
        DJANGO_ALLOW_ASYNC_UNSAFE="1",
    )
    sessions = prepare()
    seeded = expected()
    try:
        return asyncio.run(soak(sessions, seeded, options))
    finally:
        from django.db import connections

        connections.close_all()
        administer("DROP DATABASE IF EXISTS {} WITH (FORCE)")


def say(text: str) -> None:
    """A line of the report."""
    sys.stdout.write(f"{text}\n")


async def soak(sessions: list[str], seeded: int, options: argparse.Namespace) -> int:
    """The run itself."""
    from example_schema.models import Tag

    seconds, servers = options.minutes * 60, [Server(f"soak-server-{n}", free_port()) for n in (1, 2)]
    subscribers = [
        Subscriber(f"127.0.0.1:{servers[n % 2].port}", sessions[n % len(sessions)]) for n in range(options.subscribers)
    ]
    with ExitStack() as stack:
        for server in servers:
            arguments = ("--host", "127.0.0.1", "--port", str(server.port), "--log-level", "warning")
            stack.enter_context(process("uvicorn", "tests.soak.server:application", *arguments, PGAPPNAME=server.name))
        await until_up(servers)
        idle = [len(sample["tasks"]) for server in servers for sample in server.samples[-1:]]
        late_starters = await begin(subscribers)
        with ExitStack() as writing:
            writers = [
                writing.enter_context(process("tests.soak.writer", f"writer-{n}", str(options.rate))) for n in (1, 2)
            ]
            await asyncio.gather(watch(servers, seconds), come_and_go(subscribers, seconds))
        committed = sum(int(writer.stdout.read()) for writer in writers if writer.stdout is not None)
        Tag.objects.create(name=LAST)
        behind = await catch_up(subscribers, LAST, 120)
        await asyncio.sleep(5)
        async with httpx.AsyncClient() as client:
            after = [await server.sample(client) for server in servers]
        kept = [connections_of(server.name) for server in servers]
    written = expected() - seeded
    lost = sum(written - len(each.seen) for each in subscribers)
    refusals = [text for each in subscribers for text in each.refusals]
    stays, doubles = sum(each.stays for each in subscribers), sum(each.doubles for each in subscribers)
    failures = {
        "entries lost": lost,
        "subscribers without a first cursor": late_starters,
        "subscribers that did not reach the last entry": behind,
        "streams refused": len(refusals),
        "servers whose memory grew": sum(server.growth > GROWTH for server in servers),
        "tasks left": sum(len(told["tasks"]) for told in after) - sum(idle),
        "subscribers left": int(sum(told["subscribers"] for told in after)),
        "servers with more connections than they may keep": sum(each > KEPT for each in kept),
    }
    say(f"{options.minutes:g} minutes, {options.subscribers} subscribers, 2 servers, 2 writers, PostgreSQL and Redis")
    say(
        f"{committed} transactions, {written} entries; {stays} subscriptions, "
        f"{sum(len(each.seen) for each in subscribers) + doubles} deliveries, {doubles} of them twice "
        f"({doubles / max(stays, 1):.2f} a subscription)"
    )
    for server, told, left in zip(servers, after, kept, strict=True):
        first, last = (server.samples[place]["memory"] // MEBI for place in (0, -1))
        say(
            f"{server.name}: {first} MiB at first, {last} at last, {server.growth / MEBI:.1f} more in the last quarter "
            f"than in the second; {int(told['reads'])} reads, {int(told['overflows'])} overflows; {left} connections "
            f"left of at most {server.connections}"
        )
    for name, count in failures.items():
        say(f"{name}: {count}")
    for text in refusals[:5]:
        say(f"  {text}")
    return 1 if any(failures.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
