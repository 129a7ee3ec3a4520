"""SQLite only: where nobody watches the statements, a ``save()`` and its entry take none of Django's cursors."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import writer
from koherent.models import Assignation

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def by_the_driver(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of what was written without Django's cursors."""
    written: list[str] = []

    def noted(tracked: Any, *arguments: Any) -> bool:
        written.append(tracked.label)
        return write(tracked, *arguments)

    write = writer.write_behind_update
    monkeypatch.setattr(writer, "write_behind_update", noted)
    return written


@pytest.fixture(params=["koherent_assignation", Tag.history.model._meta.db_table])
def refusing_table(request: pytest.FixtureRequest) -> Iterator[str]:
    """A table that takes no rows any more."""
    refuse = "BEFORE INSERT ON {} BEGIN SELECT RAISE(ABORT, 'refused by the test'); END"
    connection.ensure_connection()
    connection.connection.execute(f"CREATE TRIGGER refuse {refuse.format(request.param)}")
    yield request.param
    connection.connection.execute("DROP TRIGGER refuse")


def whole_entries() -> list[dict[str, Any]]:
    left_out = {"history_id", "history_date", "id"}
    return [{k: v for k, v in row.items() if k not in left_out} for row in Tag.history.order_by("history_id").values()]


def renamed(tag: Tag, name: str) -> None:
    tag.name = name
    with koherent.audit(app="press", assignation_id=f"to {name}", reason="why", mood="good"):
        tag.save()


def test_the_entry_is_the_one_that_a_watched_save_leaves(by_the_driver: list[str]) -> None:
    for watched in (True, False):
        tag = Tag.objects.create(name="old")
        if watched:
            with CaptureQueriesContext(connection) as queries:
                renamed(tag, "new")
            # The transaction around them, the change, its entry, the beginning of the assignation.
            assert [query["sql"].split()[0] for query in queries] == ["BEGIN", "UPDATE", "INSERT", "INSERT", "COMMIT"]
            assert by_the_driver == []
        else:
            renamed(tag, "newer")
        tag.delete()
    assert by_the_driver == ["example_schema.tag"]
    first, second = whole_entries()[1], whole_entries()[4]
    assert (first["name"], second["name"]) == ("new", "newer")
    assert first | {"name": "", "assignation_id": ""} == second | {"name": "", "assignation_id": ""}
    assert second["metadata"] == {"mood": "good"}
    begun = list(Assignation.objects.order_by("pk").values_list("assignation_id", flat=True))
    assert begun == ["to new", "to newer"]


def test_a_save_that_changes_nothing_leaves_nothing(by_the_driver: list[str]) -> None:
    tag = Tag.objects.create(name="same")
    renamed(tag, "same")
    assert by_the_driver == ["example_schema.tag"]
    assert len(whole_entries()) == 1
    assert not Assignation.objects.exists()


def test_saves_of_one_assignation_begin_it_once(by_the_driver: list[str]) -> None:
    tag = Tag.objects.create(name="old")
    with koherent.audit(assignation_id="work"):
        for name in ("new", "newer"):
            tag.name = name
            tag.save()
    assert by_the_driver == ["example_schema.tag"] * 2
    assert [row["assignation_id"] for row in whole_entries()] == [None, "work", "work"]
    assert Assignation.objects.count() == 1


def test_a_row_that_a_trigger_takes_leaves_nothing(
    by_the_driver: list[str], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even where saves that change nothing leave an entry, too."""
    heard: list[Any] = []
    settings.KOHERENT = {**settings.KOHERENT, "RECORD_UNCHANGED": True}
    tag = Tag.objects.create(name="old")
    table = Tag._meta.db_table
    connection.connection.execute(
        f"CREATE TRIGGER takes AFTER UPDATE ON {table} BEGIN DELETE FROM {table} WHERE id = NEW.id; END"
    )
    monkeypatch.setattr("koherent.commits.on_committed", [lambda using, keys: heard.append(keys)])
    try:
        renamed(tag, "new")
    finally:
        connection.connection.execute("DROP TRIGGER takes")
    assert by_the_driver == ["example_schema.tag"]
    assert (len(whole_entries()), Assignation.objects.count(), heard) == (1, 0, [])


def test_a_refused_entry_or_beginning_takes_the_change_along(by_the_driver: list[str], refusing_table: str) -> None:
    tag = Tag(name="old")
    with koherent.pause():
        tag.save()
    with pytest.raises(IntegrityError, match="refused by the test"):
        renamed(tag, "new")
    assert by_the_driver == ["example_schema.tag"]
    assert not connection.connection.in_transaction
    tag.refresh_from_db()
    assert (tag.name, whole_entries(), Assignation.objects.count()) == ("old", [], 0)


def test_it_does_so_inside_a_transaction_too(by_the_driver: list[str], refusing_table: str) -> None:
    with koherent.pause():
        tag = Tag.objects.create(name="old")
    with transaction.atomic():
        with pytest.raises(IntegrityError):
            renamed(tag, "new")
        with pytest.raises(transaction.TransactionManagementError):
            Tag.objects.count()
        transaction.set_rollback(True)
    assert by_the_driver == ["example_schema.tag"]
    tag.refresh_from_db()
    assert (tag.name, whole_entries()) == ("old", [])


def test_a_refused_commit_leaves_neither(by_the_driver: list[str]) -> None:
    """Foreign keys are looked at when the transaction ends."""
    dataset = Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters")
    image = Image.objects.create(dataset=dataset, name="one", width=1, height=1)
    image.dataset_id = 10_000
    with pytest.raises(IntegrityError):
        image.save()
    assert by_the_driver == ["example_schema.image"]
    assert not connection.connection.in_transaction
    image.refresh_from_db()
    assert (image.dataset, Image.history.count()) == (dataset, 1)
    image.name = "two"
    image.save()
    assert Image.history.count() == 2


def test_listeners_hear_of_it_after_the_commit(by_the_driver: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Any, bool]] = []

    def listen(using: str, keys: Any) -> None:
        heard.append((list(keys), connection.connection.in_transaction))

    tag = Tag.objects.create(name="old")
    monkeypatch.setattr("koherent.commits.on_committed", [listen])
    renamed(tag, "new")
    assert by_the_driver == ["example_schema.tag"]
    assert heard == [([("example_schema.tag", Tag.history.latest().history_id)], False)]


def test_an_object_that_went_meanwhile_is_created_again_with_its_entry(by_the_driver: list[str]) -> None:
    tag = Tag.objects.create(name="here")
    Tag.objects.filter(pk=tag.pk).delete()
    renamed(tag, "back")
    assert by_the_driver == ["example_schema.tag"]
    told = [(row["history_type"], row["name"]) for row in whole_entries()]
    assert told == [("+", "here"), ("-", "here"), ("+", "back")]


def test_a_refused_change_leaves_neither(by_the_driver: list[str]) -> None:
    tag = Tag.objects.create(name="old")
    connection.connection.execute("PRAGMA query_only = ON")
    try:
        with pytest.raises(DatabaseError):
            renamed(tag, "new")
    finally:
        connection.connection.execute("PRAGMA query_only = OFF")
    assert not connection.connection.in_transaction
    tag.refresh_from_db()
    assert (tag.name, len(whole_entries())) == ("old", 1)
