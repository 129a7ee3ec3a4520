"""The same, where the million entries were written in bulk: a thousand at a time, each thousand a run."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from koherent import timeline
from koherent.policy import Scope, Viewer, scope_for
from koherent.timeline import Filters, Position
from tests.effort import effort, plan
from tests.plans.conftest import FEW, ROWS
from tests.plans.test_plans import PAGE, PROJECT, TAG, at, check_growth, first_statement

SIZE = 1_000
#: Table -> label, rows, its own columns, their values.
TABLES = {
    "project": (PROJECT, ROWS, "name, description", "'Name ' || i, ''"),
    "tag": (TAG, FEW, "name", "'Name ' || i"),
}
#: What the entries of run ``j`` have in common. The rare ones are at the old end.
SHARED = """
  timestamptz '2020-01-01' + j * interval '1000 seconds',
  CASE WHEN j = 1 THEN '-' WHEN j % 3 = 0 THEN '+' ELSE '~' END,
  CASE WHEN j = 1 THEN 'rare' WHEN j % 4 < 2 THEN 'desk' ELSE NULL END,
  CASE WHEN j = 1 THEN 'small' WHEN j % 4 = 0 THEN 'big' ELSE NULL END,
  CASE WHEN j = 1 THEN 'rare' WHEN j % 3 = 0 THEN (j % 50)::text ELSE '1' END,
"""
ENTRIES = f"""
INSERT INTO example_schema_historical{{name}} (
  history_date, history_type, app, assignation_id, actor_id,
  actor_name, metadata, origin, position, in_run, history_id, id, {{columns}}
) SELECT {SHARED} 'ada', '{{{{}}}}', 'change', j, TRUE, i, 1 + i % ({{rows}} / 100), {{values}}
FROM generate_series(1, {{rows}}) AS i, LATERAL (SELECT (i - 1) / {SIZE} + 1 AS j) AS run
"""
RUNS = f"""
INSERT INTO koherent_assignation (
  history_date, history_type, app, assignation_id, actor_id,
  started_at, model, first_id, last_id, position
) SELECT {SHARED} now(), '{{label}}', (j - 1) * {SIZE} + 1, j * {SIZE}, j
FROM generate_series(1, {{rows}} / {SIZE}) AS j
"""


@pytest.fixture(scope="module")
def runs(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for name, (label, rows, columns, values) in TABLES.items():
            cursor.execute(ENTRIES.format(name=name, rows=rows, columns=columns, values=values))
            cursor.execute(RUNS.format(label=label, rows=rows))
        cursor.execute("VACUUM ANALYZE")
        try:
            yield
        finally:
            tables = [f"example_schema_historical{name}" for name in TABLES]
            cursor.execute(f"TRUNCATE koherent_assignation, {', '.join(tables)}")


@pytest.fixture
def scope(runs: None, db: None) -> Scope:
    """Sees everything."""
    return scope_for(Viewer(user=User.objects.create_superuser("root")))


def filters(rows: int = ROWS) -> dict[str, dict[str, Any]]:
    """Each filter, also with values that are rare, old or nowhere, and some of them combined."""
    return {
        "none": {},
        "users": {"users": ["1"]},
        "users, five": {"users": ["1", "3", "6", "9", "12"]},
        "users, rare": {"users": ["rare"]},
        "users, nobody": {"users": ["nobody"]},
        "apps": {"apps": ["desk"]},
        "apps, rare": {"apps": ["rare"]},
        "actions CREATE": {"actions": ["+"]},
        "actions DELETE": {"actions": ["-"]},
        "assignation, a quarter of all": {"assignation_id": "big"},
        "assignation, small": {"assignation_id": "small"},
        "assigned": {"assigned": True},
        "not assigned": {"assigned": False},
        "since": {"since": at(0.5, rows)},
        "until": {"until": at(0.5, rows)},
        "since, until": {"since": at(0.5, rows), "until": at(0.51, rows)},
        "until, user": {"until": at(0.5, rows), "users": ["1"]},
    }


def pages(rows: int = ROWS) -> dict[str, dict[str, Any]]:
    """The first page; one in the middle, whose cursor is in the midst of a run; the last."""
    run = rows // SIZE // 2
    moment = at(run * SIZE / rows, rows)
    middle = Position(moment, PROJECT if rows == ROWS else TAG, run * SIZE - SIZE // 2).encode()
    return {"first": {"first": PAGE}, "middle": {"first": PAGE, "after": middle}, "last": {"last": PAGE}}


@pytest.mark.parametrize("name", filters())
def test_a_page_reads_about_a_page(scope: Scope, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = Filters(models=[PROJECT], **filters()[name])
    for where, window in pages().items():
        statement = first_statement(lambda window=window: timeline.page(scope, given, **window))  # type: ignore[misc]
        indexes, tables, rows = plan(statement)
        with capsys.disabled():
            print(f"\n{name:28} {where:7} {rows:6} rows  {', '.join(sorted(indexes))}", end="")  # noqa: T201
        assert tables == set()
        # Each walk reads a page and a run or two, of several users as many as there are.
        assert rows <= 20 * PAGE


def test_all_models_at_once(scope: Scope) -> None:
    for window in pages().values():
        _, tables, rows = plan(first_statement(lambda window=window: timeline.page(scope, **window)))  # type: ignore[misc]
        assert tables <= {f"example_schema_historical{empty}" for empty in ("image", "dataset")}
        assert rows <= 20 * PAGE


def test_an_assignation_is_read_without_its_entries(scope: Scope) -> None:
    lean = timeline.AssignationParts(count=False)
    assert timeline.assignation(scope, "big", lean) is not None
    assert effort(lambda: timeline.assignation(scope, "big", lean)) <= 10 * ROWS // SIZE
    assert [info.id for info in timeline.assignations(scope, first=PAGE, parts=lean).items] == ["big", "small"]
    found = timeline.pages_of_assignations(scope, ["big", "small"], timeline.Window.of(first=PAGE))
    assert [len(page.entries) for page in found.values()] == [PAGE, PAGE]
    assert effort(lambda: timeline.pages_of_assignations(scope, ["big"], timeline.Window.of(first=PAGE))) <= 20 * PAGE


def test_counting_reads_what_there_is_to_count(scope: Scope) -> None:
    small = Filters(models=[PROJECT], assignation_id="small")
    assert timeline.count(scope, small) == SIZE
    assert effort(lambda: timeline.count(scope, small)) <= 5 * SIZE
    assert timeline.counts_of_assignations(scope, ["small"]) == {"small": 2 * SIZE}
    assert effort(lambda: timeline.counts_of_assignations(scope, ["small"])) <= 20 * SIZE


def test_a_million_entries_cost_what_ten_thousand_cost(scope: Scope, capsys: pytest.CaptureFixture[str]) -> None:
    check_growth(scope, filters, pages, capsys)
