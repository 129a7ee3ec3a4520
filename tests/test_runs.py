"""Entries of one statement are a run: one row has their index entries, and nobody who reads sees a difference."""

import datetime as dt
import random
from collections.abc import Sequence
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Q
from django.test import override_settings
from simple_history.utils import bulk_create_with_history

import koherent
from example_schema.models import Dataset, Project
from koherent import beginnings, timeline, writer
from koherent.models import Assignation
from koherent.policy import Entries, Policy, Scope, Viewer, scope_for
from koherent.registry import TrackedModel, for_model
from koherent.revert import RevertStatus
from koherent.runs import SHARED, has_runs, having
from koherent.timeline import Filters
from koherent.verify import verify

pytestmark = pytest.mark.django_db
MANY = 25
LABEL = "example_schema.project"


@pytest.fixture(autouse=True)
def _runs_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RUN_AT_LEAST", 20)


def projects(count: int, name: str = "project") -> list[Project]:
    return Project.objects.bulk_create(Project(name=f"{name} {number}") for number in range(count))


def runs() -> list[tuple[int, int]]:
    found = Assignation.objects.filter(model=LABEL).order_by("first_id").values_list("first_id", "last_id")
    return [(first, last) for first, last in found if first is not None and last is not None]


def covered() -> list[int]:
    return [id for first, last in runs() for id in range(first, last + 1)]


def ids(**kwargs: Any) -> list[int]:
    return list(Project.history.filter(**kwargs).order_by("history_id").values_list("history_id", flat=True))


def test_many_entries_of_one_statement_are_a_run_that_has_what_they_share(admin: User) -> None:
    with koherent.audit(user=admin, app="import", assignation_id="a"):
        projects(MANY)
    [run] = Assignation.objects.all()
    assert (run.assignation_id, run.model) == ("a", LABEL)
    assert covered() == ids(in_run=True) == ids()
    assert len(covered()) == MANY
    for entry in Project.history.all():
        assert {name: getattr(entry, name) for name in SHARED} == {name: getattr(run, name) for name in SHARED}
        assert connection.vendor == "sqlite" or entry.position == run.position


def test_few_stand_alone() -> None:
    with koherent.audit(assignation_id="a"):
        projects(writer.RUN_AT_LEAST - 1)
    assert (ids(in_run=True), runs()) == ([], [])
    assert [begun.model for begun in Assignation.objects.all()] == [None]


def test_without_an_assignation_a_run_has_none_and_is_not_listed(viewer: Viewer) -> None:
    projects(MANY)
    assert [run.assignation_id for run in Assignation.objects.all()] == [None]
    assert timeline.assignations(scope_for(viewer)).items == []


def test_a_run_is_never_longer_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginnings, "LONGEST", 10)
    monkeypatch.setattr(writer, "LONGEST", 10)
    with koherent.audit(assignation_id="a"):
        projects(MANY)
    assert [last - first + 1 for first, last in runs()] == [10, 10, 5]
    assert covered() == ids()


@pytest.mark.parametrize("how", ["update", "bulk_update", "delete", "bulk_create over some", "nothing changed"])
def test_every_bulk_path_writes_runs(how: str) -> None:
    before = projects(MANY)
    begun = ids()[-1]
    if how == "update":
        Project.objects.update(description="other")
    elif how == "bulk_update":
        for project in before:
            project.name += "!"
        Project.objects.bulk_update(before, ["name"])
    elif how == "delete":
        Project.objects.all().delete()
    elif how == "bulk_create over some":
        again = [*before[:5], *(Project(name=f"new {number}") for number in range(MANY))]
        Project.objects.bulk_create(again, ignore_conflicts=True)
    else:
        Project.objects.bulk_update(before, ["name"])
    written = ids(history_id__gt=begun)
    assert len(written) == (0 if how == "nothing changed" else MANY)
    assert covered() == ids(in_run=True) == ids()


def test_a_rollback_takes_the_run_along() -> None:
    with koherent.audit(assignation_id="a"), transaction.atomic():
        projects(MANY)
        transaction.set_rollback(True)
    assert ids() == []
    assert not Assignation.objects.exists()


class Some(Policy):
    """Hides some objects, and adds a column to the others."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Entries) -> Entries:
        return queryset.annotate(half=Q(pk__gt=0)).filter(name__contains="2") if tracked.label == LABEL else queryset


FILTERS: Sequence[dict[str, Any]] = (
    {},
    {"users": ["1"]},
    {"apps": ["desk", "import"]},
    {"apps": []},
    {"actions": ["+"]},
    {"actions": ["~", "-"], "assigned": True},
    {"assigned": False},
    {"assignation_id": "a"},
    {"assignation_id": "b", "apps": ["desk"]},
    {"since": "first", "until": "last"},
)


@pytest.fixture
def mixture(django_user_model: Any) -> None:
    """Runs and lone entries in turns, some at the same time; of some runs a part is gone, of one all."""
    chance = random.Random(7)
    people = [django_user_model.objects.create_user(f"user {number}") for number in range(2)]
    for number in range(6):
        context: dict[str, Any] = {
            "app": ["desk", "import", None][number % 3],
            "assignation_id": "ab "[number % 3].strip(),
        }
        given = {name: value for name, value in context.items() if value}
        with koherent.audit(user=people[number % 2], **given):
            made = projects(MANY, f"{number}")
            for project in chance.sample(made, 3):
                project.name += " (2)"
                project.save()
            Project.objects.filter(pk__in=[project.pk for project in chance.sample(made, 22)]).update(
                description=f"again {number}"
            )
    Project.objects.filter(description="again 1").delete()
    whole = runs()
    bound = whole[5][0]
    same = Project.history.order_by("history_id")[40].history_date
    Project.history.filter(history_id__lt=bound).update(history_date=same)
    Assignation.objects.filter(first_id__lt=bound).update(history_date=same)
    Project.history.filter(history_id__range=whole[2]).delete()
    Project.history.filter(history_id__range=(whole[4][0], whole[4][0] + 6)).delete()


def expected(scope: Scope, given: dict[str, Any]) -> list[int]:
    """What a filter shows, newest first, by its definition."""
    found = []
    for row in scope.entries(tracked()).order_by("-history_date", "-history_id"):
        for name, column in (("users", "actor_id"), ("apps", "app"), ("actions", "history_type")):
            if name in given and getattr(row, column) not in given[name]:
                break
        else:
            when: Any = row.history_date
            work: Any = row.assignation_id
            if given.get("assignation_id") not in (None, work) or given.get("assigned") not in (None, work is not None):
                continue
            if "since" in given and not given["since"] <= when < given["until"]:
                continue
            found.append(row.pk)
    return found


def tracked() -> TrackedModel:
    found = for_model(Project)
    assert found is not None
    return found


@pytest.mark.usefixtures("mixture")
@pytest.mark.parametrize("policy", ["koherent.policy.Policy", "tests.test_runs.Some"])
@pytest.mark.parametrize("given", FILTERS, ids=str)
def test_pages_counts_and_walks_are_those_of_the_rows(given: dict[str, Any], policy: str, admin: User) -> None:
    dates = list(Project.history.order_by("history_date").values_list("history_date", flat=True))
    times = {"first": dates[30], "last": dates[-30]}
    given = {name: times.get(value, value) if isinstance(value, str) else value for name, value in given.items()}
    with override_settings(KOHERENT={"POLICY": policy}):
        scope = scope_for(Viewer(user=admin))
        wanted, filters = expected(scope, given), Filters(models=[LABEL], **given)
        assert timeline.count(scope, filters) == len(wanted)
        for direction in ("first", "last"):
            walked = list[int]()
            window: dict[str, Any] = {direction: 7}
            while True:
                page = timeline.page(scope, filters, **window)
                shown = [entry.history_id for entry in page.entries]
                walked = walked + shown if direction == "first" else shown + walked
                more = page.has_next_page if direction == "first" else page.has_previous_page
                if not more:
                    break
                cursor = page.entries[-1 if direction == "first" else 0].cursor
                window["after" if direction == "first" else "before"] = cursor
            assert walked == wanted
        condition = next(iter(filters.resolve(scope))).whole
        assert set(Project.history.filter(having(tracked(), "default", condition)).values_list("pk", flat=True)) == set(
            Project.history.filter(condition).values_list("pk", flat=True)
        )


@pytest.mark.usefixtures("mixture")
@pytest.mark.parametrize("policy", ["koherent.policy.Policy", "tests.test_runs.Some"])
def test_assignations_are_those_of_the_rows(policy: str, admin: User) -> None:
    with override_settings(KOHERENT={"POLICY": policy}):
        scope = scope_for(Viewer(user=admin))
        listed = {info.id: info for info in timeline.assignations(scope).items}
        assert set(listed) == {"a", "b"}
        pages = timeline.pages_of_assignations(scope, ["a", "b"], timeline.Window.of(first=100))
        for id, info in listed.items():
            rows = [row for row in scope.entries(tracked()) if row.assignation_id == id]
            dates: list[dt.datetime] = [row.history_date for row in rows]
            assert (info.entry_count, info.started_at, info.ended_at) == (len(rows), min(dates), max(dates))
            assert {user.key for user in info.users} == {row.actor_id for row in rows}
            assert set(info.apps) == {row.app for row in rows} - {None}
            assert [entry.history_id for entry in pages[id].entries] == expected(scope, {"assignation_id": id})[:100]


def test_an_assignation_whose_runs_are_empty_is_not_listed(viewer: Viewer) -> None:
    with koherent.audit(assignation_id="a"):
        projects(MANY)
    scope = scope_for(viewer)
    assert [info.id for info in timeline.assignations(scope).items] == ["a"]
    Project.history.all().delete()
    assert timeline.assignations(scope).items == []
    assert timeline.assignation(scope, "a") is None


def test_an_undo_of_runs_is_an_undo(viewer: Viewer) -> None:
    project = Project.objects.create(name="Moon")
    Dataset.objects.bulk_create(Dataset(project=project, title=f"{number}") for number in range(MANY))
    with koherent.audit(assignation_id="a"):
        Dataset.objects.update(title="overwritten")
        projects(MANY)
    report = koherent.revert.revert_assignation(viewer, "a")
    assert (report.status, len(report.steps)) == (RevertStatus.APPLIED, 2 * MANY)
    assert list(Project.objects.all()) == [project]
    assert set(Dataset.objects.values_list("title", flat=True)) == {f"{number}" for number in range(MANY)}


def test_what_django_simple_history_is_told_of_many_is_found(admin: User) -> None:
    """Its bulk helpers write who it was behind the entries, which then stand alone."""
    bulk_create_with_history([Project(name=f"{number}") for number in range(MANY)], Project, default_user=admin)
    assert ids(in_run=True) == []
    own = having(tracked(), "default", Q(actor_id=str(admin.pk)))
    assert Project.history.filter(own).count() == MANY
    assert list(verify(tracked())) == []
    admin.delete()
    assert set(Project.history.values_list("history_user", flat=True)) == {None}


def test_routers_are_asked_again_where_runs_are_once_they_change(settings: Any) -> None:
    class Nowhere:
        def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
            return app_label != "koherent"

    assert has_runs(connection)
    settings.DATABASE_ROUTERS = [Nowhere()]
    assert not has_runs(connection)
    projects(MANY)
    assert ids(in_run=True) == []
