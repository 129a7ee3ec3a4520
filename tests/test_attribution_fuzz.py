"""Nobody's change is ever attributed to anybody else: threads, tasks, nesting, hops and one socket, all at once.

Every change writes into its own row who is expected to have made it, so that one comparison for each entry finds a
foreign actor. The programs are made from seeds; only how they interleave differs from run to run.
"""

import asyncio
import itertools
import random
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.db.backends.signals import connection_created

import koherent
from example_schema.models import Project
from koherent.context import request_audit
from koherent.request import RequestInfo
from tests.graphql.test_attribution import socket

THREADS, TASKS, OPERATIONS = 3, 6, 60
BUDGET = 230
DEPTH = 3
NAMES = ("user", "app", "assignation_id", "reason")
serials = itertools.count()


@dataclass(frozen=True)
class Identity:
    """What the next change is expected to be attributed to; ``explicit`` is what an ``audit()`` gave."""

    user: User | None = None
    app: str | None = None
    assignation_id: str | None = None
    reason: str | None = None
    explicit: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return identity(self.user and self.user.username, self.app, self.assignation_id, self.reason)


def identity(*values: Any) -> str:
    return "|".join(str(value) for value in values)


NOBODY = Identity()


class Program:
    """One worker's random program: synchronous and asynchronous code that changes rows and nests contexts."""

    def __init__(self, seed: int, users: list[User]) -> None:
        self.dice = random.Random(seed)
        self.seed = seed
        self.users = users
        self.left = BUDGET

    def values(self) -> dict[str, Any]:
        number = next(serials)
        return {
            "user": self.dice.choice(self.users),
            "app": f"app {self.seed}-{number}",
            "assignation_id": f"task {self.seed}-{number}",
            "reason": f"reason {self.seed}-{number}",
        }

    def explicit(self, who: Identity) -> tuple[Any, Identity]:
        names = self.dice.sample(NAMES, self.dice.randint(1, len(NAMES)))
        given = {name: value for name, value in self.values().items() if name in names}
        return koherent.audit(**given), replace(who, **given, explicit=who.explicit | set(names))

    def request(self, who: Identity) -> tuple[Any, Identity]:
        said = self.values()
        info = RequestInfo(
            user=said["user"],
            headers={"x-app": said["app"], "x-assignation-id": said["assignation_id"]},
            extensions={"reason": said["reason"]},
        )
        kept = {name: getattr(who, name) for name in who.explicit}
        return request_audit(info), Identity(**{**said, **kept}, explicit=who.explicit)

    def scope(self, who: Identity) -> tuple[Any, Identity]:
        return self.request(who) if self.dice.random() < 0.3 else self.explicit(who)

    def told(self, who: Identity) -> str:
        self.left -= 1
        return f"{who}#{next(serials)}"

    def change(self, who: Identity) -> None:
        """Two entries, or four, of one identity, on one of four paths."""
        unit: Any = self.dice.choice([koherent.atomic, transaction.atomic])
        with unit():
            project = Project.objects.create(name=f"p{next(serials)}", description=self.told(who))
            kind = self.dice.randrange(4)
            if kind == 0:
                project.description = self.told(who)
                project.save()
            elif kind == 1:
                Project.objects.filter(pk=project.pk).update(description=self.told(who))
            elif kind == 2:
                Project.objects.bulk_create(
                    [Project(name=f"p{next(serials)}", description=self.told(who)) for _ in range(3)]
                )
            elif kind == 3:
                project.description = self.told(who)
                Project.objects.bulk_update([project], ["description"])

    def run(self, who: Identity, depth: int = 0) -> None:
        """Synchronous code."""
        for _ in range(self.dice.randint(1, 4)):
            kind = self.dice.randrange(6) if depth < DEPTH else 0
            if kind <= 1:
                self.change(who)
            elif kind == 2:
                manager, inner = self.scope(who)
                # The entries of one unit are written together, when some of their contexts have ended.
                unit = koherent.atomic() if self.dice.random() < 0.5 else nullcontext()
                try:
                    with unit, manager:
                        self.run(inner, depth + 1)
                        if self.dice.random() < 0.3:
                            raise ZeroDivisionError
                except ZeroDivisionError:
                    pass
            elif kind == 3:
                decorate, inner = self.explicit(who)
                decorate(self.run)(inner, depth + 1)
            elif kind == 4:
                self.consume(who)
            else:
                async_to_sync(self.run_async)(who, DEPTH)

    def consume(self, who: Identity) -> None:
        """A decorated generator changes rows as one, its consumer as another; the generator may be given up."""
        decorate, inner = self.explicit(who)

        @decorate
        def items() -> Iterator[None]:
            try:
                for _ in range(3):
                    self.change(inner)
                    yield
            finally:
                self.change(inner)

        generator: Any = items()
        for _ in itertools.islice(generator, self.dice.randint(1, 4)):
            self.change(who)
        generator.close()
        self.change(who)

    async def run_async(self, who: Identity, depth: int = 0) -> None:
        """Asynchronous code."""
        for _ in range(self.dice.randint(1, 4)):
            kind = self.dice.randrange(7) if depth < DEPTH else 0
            if kind <= 1:
                await sync_to_async(self.change)(who)
            elif kind == 2:
                manager, inner = self.explicit(who)
                async with manager:
                    await self.run_async(inner, depth + 1)
            elif kind == 3:
                decorate, inner = self.explicit(who)
                await decorate(self.run_async)(inner, depth + 1)
            elif kind == 4:
                await self.consume_async(who)
            elif kind == 5:
                # Tasks of their own inherit, and keep, the context that they were started in.
                manager, inner = self.scope(who)
                with manager:
                    tasks = [asyncio.create_task(self.run_async(inner, DEPTH)) for _ in range(2)]
                await sync_to_async(self.change)(who)
                await asyncio.gather(*tasks)
            else:
                await sync_to_async(self.hop, thread_sensitive=self.dice.random() < 0.7)(who, DEPTH)

    def hop(self, who: Identity, depth: int) -> None:
        try:
            self.run(who, depth)
        finally:
            if threading.current_thread() is not threading.main_thread():
                connections.close_all()

    async def consume_async(self, who: Identity) -> None:
        """As ``consume``; the generator is closed by another task, under another identity."""
        decorate, inner = self.explicit(who)
        closer, outside = self.explicit(who)
        change = sync_to_async(self.change)

        @decorate
        async def items() -> AsyncIterator[None]:
            try:
                while True:
                    await change(inner)
                    yield
            finally:
                await change(inner)

        async def close() -> None:
            async with closer:
                await change(outside)
                await generator.aclose()
                await change(outside)

        generator: Any = items()
        for _ in range(self.dice.randint(1, 3)):
            await anext(generator)
            await change(who)
        await asyncio.create_task(close())
        await change(who)

    def run_all(self) -> None:
        while self.left > 0:
            self.run(NOBODY)

    async def run_all_async(self) -> None:
        while self.left > 0:
            await self.run_async(NOBODY)


async def operate(communicator: Any, user: User) -> None:
    """Many operations at once on one socket, each with extensions of its own or the connection's values."""
    dice = random.Random(99)
    query = """mutation($name: String!, $by: String!) {
        createProject(data: {name: $name, description: $by}) { ... on Project { id } } }"""
    for number in range(OPERATIONS):
        said = {"app": f"app {number}", "assignationId": f"task {number}", "reason": f"reason {number}"}
        said = {name: said[name] for name in dice.sample(list(said), dice.randint(0, 3))}
        who = Identity(
            user=user,
            app=said.get("app", "header"),
            assignation_id=said.get("assignationId", "connection"),
            reason=said.get("reason", "connection"),
        )
        variables = {"name": f"s{next(serials)}", "by": f"{who}#{next(serials)}"}
        payload = {"query": query, "variables": variables, "extensions": said}
        await communicator.send_json_to({"id": str(number), "type": "subscribe", "payload": payload})
    completed = 0
    while completed < OPERATIONS:
        message = await communicator.receive_json_from(timeout=60)
        assert "errors" not in message.get("payload", {}), message
        completed += message["type"] == "complete"


def entries() -> list[tuple[Any, ...]]:
    history: Any = Project.history
    names = ("description", "actor_name", "app", "assignation_id", "history_change_reason", "actor_id", "history_user")
    return list(history.values_list(*names))


@pytest.fixture
def _no_waiting_for_disks(transactional_db: None) -> Iterator[None]:
    """SQLite need not survive a loss of power here."""

    def relax(connection: Any, **_: Any) -> None:
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute("PRAGMA synchronous = OFF")

    connections.close_all()
    connection_created.connect(relax)
    yield
    connection_created.disconnect(relax)


@pytest.mark.usefixtures("_no_waiting_for_disks")
@pytest.mark.django_db(transaction=True)
async def test_no_change_is_attributed_to_anybody_else(admin: User) -> None:
    users = [await User.objects.acreate_user(f"user {number}") for number in range(5)]
    keys = {user.username: user.pk for user in [admin, *users]} | {None: None}
    failures: list[BaseException] = []

    def work(program: Program) -> None:
        try:
            program.run_all()
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connections.close_all()

    params = {"assignationId": "connection", "reason": "connection"}
    communicator = await socket(admin, [(b"x-app", b"header")], params)
    threads = [threading.Thread(target=work, args=[Program(seed, users)]) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    programs = [Program(100 + seed, users) for seed in range(TASKS)]
    async with asyncio.timeout(100):
        await asyncio.gather(operate(communicator, admin), *(program.run_all_async() for program in programs))
        await asyncio.gather(*(asyncio.to_thread(thread.join) for thread in threads))
    assert failures == []
    await communicator.disconnect()

    rows = await sync_to_async(entries)()
    foreign = [
        row
        for row in rows
        if row[0].rpartition("#")[0] != identity(*row[1:5])
        or (row[5], row[6]) != (keys[row[1]] and str(keys[row[1]]), keys[row[1]])
    ]
    assert foreign == []
    assert len({row[0] for row in rows}) == len(rows) >= 2_000
    assert len({row[1:5] for row in rows}) > 250
