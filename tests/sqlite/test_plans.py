"""On SQLite, too, each filter walks an index of its own, in order, and nothing is read from end to end."""

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Dataset, Project
from koherent import timeline
from koherent.beginnings import LONGEST
from koherent.models import Assignation
from koherent.policy import Scope, Viewer, scope_for
from koherent.registry import by_label
from koherent.timeline import Filters, Position
from koherent.timeline.search import Search, find_each
from tests.effort import effort

pytestmark = pytest.mark.django_db
PROJECT = "example_schema.project"
NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
AFTER = Position(NOW, PROJECT, 5).encode()


@pytest.fixture
def scope(viewer: Viewer) -> Scope:
    return scope_for(viewer)


def plan(queries: CaptureQueriesContext) -> list[str]:
    """What SQLite says about the first of the statements."""
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN QUERY PLAN " + queries[0]["sql"].replace("%", "%%"))
        return [row[3] for row in cursor.fetchall()]


@pytest.mark.parametrize("window", [{"first": 50}, {"first": 50, "after": AFTER}, {"last": 50}])
@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({}, "date"),
        ({"since": NOW, "until": NOW}, "date"),
        ({"object_id": "1"}, "page"),
        ({"users": ["1", "2"]}, "actor"),
        ({"apps": ["desk"]}, "app"),
        ({"actions": ["+", "-"], "assigned": True}, "with"),
        ({"actions": ["+", "-"], "assigned": False}, "without"),
        ({"assignation_id": "task"}, "work"),
        ({"assigned": True}, "with"),
        ({"assigned": False}, "without"),
    ],
)
def test_each_filter_walks_its_index(scope: Scope, filters: Any, index: str, window: Any) -> None:
    with CaptureQueriesContext(connection) as queries:
        timeline.page(scope, Filters(models=[PROJECT], **filters), **window)
    lines = [line for line in plan(queries) if "example_schema_historicalproject" in line]
    walks = [line for line in lines if f"_{index} (" in line or line.endswith(f"_{index}")]
    kinds = filters.get("actions", ["+", "~", "-"]) if "assigned" in filters else [1]
    assert len(walks) == len(filters.get("users") or kinds)
    if "after" in window:
        # The walk begins at the cursor, not at the end of the index.
        assert all(line.startswith("SEARCH") and "history_date<?" in line for line in walks)
    # The others look one entry up by its key, and the entry before it by its object.
    assert all(
        "(rowid=?)" in line or "PRIMARY KEY (rowid=?)" in line or "_object (" in line
        for line in set(lines) - set(walks)
    )


def test_the_newest_of_many_objects_are_looked_up(scope: Scope) -> None:
    tracked = by_label(PROJECT)
    assert tracked is not None
    with CaptureQueriesContext(connection) as queries:
        find_each(scope, tracked, "id", [1, 2, 3], [Search(tracked, scope.entries(tracked))], limit=5)
    lines = [line for line in plan(queries) if line.startswith(("SCAN", "SEARCH"))]
    scanned = [line for line in lines if line.startswith("SCAN")]
    assert all("historical" not in line for line in scanned), lines
    assert any("_page (id=?" in line for line in lines)


@pytest.mark.parametrize("filters", [{}, {"users": ["1"]}, {"assignation_id": "a"}, {"assigned": True}], ids=str)
def test_a_page_of_runs_costs_the_same_among_many(scope: Scope, filters: dict[str, Any]) -> None:
    """No run is read or sorted as a whole, but for the part of one that is newer than a cursor within it."""
    project = Project.objects.create(name="Moon")
    user = User.objects.get()
    if "users" in filters:
        filters = {"users": [str(user.pk)]}
    chosen = Filters(models=["example_schema.dataset"], **filters)

    def costs(size: int) -> list[int]:
        with koherent.audit(user=user, assignation_id="a"):
            Dataset.objects.bulk_create(Dataset(project=project, title=f"{number}") for number in range(size))
        run = Assignation.objects.exclude(model=None).latest("first_id")
        assert run.history_date is not None
        assert run.last_id is not None
        within = Position(run.history_date, "example_schema.dataset", run.last_id - 9).encode()
        windows: tuple[dict[str, Any], ...] = ({"first": 50}, {"last": 50}, {"first": 50, "after": within})
        return [effort(lambda window=window: timeline.page(scope, chosen, **window)) for window in windows]  # type: ignore[misc]

    few = costs(60)
    costs(LONGEST)
    assert all(now <= 1.3 * then for then, now in zip(few, costs(LONGEST), strict=True))
