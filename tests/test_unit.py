"""``koherent.atomic()``: entries that are written together say what entries written one by one say."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import commits, unit
from koherent.models import Assignation

pytestmark = pytest.mark.django_db(transaction=True)


def rows(model: Any, *names: str) -> list[tuple[Any, ...]]:
    return list(model.history.order_by("history_id").values_list("history_type", *names))


@contextmanager
def statements() -> Iterator[list[str]]:
    """The statements inside, without those that begin and end a transaction."""
    found: list[str] = []
    with CaptureQueriesContext(connection) as captured:
        yield found
    found += [q["sql"] for q in captured.captured_queries if not q["sql"].startswith(("BEGIN", "COMMIT", "ROLLBACK"))]


class Abandoned(Exception):
    """Ends a block that is to be rolled back."""


@contextmanager
def rolled_back(block: Any) -> Iterator[None]:
    """Run inside ``block``, a transaction or savepoint, and fail at its end."""
    with suppress(Abandoned), block:
        yield
        raise Abandoned


@pytest.fixture
def projects() -> list[Project]:
    with koherent.pause():
        return Project.objects.bulk_create([Project(name=f"p{number}") for number in range(100)])


def test_a_hundred_saves_take_two_statements_more_at_most(projects: list[Project]) -> None:
    for project in projects:
        project.description = "new"
    with statements() as run, koherent.audit(assignation_id="work"), koherent.atomic():
        for project in projects:
            project.save()
    # PostgreSQL writes the entries and the row of their assignation in one statement.
    assert len(run) == (101 if connection.vendor == "postgresql" else 102), run[-3:]
    assert rows(Project, "id", "description", "assignation_id") == [("~", p.pk, "new", "work") for p in projects]


def test_each_entry_keeps_its_own_moment_and_context(projects: list[Project]) -> None:
    with koherent.atomic():
        for number, project in enumerate(projects[:3]):
            with koherent.audit(app=f"app-{number}", reason=f"because {number}"):
                project.description = "new"
                project.save()
    found = list(Project.history.order_by("history_date").values_list("id", "app", "history_change_reason"))
    assert found == [(p.pk, f"app-{n}", f"because {n}") for n, p in enumerate(projects[:3])]
    dates = list(Project.history.values_list("history_date", flat=True))
    assert len(set(dates)) == 3


def test_two_saves_of_one_object_are_two_entries_with_the_values_of_each() -> None:
    with koherent.atomic():
        project = Project.objects.create(name="one")
        project.name = "two"
        project.save()
        Project.objects.filter(pk=project.pk).update(name="three")
        project.refresh_from_db()
        project.save()
        project.delete()
    assert rows(Project, "name") == [("+", "one"), ("~", "two"), ("~", "three"), ("-", "three")]


def test_expressions_and_deferred_fields_hold_what_the_database_holds() -> None:
    with koherent.pause():
        project = Project.objects.create(name="cells")
        dataset = Dataset.objects.create(project=project, title="plate")
        image = Image.objects.create(dataset=dataset, name="i", width=1, height=1)
    with koherent.atomic():
        image.width = F("width") + 41
        image.save()
        deferred = Dataset.objects.only("id").get(pk=dataset.pk)
        deferred.title = "renamed"
        deferred.save()
    assert rows(Image, "width", "height") == [("~", 42, 1)]
    assert rows(Dataset, "title", "status") == [("~", "renamed", "draft")]


def test_history_that_is_read_inside_is_complete(projects: list[Project]) -> None:
    with koherent.atomic():
        projects[0].description = "new"
        projects[0].save()
        assert rows(Project, "description") == [("~", "new")]
        with connection.cursor() as cursor:
            projects[1].description = "newer"
            projects[1].save()
            cursor.execute(f"SELECT description FROM {Project.history.model._meta.db_table} ORDER BY history_id")
            assert cursor.fetchall() == [("new",), ("newer",)]


@pytest.mark.parametrize("way", ["raw SQL", "paused", "_raw_delete"])
def test_a_write_past_recording_finds_the_entries_before_it_written(projects: list[Project], way: str) -> None:
    with koherent.atomic():
        projects[0].description = "recorded"
        projects[0].save()
        if way == "raw SQL":
            with connection.cursor() as cursor:
                cursor.execute(f"UPDATE {Project._meta.db_table} SET description = 'past'")
        elif way == "paused":
            with koherent.pause():
                Project.objects.update(description="past")
        else:
            Project.objects.filter(pk=projects[0].pk)._raw_delete(using="default")
    assert rows(Project, "description") == [("~", "recorded")]


def test_links_are_one_entry_for_each_owner_and_change() -> None:
    coral, algae = (Tag.objects.create(name=name) for name in ("coral", "algae"))
    with koherent.atomic():
        dataset = Dataset.objects.create(project=Project.objects.create(name="reef"), title="north")
        dataset.tags.set([coral])
        dataset.tags.set([algae])
    tags = [set(row.tags.values_list("tag_id", flat=True)) for row in Dataset.history.order_by("history_id")]
    assert tags == [set(), {coral.pk}, {algae.pk}]


def test_a_rollback_takes_the_entries_along(projects: list[Project]) -> None:
    with rolled_back(koherent.atomic()):
        projects[0].description = "new"
        projects[0].save()
    assert rows(Project) == []
    with koherent.atomic():
        projects[0].description = "new"
        projects[0].save()
        transaction.set_rollback(True)
    assert rows(Project) == []


def _save(project: Project, text: str) -> None:
    project.description = text
    project.save()


def test_a_savepoint_that_is_rolled_back_takes_only_its_own(projects: list[Project]) -> None:
    one, two, three = projects[:3]
    with koherent.audit(assignation_id="work"), koherent.atomic():
        _save(one, "outer")
        with rolled_back(transaction.atomic()):
            _save(two, "inner")
        with transaction.atomic():
            _save(three, "released")
    assert rows(Project, "id", "description") == [("~", one.pk, "outer"), ("~", three.pk, "released")]
    assert Assignation.objects.filter(assignation_id="work").exists()


@pytest.mark.parametrize("depth", [1, 2])
def test_what_was_written_early_inside_a_savepoint_comes_back_after_its_rollback(
    projects: list[Project], depth: int
) -> None:
    """Reading history inside the savepoint writes what waits, the outer entry too, and the rollback takes both."""
    one, two = projects[:2]
    with koherent.audit(assignation_id="work"), koherent.atomic():
        _save(one, "outer")
        with rolled_back(transaction.atomic()):
            _save(two, "inner")
            if depth == 2:
                with transaction.atomic():
                    assert len(rows(Project)) == 2
            assert len(rows(Project)) == 2
        assert rows(Project, "id", "description") == [("~", one.pk, "outer")]
    assert rows(Project, "id", "description") == [("~", one.pk, "outer")]
    assert Assignation.objects.get().assignation_id == "work"


def test_inside_a_transaction_of_its_callers_entries_are_written_at_its_end(projects: list[Project]) -> None:
    with transaction.atomic():
        with koherent.atomic():
            _save(projects[0], "new")
            with koherent.atomic():
                _save(projects[1], "new")
        assert len(rows(Project)) == 2
        transaction.set_rollback(True)
    assert rows(Project) == []


def test_when_the_entries_cannot_be_written_the_changes_are_gone_too(projects: list[Project]) -> None:
    def refuse(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(f'INSERT INTO "{Project.history.model._meta.db_table}"'):
            raise DatabaseError("the disk is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(refuse), pytest.raises(DatabaseError), koherent.atomic():
        _save(projects[0], "new")
    projects[0].refresh_from_db()
    assert (projects[0].description, rows(Project)) == ("", [])


def test_many_waiting_entries_are_written_in_portions(projects: list[Project], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit, "CAPACITY", 30)
    with koherent.atomic(), statements() as run:
        for project in projects:
            _save(project, "new")
        assert len(Project.history.all()) == 100
    assert len([sql for sql in run if sql.startswith("INSERT")]) == 4


def test_it_is_a_decorator_too(projects: list[Project]) -> None:
    @koherent.atomic
    def plain() -> None:
        _save(projects[0], "plain")

    @koherent.atomic(savepoint=False)
    def with_arguments() -> None:
        _save(projects[1], "arguments")

    plain()
    with_arguments()
    assert [description for _, description in rows(Project, "description")] == ["plain", "arguments"]


def test_units_of_two_threads_are_apart(projects: list[Project]) -> None:
    inside, done = threading.Event(), threading.Event()
    found: list[bool] = []

    def other() -> None:
        inside.wait(10)
        found.append(unit.unit_of(connection) is None)
        connection.close()
        done.set()

    thread = threading.Thread(target=other)
    thread.start()
    with koherent.atomic():
        _save(projects[0], "new")
        inside.set()
        assert done.wait(10)
    thread.join(10)
    assert found == [True]


def test_a_commit_tells_its_listeners_once(projects: list[Project], monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    monkeypatch.setattr(commits, "on_committed", [lambda using, keys: told.append(len(keys))])
    with koherent.atomic():
        for project in projects[:5]:
            _save(project, "new")
        _save(projects[0], "newer")
        with pytest.raises(IntegrityError), transaction.atomic():
            Project.objects.create(name=projects[0].name)
    assert told == [6]


def test_an_assignation_gets_its_row_again_when_the_first_was_rolled_back(projects: list[Project]) -> None:
    with koherent.audit(assignation_id="work"):
        with rolled_back(transaction.atomic()):
            _save(projects[0], "lost")
        with transaction.atomic():
            with rolled_back(transaction.atomic()):
                _save(projects[0], "lost")
            _save(projects[1], "kept")
        with statements() as run:
            _save(projects[2], "later")
    assert [a.assignation_id for a in Assignation.objects.all()] == ["work"]
    assert not any("koherent_assignation" in sql for sql in run)  # the row is known to be there: not even looked for
