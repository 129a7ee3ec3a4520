"""Assignations are listed and shown without reading their entries, let alone the whole history."""

import datetime as dt
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Dataset, Project, Tag
from koherent import timeline
from koherent.models import Assignation
from koherent.policy import Entries, Policy, Scope, Viewer, scope_for
from koherent.registry import TrackedModel, tracked_models
from koherent.timeline import AssignationParts, Window
from tests.effort import effort

pytestmark = pytest.mark.django_db
LEAN = AssignationParts(count=False)

#: So many entries of tags, as a bulk write leaves them; every tenth by Ada with the app "import".
FILL = """
INSERT INTO example_schema_historicaltag (
  history_date, history_type, app, assignation_id, actor_id, actor_name, metadata, origin, position, id, name
)
WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < %(rows)s)
SELECT CAST(%(date)s AS {moment}), '~', CASE WHEN i %% 10 = 0 THEN 'import' END, CAST(%(assignation)s AS varchar(255)),
  CASE WHEN i %% 10 = 0 THEN '17' END, CASE WHEN i %% 10 = 0 THEN 'ada' END, '{{}}', 'change', 1, i %% 1000, 'n'
FROM numbers
"""


class OnlyTags(Policy):
    """Shows the history of tags, and of those what Ada did."""

    def viewable_models(self, viewer: Viewer, models: Any) -> Any:
        return [tracked for tracked in models if tracked.model is Tag]

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        return queryset.filter(actor_name="ada")


@pytest.fixture
def scope(viewer: Viewer) -> Scope:
    return scope_for(viewer)


def fill(rows: int, assignation: str | None) -> None:
    """So many entries with the assignation."""
    moment = "timestamp with time zone" if connection.vendor == "postgresql" else "text"
    date = "2026-01-02 00:00:00+00:00" if connection.vendor == "postgresql" else "2026-01-02 00:00:00"
    with connection.cursor() as cursor:
        statement = FILL.format(moment=moment)
        if connection.vendor == "sqlite":
            # SQLite's placeholders are positional, in the order of their use.
            statement = statement.replace("%%", "%")
            for name, value in (("rows", str(rows)), ("date", f"'{date}'")):
                statement = statement.replace(f"%({name})s", value)
            quoted = "NULL" if assignation is None else f"'{assignation}'"
            cursor.execute(statement.replace("%(assignation)s", quoted))
        else:
            cursor.execute(statement, {"rows": rows, "date": date, "assignation": assignation})
    if assignation is not None:
        Assignation.objects.create(assignation_id=assignation, started_at=dt.datetime(2026, 1, 2, tzinfo=dt.UTC))


def analyse() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def work(*names: str) -> None:
    for name in names:
        with koherent.audit(assignation_id=name, app="desk"):
            Project.objects.create(name=name)


def test_one_of_a_hundred_thousand_entries_costs_what_a_small_one_costs(scope: Scope) -> None:
    fill(300, "small")
    work("a", "b", "c")

    def efforts(id: str) -> dict[str, int]:
        analyse()
        return {
            "list": effort(lambda: timeline.assignations(scope, first=50, parts=LEAN)),
            "detail": effort(lambda: timeline.assignation(scope, id, LEAN)),
            "entries": effort(lambda: timeline.pages_of_assignations(scope, [id], Window.of(5))),
        }

    small = efforts("small")
    fill(100_000, "big")
    fill(100_000, None)
    big = efforts("big")
    # The list has one more, and PostgreSQL reads small tables in other ways than large ones; 500 is nothing of 100,000.
    assert all(big[name] <= 2 * small[name] + 500 for name in small), (small, big)
    info = timeline.assignation(scope, "big")
    assert info is not None
    assert (info.entry_count, info.apps, [user.name for user in info.users]) == (100_000, ["import"], ["ada"])


def test_the_list_walks_assignations_not_entries(scope: Scope) -> None:
    """Most entries have no assignation, and thousands of assignations are there: a page looks at a page of them."""
    fill(50_000, None)
    Assignation.objects.bulk_create(
        Assignation(assignation_id=f"gone {number}", started_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
        for number in range(2000)
    )
    for number in range(100):
        fill(3, f"task {number}")
    fill(3, "newest")
    analyse()
    page = timeline.assignations(scope, first=1, parts=LEAN)
    assert [info.id for info in page.items] == ["newest"]
    assert effort(lambda: timeline.assignations(scope, first=1, parts=LEAN)) < 20_000
    second = timeline.assignations(scope, first=2, after=page.items[0].cursor, parts=LEAN)
    assert [info.id for info in second.items] == ["task 99", "task 98"]


def queries(run: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        run()
    return len(captured)


def test_a_page_costs_the_same_for_1_10_and_100(scope: Scope, admin: User) -> None:
    def story(number: int) -> None:
        with koherent.audit(user=admin, app="desk", assignation_id=f"task {number}"):
            project = Project.objects.create(name=f"{number}")
            dataset = Dataset.objects.create(project=project, title="t")
        with koherent.audit(user=admin, assignation_id=f"undo {number}"):
            dataset.delete()
        row = Assignation.objects.get(assignation_id=f"undo {number}")
        row.reverts, row.reverts_entry = f"task {number}", f"example_schema.project:{Project.history.first().pk}"
        row.save()

    costs = []
    for parents in (1, 10, 100):
        for number in range(Assignation.objects.count() // 2, parents):
            story(number)
        ids = [f"task {number}" for number in range(parents)]
        runs: list[Callable[[], Any]] = [
            partial(timeline.assignations, scope, first=100),
            partial(timeline.assignations, scope, first=100, parts=LEAN),
            partial(timeline.pages_of_assignations, scope, ids, Window.of(3)),
            partial(timeline.counts_of_assignations, scope, ids),
        ]
        costs.append([queries(run) for run in runs])
    assert costs == [costs[0]] * 3
    shown = timeline.assignations(scope, first=2).items
    assert [(info.reverts, info.reverted_by) for info in shown] == [("task 99", []), (None, ["undo 99"])]


def test_what_is_not_wanted_is_not_read(scope: Scope) -> None:
    work("a")
    nothing = AssignationParts(people=False, accounts=False, count=False, reverts=False, previous=False)
    # The page of ids, and when each was in which models.
    assert queries(lambda: timeline.assignations(scope, parts=nothing)) == 2
    [info] = timeline.assignations(scope, parts=nothing).items
    assert (info.entry_count, info.users, info.apps, info.models) == (None, [], [], ["example_schema.project"])


def test_only_visible_entries_count(admin: User) -> None:
    fill(100, "mixed")
    fill(9, "of others")
    with koherent.audit(assignation_id="mixed", app="desk"):
        Project.objects.create(name="Moon")
    work("of projects")
    models = tuple(tracked for tracked in tracked_models() if tracked.model is Tag)
    scope = Scope(viewer=Viewer(user=admin), policy=OnlyTags(), models=models)
    [info] = timeline.assignations(scope).items
    assert (info.id, info.entry_count, info.apps) == ("mixed", 10, ["import"])
    assert [(user.key, user.name) for user in info.users] == [("17", "ada")]
    assert (info.models, info.ended_at) == (["example_schema.tag"], dt.datetime(2026, 1, 2, tzinfo=dt.UTC))
    assert timeline.assignation(scope, "of projects") is None
    assert timeline.counts_of_assignations(scope, ["mixed", "of projects"]) == {"mixed": 10, "of projects": 0}


def test_everybody_who_took_part_is_named(scope: Scope) -> None:
    people = [User.objects.create_user(name) for name in ("cleo", "bob", "ada")]
    for person in (*people, None):
        for app in ("desk", "bench", None):
            with koherent.audit(user=person, app=app, assignation_id="task"):
                Tag.objects.create(name=f"{person} {app}")
                Project.objects.create(name=f"{person} {app}")
    with koherent.audit(app="nobody's", assignation_id="task"):
        Tag.objects.create(name="last")
    key = people[0].pk
    people[0].delete()
    info = timeline.assignation(scope, "task")
    assert info is not None
    assert [(user.name, user.deleted) for user in info.users] == [("ada", False), ("bob", False), ("cleo", True)]
    assert info.users[-1].key == str(key)
    assert (info.apps, info.entry_count) == (["bench", "desk", "nobody's"], 25)


def test_a_page_knows_what_lies_before_it(scope: Scope) -> None:
    work("a", "b")
    [newest, oldest] = timeline.assignations(scope).items
    assert timeline.assignations(scope, after=newest.cursor).has_previous_page
    Project.history.filter(assignation_id="b").delete()
    assert not timeline.assignations(scope, after=newest.cursor).has_previous_page
    assert timeline.assignations(scope, after=oldest.cursor).items == []


class NoTags(Policy):
    """Hides all entries of one model, though the model is visible."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Entries) -> Entries:
        return queryset.none() if tracked.model is Tag else queryset


def test_a_policy_may_show_nothing_of_a_model(admin: User) -> None:
    with koherent.audit(user=admin, app="desk", assignation_id="both"):
        Tag.objects.create(name="red")
        Project.objects.create(name="Moon")
    with koherent.audit(assignation_id="hidden"):
        Tag.objects.create(name="blue")
    with override_settings(KOHERENT={"POLICY": "tests.test_assignations.NoTags"}):
        scope = scope_for(Viewer(user=admin))
        [info] = timeline.assignations(scope).items
        assert (info.id, info.models, info.apps, info.entry_count) == ("both", ["example_schema.project"], ["desk"], 1)
        assert timeline.assignation(scope, "hidden") is None
