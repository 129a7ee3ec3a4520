"""Every filter, alone and combined, reads about a page of rows from a million: asked from PostgreSQL itself."""

import datetime as dt
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from koherent import timeline
from koherent.models import Assignation
from koherent.policy import Scope
from koherent.timeline import Filters, Position
from tests.effort import effort, plan
from tests.plans.conftest import FEW, ROWS

DATASET, PROJECT, TAG = "example_schema.dataset", "example_schema.project", "example_schema.tag"
PAGE = 50
#: By how many entries there are: each filter, and each page.
BySize = Callable[[int], dict[str, dict[str, Any]]]
#: Empty here, so that reading it from end to end is the best that can be done.
NO_RUNS = {"koherent_assignation"}
START = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


def at(share: float, rows: int = ROWS) -> dt.datetime:
    """The time when that share of the entries had been written."""
    return START + dt.timedelta(seconds=int(rows * share))


def single(rows: int) -> dict[str, dict[str, Any]]:
    """Each filter by itself, also with values that are rare, old or nowhere."""
    return {
        "none": {},
        "object": {"object_id": "1"},
        "object, one of many": {"object_id": "76"},
        "users": {"users": ["1"]},
        "users, five": {"users": ["1", "3", "6", "9", "12"]},
        "users, rare": {"users": ["rare"]},
        "users, nobody": {"users": ["nobody"]},
        "apps": {"apps": ["desk"]},
        "apps, rare": {"apps": ["rare"]},
        "apps, unknown": {"apps": ["never"]},
        "actions CREATE": {"actions": ["+"]},
        "actions DELETE": {"actions": ["-"]},
        "actions CREATE, DELETE": {"actions": ["+", "-"]},
        "assignation, a tenth of all": {"assignation_id": "big"},
        "assignation, small": {"assignation_id": "small"},
        "assignation, unknown": {"assignation_id": "never"},
        "assigned": {"assigned": True},
        "not assigned": {"assigned": False},
        "since": {"since": at(0.5, rows)},
        "until": {"until": at(0.5, rows)},
        "since, until": {"since": at(0.5, rows), "until": at(0.51, rows)},
    }


COMBINED: dict[str, dict[str, Any]] = {
    "object, user": {"object_id": "1", "users": ["1"]},
    "object, user, rare": {"object_id": "1", "users": ["rare"]},
    "object, DELETE": {"object_id": "76", "actions": ["-"]},
    "user, app": {"users": ["1"], "apps": ["desk"]},
    "user, app, CREATE": {"users": ["3", "6"], "apps": ["desk"], "actions": ["+"]},
    "user, DELETE": {"users": ["1"], "actions": ["-"]},
    "app, not assigned": {"apps": ["desk"], "assigned": False},
    "app, rare, assigned": {"apps": ["rare"], "assigned": True},
    "assignation, CREATE": {"assignation_id": "big", "actions": ["+"]},
    "assignation, user": {"assignation_id": "big", "users": ["1"]},
    "assigned, DELETE": {"assigned": True, "actions": ["-"]},
    "until, user": {"until": at(0.5), "users": ["1"]},
    "since, app": {"since": at(0.99), "apps": ["desk"]},
    "until, object": {"until": at(0.5), "object_id": "1"},
    "all of them": {
        "object_id": "1",
        "users": ["1"],
        "apps": ["desk"],
        "assigned": False,
        "actions": ["~"],
        "since": at(0.1),
        "until": at(0.9),
    },
}
FILTERS = {**single(ROWS), **COMBINED}


def first_statement(read: Callable[[], Any]) -> str:
    """The statement that finds what a reading is about."""
    with CaptureQueriesContext(connection) as captured:
        read()
    return str(captured[0]["sql"])


def pages(rows: int = ROWS) -> dict[str, dict[str, Any]]:
    """The first, a middle and the last page."""
    middle = Position(at(0.5, rows), PROJECT if rows == ROWS else TAG, rows // 2).encode()
    return {"first": {"first": PAGE}, "middle": {"first": PAGE, "after": middle}, "last": {"last": PAGE}}


@pytest.mark.parametrize("name", FILTERS)
def test_a_page_reads_about_a_page(scope: Scope, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    filters = Filters(models=[PROJECT], **FILTERS[name])
    for where, window in pages().items():
        statement = first_statement(lambda window=window: timeline.page(scope, filters, **window))  # type: ignore[misc]
        indexes, tables, rows = plan(statement)
        with capsys.disabled():
            print(f"\n{name:28} {where:7} {rows:6} rows  {', '.join(sorted(indexes))}", end="")  # noqa: T201
        assert tables <= NO_RUNS
        # Alone: five users are five walks, each up to a page, and an entry looks for the one before it. Together,
        # conditions may have little in common; no more is read then than the rarer of them has, or than an object has.
        most = ROWS // 5 if "object_id" in FILTERS[name] else ROWS // 20
        assert rows <= (20 * PAGE if name in single(ROWS) else most)


def test_few_without_an_assignation_among_many_with_one(scope: Scope) -> None:
    filters = Filters(models=[DATASET], assigned=False)
    for window in ({"first": PAGE}, {"last": PAGE}):
        indexes, tables, rows = plan(first_statement(lambda window=window: timeline.page(scope, filters, **window)))  # type: ignore[misc]
        assert {"without", "pkey"} <= indexes
        assert tables <= NO_RUNS
        assert rows <= 2 * 3  # the three, and a look for the entry before


def test_all_models_at_once(scope: Scope) -> None:
    for window in pages().values():
        indexes, tables, rows = plan(first_statement(lambda window=window: timeline.page(scope, **window)))  # type: ignore[misc]
        assert tables <= {"example_schema_historicalimage"} | NO_RUNS  # it is empty
        assert {"date"} <= indexes
        assert rows <= 20 * PAGE


def test_the_newest_of_a_hundred_objects_are_looked_up(scope: Scope) -> None:
    tracked = scope.tracked(PROJECT)
    assert tracked is not None
    keys = list(range(1, 101))  # the first of them has a tenth of all entries
    window = timeline.Window.of(first=3)
    statement = first_statement(lambda: timeline.pages_of_objects(scope, tracked, keys, window))
    indexes, tables, rows = plan(statement)
    assert ("page" in indexes, tables) == (True, set())
    assert rows <= len(keys) * 4 * 4  # one more than a page, and for each the entry before and its own row


def test_a_page_of_assignations_looks_into_the_index_for_each(scope: Scope) -> None:
    Assignation.objects.bulk_create(
        [Assignation(assignation_id=f"gone {number}", started_at=START) for number in range(100_000)]
        + [Assignation(assignation_id=f"task {number}", started_at=START) for number in range(1, ROWS // 1000)],
        batch_size=10_000,
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE koherent_assignation")
    lean = timeline.AssignationParts(count=False)
    page = timeline.assignations(scope, first=PAGE, parts=lean)
    assert [info.id for info in page.items] == [f"task {ROWS // 1000 - 1 - number}" for number in range(PAGE)]
    assert effort(lambda: timeline.assignations(scope, first=PAGE, parts=lean)) <= 200 * PAGE


def best(scope: Scope, sides: dict[str, tuple[Filters, dict[str, Any]]], best_so_far: dict[str, float]) -> None:
    """Time each side's page a few times, interleaved; keeps the best, in milliseconds."""
    for _ in range(10):
        for size, (filters, window) in sides.items():
            begun = time.perf_counter()
            timeline.page(scope, filters, **window)
            best_so_far[size] = min(best_so_far.get(size, 1e9), (time.perf_counter() - begun) * 1000)


def check_growth(scope: Scope, filters: BySize, pages: BySize, capsys: pytest.CaptureFixture[str]) -> None:
    """Each page of each filter, of many entries and of few: the best of several, and of more while the machine is busy.

    What is really slower stays so.
    """
    slower = []
    for name, given in filters(FEW).items():
        many, few = Filters(models=[PROJECT], **filters(ROWS)[name]), Filters(models=[TAG], **given)
        for where, window in pages(ROWS).items():
            times: dict[str, float] = {}
            for _ in range(30):
                best(scope, {"few": (few, pages(FEW)[where]), "many": (many, window)}, times)
                if times["many"] <= 1.3 * times["few"]:
                    break
            else:
                slower.append((name, where, times))
            ratio = times["many"] / times["few"]
            with capsys.disabled():
                print(f"\n{name:28} {where:7} {times['few']:6.1f} {times['many']:6.1f} ms  x {ratio:.2f}", end="")  # noqa: T201
    assert slower == []


def test_a_million_entries_cost_what_ten_thousand_cost(scope: Scope, capsys: pytest.CaptureFixture[str]) -> None:
    check_growth(scope, single, pages, capsys)
