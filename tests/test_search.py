"""The newest entries of many objects, in one statement, exactly as each object's own page would show them."""

import datetime as dt
from typing import Any

import pytest
from django.db import connection
from django.db.models import F, Q, QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from example_schema.models import Dataset, Image, Project
from koherent import timeline
from koherent.policy import Policy, Scope, Viewer, scope_for
from koherent.registry import TrackedModel, for_model
from koherent.timeline import Filters
from koherent.timeline.search import Columns, Found, Search, find, find_each, find_rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def scope(viewer: Viewer) -> Scope:
    return scope_for(viewer)


def tracked(model: Any) -> TrackedModel:
    found = for_model(model)
    assert found is not None
    return found


def each(scope: Scope, model: Any, keys: list[Any], parts: Any = None, **kwargs: Any) -> list[list[Found]]:
    """What is found for each object, by its primary key."""
    rows = [scope.entries(tracked(model))] if parts is None else parts
    searches = [Search(tracked(model), some) for some in rows]
    found: list[list[Found]] = [[] for _ in keys]
    for hit in find_each(scope, tracked(model), "id", keys, searches, **kwargs):
        found[hit.place].append(hit.found)
    return found


def rename(instance: Any, *names: str) -> None:
    field = "title" if isinstance(instance, Dataset) else "name"
    for name in names:
        setattr(instance, field, name)
        instance.save()


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 10])
def test_each_object_gets_its_own(scope: Scope, limit: int, newest_first: bool) -> None:
    projects = [Project.objects.create(name=f"{number}") for number in range(5)]
    for number, project in enumerate(projects):
        rename(project, *(f"{number}, {again}" for again in range(number)))
    keys = [project.pk for project in reversed(projects)] + [10**9]
    with CaptureQueriesContext(connection) as queries:
        found = each(scope, Project, keys, limit=limit, newest_first=newest_first)
    assert len(queries) == 1
    order = "-history_id" if newest_first else "history_id"
    for key, hits in zip(keys, found, strict=True):
        own = list(Project.history.filter(id=key).order_by(order).values_list("history_id", flat=True))
        assert [hit.history_id for hit in hits] == own[:limit]
        for hit in hits:
            earlier = [id for id in own if id < hit.history_id]
            assert hit.before == max(earlier, default=None)


def test_parts_are_merged_in_order(scope: Scope) -> None:
    project = Project.objects.create(name="1")
    rename(project, "2", "3")
    key = project.pk
    project.delete()
    rows = scope.entries(tracked(Project))
    parts = [rows.filter(history_type=action) for action in "-~+"] + [rows.filter(Q(pk__in=[]))]
    [found] = each(scope, Project, [key], parts, limit=3)
    newest = Project.history.order_by("-history_id").values_list("history_id", flat=True)
    assert [hit.history_id for hit in found] == list(newest[:3])
    assert each(scope, Project, [1, 2], [rows.filter(pk__in=[])], limit=3) == [[], []]
    assert each(scope, Project, [], limit=3) == []


def test_keys_of_another_kind(scope: Scope) -> None:
    dataset = Dataset.objects.create(project=Project.objects.create(name="1"), title="a")
    images = [Image.objects.create(dataset=dataset, name=name, width=1, height=1) for name in "abc"]
    rename(images[1], "d")
    found = each(scope, Image, [image.pk for image in images], limit=9)
    assert [len(hits) for hits in found] == [1, 2, 1]


def test_a_million_rows_of_one_time_are_still_walked_by_place(scope: Scope) -> None:
    """What a bulk write leaves: the cursor's place is found in the index, not searched among all rows of its time."""
    Project.objects.bulk_create(Project(name=f"{number}") for number in range(50))
    assert Project.history.values("history_date").distinct().count() == 1
    after = timeline.page(scope, first=20).entries[-1].cursor
    with CaptureQueriesContext(connection) as queries:
        page = timeline.page(scope, first=10, after=after)
    ids = [entry.history_id for entry in page.entries]
    newest = list(Project.history.order_by("-history_id").values_list("history_id", flat=True))
    assert ids == newest[20:30]
    assert '"history_id") < (' in queries[0]["sql"]


def test_a_page_knows_whether_there_is_more_on_either_side(scope: Scope) -> None:
    for number in range(5):
        Project.objects.create(name=f"{number}")
    everything = timeline.page(scope).entries
    cursors = [entry.cursor for entry in everything]

    def sides(**window: Any) -> tuple[bool, bool]:
        page = timeline.page(scope, **window)
        return page.has_previous_page, page.has_next_page

    assert sides(first=2) == (False, True)
    assert sides(first=5) == sides(last=5) == (False, False)
    assert sides(last=2) == (True, False)
    assert sides(first=2, after=cursors[0]) == (True, True)
    assert sides(first=4, after=cursors[0]) == (True, False)
    assert sides(last=2, before=cursors[4]) == (True, True)
    assert sides(first=9, after=cursors[0], before=cursors[4]) == (True, True)
    assert sides(first=9, after=cursors[4]) == (True, False)
    # A cursor from elsewhere: nothing lies before it, or behind it.
    later = timeline.Position(timezone.now() + dt.timedelta(days=1), "example_schema.tag", 1).encode()
    sooner = timeline.Position(timezone.now() - dt.timedelta(days=1), "example_schema.tag", 1).encode()
    assert sides(first=2, after=later) == (False, True)
    assert sides(last=2, before=sooner) == (True, False)
    # The entry at the cursor may be outside the filter.
    only = Filters(models=["example_schema.project"], object_id=everything[0].object_id)
    page = timeline.page(scope, only, first=2, after=cursors[0])
    assert (page.entries, page.has_previous_page, page.has_next_page) == ([], True, False)


class Elaborate(Policy):
    """Shows all, by querysets that select more, and less, than the rows' columns."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> "QuerySet[Any, Any]":
        narrowed: QuerySet[Any, Any] = queryset.annotate(twice=F("history_id") * 2).defer("app", "metadata")
        return narrowed.filter(twice__gt=0)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("elaborate", [False, True])
def test_a_search_in_one_model_gives_the_rows_too(viewer: Viewer, elaborate: bool, newest_first: bool) -> None:
    policy = Elaborate() if elaborate else Policy()
    scope = Scope(viewer=viewer, policy=policy, models=scope_for(viewer).models)
    projects = [Project.objects.create(name=f"{number}") for number in range(3)]
    for number in range(4):
        for project in projects:
            rename(project, f"{project.pk}, {number}")
    # As a wrong clock leaves it: the newest in browsing order is not the one with the highest key.
    project_history: Any = Project.history
    project_history.filter(history_type="+").update(history_date=timezone.now() + dt.timedelta(days=1))
    search = [Search(tracked(Project), scope.entries(tracked(Project)))]
    for neighbours in (True, False):
        expected = find(scope, search, limit=7, newest_first=newest_first, neighbours=neighbours)
        with CaptureQueriesContext(connection) as queries:
            found = find_rows(scope, search, limit=7, newest_first=newest_first, neighbours=neighbours)
        assert len(queries) == 1
        assert [hit._replace(columns=None) for hit in found] == expected
    rows = project_history.in_bulk([hit.history_id for hit in found], field_name="history_id")
    for hit in found:
        assert hit.columns is not None
        row, instance = rows[hit.history_id], hit.columns.row(hit.tracked)
        assert instance == row
        assert instance._state.db == row._state.db
        shown = {name: value for name, value in vars(row).items() if name != "_state"}
        assert vars(hit.columns) == shown
        assert {name: value for name, value in vars(instance).items() if name != "_state"} == shown


def test_a_search_that_can_match_nothing_finds_nothing(scope: Scope) -> None:
    rename(Project.objects.create(name="Vermeer"), "Delft")
    nothing = scope.entries(tracked(Project)).filter(history_id__in=[])
    assert find_rows(scope, [Search(tracked(Project), nothing)], limit=5) == []


def test_entries_before_that_are_not_on_the_page_take_one_statement_more(scope: Scope) -> None:
    projects = [Project.objects.create(name=f"{number}") for number in range(3)]
    for project in projects:
        rename(project, f"{project.name} again")
    wanted = timeline.Wanted(labels=False, accounts=False)
    filters = Filters(models=["example_schema.project"])
    with CaptureQueriesContext(connection) as queries:
        page = timeline.page(scope, filters, first=2, wanted=wanted)
    assert len(queries) == 2
    assert [[(c.field, c.old, c.new) for c in entry.changes or ()] for entry in page.entries] == [
        [("name", "2", "2 again")],
        [("name", "1", "1 again")],
    ]
    assert all(isinstance(entry.columns, Columns) for entry in page.entries)
    own = Filters(models=["example_schema.project"], object_id=str(projects[0].pk))
    with CaptureQueriesContext(connection) as queries:
        page = timeline.page(scope, own, first=2, wanted=wanted)
    assert len(queries) == 1
    assert [entry.row.name for entry in page.entries] == ["0 again", "0"]
