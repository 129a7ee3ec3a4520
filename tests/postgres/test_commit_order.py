"""PostgreSQL only: ids are not commit order, and the feed loses nothing for it."""

import contextlib
import os
import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction

from example_schema.models import Project, Tag
from koherent.feed import current_cursor, subscribe
from koherent.feed.cursor import current_position, parse, read_since
from koherent.policy import Viewer
from tests.feed.conftest import do, entries, following, names
from tests.postgres.threads import in_thread

pytestmark = pytest.mark.django_db(transaction=True)
WAIT = 20.0
#: Of each of eight writers; 450 make more than ten thousand entries.
TRANSACTIONS = int(os.environ.get("FEED_TRANSACTIONS", "20"))


def fed(position: Any) -> list[str]:
    history: Any = Tag.history
    return [history.get(pk=item.key.history_id).name for item in read_since(position, 100).items]


def test_a_slow_transaction_is_read_after_a_fast_one_with_a_higher_id() -> None:
    wrote, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            Tag.objects.create(name="slow")
            wrote.set()
            assert may_commit.wait(WAIT)

    start = current_position()
    thread = in_thread(slow)
    assert wrote.wait(WAIT)
    Tag.objects.create(name="fast")
    history: Any = Tag.history
    first = read_since(start, 100)
    assert [history.get(pk=item.key.history_id).name for item in first.items] == ["fast"]
    may_commit.set()
    thread.join(WAIT)
    assert history.get(name="slow").pk < history.get(name="fast").pk
    assert fed(first.position) == ["slow"]
    assert fed(parse(first.items[-1].position.cursor)) == ["slow"]
    assert fed(read_since(first.position, 100).position) == []


async def test_a_subscriber_gets_the_slow_transaction_live_and_on_resume() -> None:
    root = Viewer(user=await do(lambda: User.objects.create_superuser("watcher", password="not-used")))
    wrote, may_commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            Tag.objects.create(name="slow")
            wrote.set()
            assert may_commit.wait(WAIT)

    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        thread = in_thread(slow)
        assert await do(wrote.wait, WAIT)
        await do(lambda: Tag.objects.create(name="fast"))
        [fast] = await entries(stream, 1)
        may_commit.set()
        await do(thread.join, WAIT)
        [late] = await entries(stream, 1)
    async with contextlib.aclosing(subscribe(root, after=fast.cursor)) as stream:
        assert names([fast, late, *await entries(stream, 1)]) == ["fast", "slow", "slow"]


def test_a_cursor_taken_inside_a_transaction_does_not_cover_what_it_still_writes() -> None:
    with transaction.atomic():
        Tag.objects.create(name="first")
        # A later transaction ends, so that the snapshot's upper bound lies above this one's id.
        in_thread(lambda: Project.objects.create(name="other")).join(WAIT)
        cursor = current_cursor()
        Tag.objects.create(name="second")
    assert {"second"} <= set(fed(parse(cursor)))


def test_a_transaction_that_began_first_and_wrote_last_is_delivered_last() -> None:
    tag = Tag.objects.create(name="v0")
    start = current_position()
    began, may_write = threading.Event(), threading.Event()

    def early() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_current_xact_id()")
            began.set()
            assert may_write.wait(WAIT)
            Tag.objects.filter(pk=tag.pk).update(name="v2")

    thread = in_thread(early)
    assert began.wait(WAIT)
    Tag.objects.filter(pk=tag.pk).update(name="v1")
    may_write.set()
    thread.join(WAIT)
    assert fed(start) == ["v1", "v2"]
    position, seen, more = start, list[int](), True
    while more:
        batch = read_since(position, 1)
        seen += [item.key.history_id for item in batch.items]
        position, more = parse(batch.position.cursor), batch.more
    assert len(set(seen)) == len(seen) == 2


def test_writers_and_readers_that_resume_at_random_lose_nothing() -> None:
    """Writers commit in any order, some roll back; readers stop in the middle of batches and resume by cursor."""
    start = current_position()
    ended = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        try:
            for number in range(TRANSACTIONS):
                with transaction.atomic():
                    for part in range(dice.randint(1, 5)):
                        tag = Tag.objects.create(name=f"{seed}-{number}-{part}")
                        if dice.random() < 0.2:
                            Tag.objects.filter(pk=tag.pk).update(name=f"{seed}-{number}-{part} again")
                    with connection.cursor() as cursor:
                        cursor.execute("SELECT pg_sleep(%s)", [dice.random() * 0.01])
                    if dice.random() < 0.1:
                        transaction.set_rollback(True)
        finally:
            connections.close_all()

    def read(seed: int) -> tuple[Counter[int], int, int]:
        """How often each entry came, how often the reader went away in the middle of a batch, the largest batch."""
        dice, seen, position, reconnects, largest = random.Random(seed), Counter[int](), start, 0, 0
        try:
            while True:
                last = ended.is_set()
                batch = read_since(position, dice.randint(1, 30))
                largest = max(largest, len(batch.items))
                if last and not batch.items and not batch.more:
                    return seen, reconnects, largest
                taken = batch.items[: dice.randint(0, len(batch.items))]
                seen.update(item.key.history_id for item in taken)
                if len(taken) == len(batch.items):
                    position = batch.position
                elif taken:
                    reconnects += 1
                    position = parse(taken[-1].position.cursor)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as pool:
        readers = [pool.submit(read, seed) for seed in range(8)]
        writers = [pool.submit(write, seed) for seed in range(8)]
        for writer in writers:
            writer.result()
        ended.set()
        history: Any = Tag.history
        expected = set(history.values_list("pk", flat=True))
        assert len(expected) > TRANSACTIONS * 23
        for reader in readers:
            seen, reconnects, largest = reader.result()
            assert set(seen) == expected
            assert reconnects
            assert seen.total() - len(seen) <= reconnects * largest
