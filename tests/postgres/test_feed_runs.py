"""PostgreSQL only: the feed finds the entries of bulk writes by their runs; none is lost, doubled or out of place."""

import io
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from example_schema.models import Project, Tag
from koherent import writer
from koherent.beginnings import LONGEST
from koherent.database_checks import check_positions
from koherent.feed.cursor import Key, Position, Snapshot, current_position, parse, read_since
from koherent.models import Assignation
from koherent.writer import RUN_AT_LEAST
from tests.effort import plan
from tests.postgres.threads import WAIT, closing, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)
#: The lock that makes a statement slow.
SLOW = 4_711


@pytest.fixture(autouse=True)
def _runs_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RUN_AT_LEAST", RUN_AT_LEAST)


def tags(name: str, count: int) -> list[Tag]:
    return Tag.objects.bulk_create([Tag(name=f"{name} {number}") for number in range(count)])


def change(rows: list[Any], description: str) -> None:
    Project.objects.filter(pk__in=[row.pk for row in rows]).update(description=description)


def walk(position: Position, limit: int) -> list[Key]:
    """The entries after a position, read in batches by one who reconnects after each."""
    keys: list[Key] = []
    while True:
        batch = read_since(position, limit)
        assert len(batch.items) <= limit
        keys += [item.key for item in batch.items]
        if not batch.more:
            return keys
        position = parse(batch.position.cursor)


def committed() -> list[Key]:
    """All entries that the feed delivers, in its order."""
    keys: list[Key] = []
    for model in (Project, Tag):
        rows = model.history.filter(position__gt=0).values_list("position", "history_id")
        keys += [Key(position, model._meta.label_lower, history_id) for position, history_id in rows]
    return sorted(keys)


def runs(model: Any = Tag) -> list[int]:
    """How many ids each run of a model spans, in their order."""
    found = Assignation.objects.filter(model=model._meta.label_lower).order_by("first_id")
    return list(found.annotate(span=F("last_id") - F("first_id") + 1).values_list("span", flat=True))


def resumed_from_everywhere(start: Position, limits: list[int]) -> None:
    """Whoever goes on after any entry of any batch gets all others that come after it, once each, in order."""
    expected = committed()
    for limit in limits:
        position, taken, more = start, 0, True
        while more:
            batch = read_since(position, limit)
            assert [item.key for item in batch.items] == expected[taken : taken + limit]
            for item in batch.items:
                taken += 1
                assert walk(parse(item.position.cursor), 11) == expected[taken:]
            position, more = parse(batch.position.cursor), batch.more
        assert taken == len(expected)


@pytest.mark.parametrize("limit", [1, 7, 29, 30, 31, 60])
def test_bulk_writes_that_are_larger_than_a_batch_are_read_from_any_place(limit: int) -> None:
    start = current_position()
    with transaction.atomic():
        tags("a", 30)
        tags("b", 30)
    assert runs() == [30, 30]
    resumed_from_everywhere(start, [limit])


def test_runs_of_the_greatest_length_are_read_to_their_ends() -> None:
    start = current_position()
    tags("a", 2 * LONGEST + RUN_AT_LEAST)
    assert runs() == [LONGEST, LONGEST, RUN_AT_LEAST]
    expected = committed()
    assert len(expected) == 2 * LONGEST + RUN_AT_LEAST
    for limit in (LONGEST - 1, LONGEST, LONGEST + 1):
        assert walk(start, limit) == expected


@pytest.mark.parametrize("ahead", [0, 10, 1_000])
def test_entries_alone_and_in_runs_of_two_models_come_in_one_order(ahead: int) -> None:
    """Their ids say nothing of each other, however many they have in common."""
    with connection.cursor() as cursor:
        for model, last in (Tag, 1_000_000), (Project, 1_000_000 + ahead):
            table = model.history.model._meta.db_table
            cursor.execute("SELECT setval(pg_get_serial_sequence(%s, 'history_id'), %s)", [table, last])
    start = current_position()
    for turn in range(2):
        with transaction.atomic():
            Tag.objects.create(name=f"first {turn}")
            projects = Project.objects.bulk_create([Project(name=f"{turn} {n}") for n in range(RUN_AT_LEAST)])
            tags(f"a {turn}", RUN_AT_LEAST)
            Tag.objects.create(name=f"between {turn}")
            change(projects[:3], "a few")
            tags(f"b {turn}", RUN_AT_LEAST)
            change(projects, "all of them")
            Tag.objects.create(name=f"last {turn}")
        Project.objects.create(name=f"alone {turn}")
    assert runs() == runs(Project) == [RUN_AT_LEAST] * 4
    expected = committed()
    assert len(expected) == 2 * (4 * RUN_AT_LEAST + 7)
    for limit in (1, 3, 19, 20, 21, 1_000):
        assert walk(start, limit) == expected


def test_what_was_pruned_or_taken_out_of_the_feed_is_passed_over() -> None:
    start = current_position()
    with transaction.atomic():
        for name in "abcd":
            tags(name, 25)
    first, second, third, fourth = ([key.history_id for key in committed()[n : n + 25]] for n in (0, 25, 50, 75))
    gone = [*first[:2], *first[9:17], first[-1], *second, *third[1:]]
    Tag.history.filter(history_id__in=gone).delete()
    Tag.history.filter(history_id__in=fourth[3:6]).update(position=0)
    assert runs() == [25] * 4
    assert len(committed()) == 14 + 1 + 22
    resumed_from_everywhere(start, [1, 14, 15, 37])


@pytest.mark.parametrize(("analysed", "most"), [(True, 800), (False, 8_100)])
def test_a_read_looks_at_little_more_than_it_gives(analysed: bool, most: int) -> None:
    """Of a run, and of many; as long as PostgreSQL has no statistics, it sorts the rest of each that it begins."""
    position = start = current_position()
    with transaction.atomic():
        for name in range(30):
            tags(str(name), 1_000)
    if analysed:
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE koherent_assignation, example_schema_historicaltag")
    for _ in range(10):
        with CaptureQueriesContext(connection) as captured:
            batch = read_since(position, 300)
        # The snapshot, where a read is the first of its set, and the entries.
        assert len(captured) == (2 if position is start else 1)
        _, tables, rows = plan(captured[-1]["sql"])
        assert "example_schema_historicaltag" not in tables
        assert 300 < rows < most
        position = batch.position


def test_only_models_that_have_had_runs_since_are_asked_for_them() -> None:
    tags("before", 30)
    now = current_position()
    assert now.snapshot is not None
    # As if nobody else used this cluster: a transaction that is still running may have written runs before.
    start = replace(now, snapshot=Snapshot(now.snapshot.xmax, now.snapshot.xmax, frozenset()))
    Tag.objects.create(name="alone")
    Project.objects.bulk_create([Project(name=str(number)) for number in range(30)])
    with CaptureQueriesContext(connection) as captured:
        batch = read_since(start, 10)
    assert [query["sql"].count("CROSS JOIN LATERAL") for query in captured] == [0, 1]
    assert [item.key for item in batch.items] == committed()[30:40]
    # Whoever resumes is not told again which.
    assert walk(parse(batch.position.cursor), 10) == committed()[40:]


@pytest.fixture
def _slow_history() -> Iterator[None]:
    """An entry that says ``wait`` holds its statement up while somebody has that lock."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF NEW.name LIKE 'wait%' THEN PERFORM pg_advisory_xact_lock_shared({SLOW}); END IF; RETURN NEW; END $$; "
            "CREATE TRIGGER slow BEFORE INSERT ON example_schema_historicaltag FOR EACH ROW EXECUTE FUNCTION slow()"
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER slow ON example_schema_historicaltag; DROP FUNCTION slow()")


@pytest.mark.usefixtures("_slow_history")
def test_a_statement_that_takes_others_ids_in_between_is_read_whole() -> None:
    """What it wrote before and behind them are runs of their own, and come when it is committed."""
    start = current_position()
    names = [*(f"slow {n}" for n in range(11)), "wait", *(f"slow {n}" for n in range(11, 30))]
    with ThreadPoolExecutor(1) as pool, ThreadPoolExecutor(1) as other, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [SLOW])
        try:
            slow = pool.submit(closing, lambda: Tag.objects.bulk_create([Tag(name=name) for name in names]))
            until_somebody_waits_for_a_lock(slow)
            assert not slow.done()
            other.submit(closing, lambda: tags("fast", 40)).result(WAIT)
            before = committed()
            assert len(before) == 40
            read = read_since(start, 25)
            late = read_since(read.position, 25)
        finally:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [SLOW])
        slow.result(WAIT)
    assert runs() == [12, 40, 19]
    assert [item.key for item in (*read.items, *late.items)] == before
    slow_ones = [key for key in committed() if key not in before]
    assert len(slow_ones) == 31
    for limit in (1, 11, 12, 13, 30, 31):
        assert walk(late.position, limit) == walk(parse(late.position.cursor), limit) == slow_ones
        # In the middle of the fast ones' run, whose set of transactions is read to its end first.
        assert walk(parse(read.items[11].position.cursor), limit) == [*before[12:], *slow_ones]
        assert sorted(walk(start, limit)) == committed()


def test_writers_at_the_same_time_and_readers_between_them_lose_and_double_nothing() -> None:
    start = current_position()
    rounds, writers = 8, 3
    barrier = threading.Barrier(writers, timeout=WAIT)
    ended = threading.Event()

    def write(seed: int) -> None:
        dice = random.Random(seed)
        for number in range(rounds):
            barrier.wait()
            with transaction.atomic():
                tags(f"{seed} {number} a", dice.randint(100, 400))
                Tag.objects.create(name=f"{seed} {number}")
                tags(f"{seed} {number} b", dice.choice((5, 100)))
                if dice.random() < 0.2:
                    transaction.set_rollback(True)

    def read(seed: int) -> list[Key]:
        dice, position, keys = random.Random(seed), start, list[Key]()
        while True:
            last = ended.is_set()
            batch = read_since(position, dice.randint(1, 150))
            if last and not batch.items and not batch.more:
                return keys
            # Goes away in the middle, where nothing comes twice for it.
            items = batch.items[: dice.randint(0, len(batch.items))]
            keys += [item.key for item in items]
            if len(items) == len(batch.items):
                position = batch.position
            elif items:
                position = parse(items[-1].position.cursor)

    with ThreadPoolExecutor(writers + 2) as pool:
        readers = [pool.submit(closing, lambda seed=seed: read(seed)) for seed in range(2)]
        writing = [pool.submit(closing, lambda seed=seed: write(seed)) for seed in range(writers)]
        try:
            for writer in writing:
                writer.result(2 * WAIT)
        finally:
            ended.set()
        found = [reader.result(2 * WAIT) for reader in readers]
    expected = committed()
    assert len(expected) > rounds * writers * 100
    assert [sorted(keys) == expected for keys in found] == [True, True]
    assert walk(start, 97) == expected


def test_restored_runs_are_found_without_reading_the_others_and_warned_of() -> None:
    tags("here", 5_000)
    tags("elsewhere", 30)
    Tag.objects.create(name="elsewhere, alone")
    assert check_positions(None, databases=["default"]) == []
    elsewhere = [key.history_id for key in committed()[5_000:]]
    Tag.history.filter(history_id__in=elsewhere).update(position=2**60)
    Assignation.objects.filter(first_id=elsewhere[0]).update(position=2**60)
    # A prune took some, and a repair was interrupted.
    Tag.history.filter(history_id__in=elsewhere[:4]).delete()
    Tag.history.filter(history_id__in=elsewhere[4:6]).update(position=0)
    with CaptureQueriesContext(connection) as captured:
        [warning] = check_positions(None, databases=["default"])
    assert (warning.id, warning.obj) == ("koherent.W010", Tag)
    assert warning.msg.startswith("25 history entries have positions of another cluster")
    assert walk(current_position(), 10) == []
    of_tags = next(query["sql"] for query in captured if "historicaltag" in query["sql"])
    _, tables, rows = plan(of_tags)
    assert "example_schema_historicaltag" not in tables
    assert rows < 100


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("example_schema_historicaltag", "in_run"),
        ("example_schema_historicaltag", "position"),
        ("koherent_assignation", "position"),
    ],
)
def test_the_check_runs_before_the_migrations_that_bring_runs(table: str, column: str) -> None:
    """It has nothing to say then."""
    Tag.objects.create(name="elsewhere")
    Tag.history.update(position=2**60)
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO later")
        assert check_positions(None, databases=["default"]) == []
        call_command("check", databases=["default"], stdout=io.StringIO(), stderr=io.StringIO())
        transaction.set_rollback(True)
