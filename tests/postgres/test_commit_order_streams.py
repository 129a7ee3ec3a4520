"""PostgreSQL only: eight streams that are cut off at random and resume miss nothing of what eight writers commit."""

import asyncio
import os
import random
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction

from example_schema.models import Project, Tag
from koherent.feed import FeedItem, current_cursor, subscribe
from koherent.policy import Viewer
from tests.feed.conftest import do

pytestmark = pytest.mark.django_db(transaction=True)
#: Of each of eight writers; 450 make more than ten thousand entries.
TRANSACTIONS = int(os.environ.get("FEED_TRANSACTIONS", "20"))
WRITERS = READERS = 8
#: What the feed reads at once here.
BATCH = 25
#: How long a reader may get nothing new before it counts as having lost something.
PATIENCE_SECONDS = 60.0


def write(seed: int, turns: threading.Semaphore) -> None:
    """Creates tags and changes projects that all writers share; dawdles, and now and then takes everything back.

    Each transaction waits for a turn, which readers give: so they read while others write, however slow the machine is.
    """
    dice = random.Random(seed)
    try:
        for number in range(TRANSACTIONS):
            turns.acquire()
            with transaction.atomic():
                for part in range(dice.randint(2, 5)):
                    Tag.objects.create(name=f"{seed}-{number}-{part}")
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_sleep(%s)", [dice.random() ** 2 * 0.1])
                # In the order of their keys, so that no two wait for each other.
                for project in Project.objects.order_by("pk"):
                    if dice.random() < 0.05:
                        project.description = f"{seed}-{number}"
                        project.save()
                if dice.random() < 0.1:
                    transaction.set_rollback(True)
    finally:
        connections.close_all()


@dataclass(eq=False)
class Reader:
    """A subscriber that goes away in the middle, by itself or cancelled, and comes back with its last cursor."""

    viewer: Viewer
    cursor: str
    dice: random.Random
    turns: threading.Semaphore
    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    streams: int = 0
    most_twice: int = 0

    async def until(self, wanted: "asyncio.Future[set[tuple[str, int]]]") -> None:
        """Reads on until all that is wanted has been seen; gives up when nothing new comes any more."""
        progressed = time.monotonic()
        while not (wanted.done() and wanted.result() <= set(self.seen)):
            before = len(self.seen)
            await self._one_stream()
            if len(self.seen) > before:
                progressed = time.monotonic()
            if wanted.done() and time.monotonic() - progressed > PATIENCE_SECONDS:
                return

    async def _one_stream(self) -> None:
        self.streams += 1
        twice, rest = 0, self.dice.randint(1, 60)
        try:
            async with (
                asyncio.timeout(self.dice.uniform(0.05, 1.0)),
                aclosing(subscribe(self.viewer, after=self.cursor)) as stream,
            ):
                async for item in stream:
                    self.turns.release()
                    twice += self._take(item)
                    rest -= 1
                    if not rest:
                        break
        except TimeoutError:
            self.turns.release()
        self.most_twice = max(self.most_twice, twice)

    def _take(self, item: FeedItem) -> bool:
        self.cursor = item.cursor
        if item.entry is None:
            return False
        again = item.entry.key in self.seen
        self.seen[item.entry.key] += 1
        return again


def committed() -> set[tuple[str, int]]:
    """All entries that there are."""
    found: set[tuple[str, int]] = set()
    for model in (Tag, Project):
        history: Any = model.history
        found |= {(model._meta.label_lower, key) for key in history.values_list("pk", flat=True)}
    return found


async def test_streams_that_are_cut_off_at_random_lose_nothing(
    transactional_db: None, django_user_model: type[User], settings: Any
) -> None:
    root = Viewer(user=await do(lambda: django_user_model.objects.create_superuser("watcher", password="not-used")))
    settings.KOHERENT = {"FEED_QUEUE": BATCH}
    await do(lambda: [Project.objects.create(name=f"shared {number}") for number in range(3)])
    before, cursor = await do(committed), await do(current_cursor)
    turns = threading.Semaphore(WRITERS)
    readers = [Reader(root, cursor, random.Random(seed), turns) for seed in range(READERS)]
    loop = asyncio.get_running_loop()
    wanted: asyncio.Future[set[tuple[str, int]]] = loop.create_future()
    reading = [asyncio.create_task(reader.until(wanted)) for reader in readers]
    with ThreadPoolExecutor(WRITERS) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, write, seed, turns) for seed in range(WRITERS)))
    entries = await do(committed) - before
    wanted.set_result(entries)
    await asyncio.gather(*reading)
    assert len(entries) > TRANSACTIONS * WRITERS * 2.8
    assert [len(entries - set(reader.seen)) for reader in readers] == [0] * READERS
    assert [set(reader.seen) - entries for reader in readers] == [set()] * READERS
    assert min(reader.streams for reader in readers) > 3
    assert max(reader.most_twice for reader in readers) <= BATCH
