"""PostgreSQL only: a ``save()`` and its entry are one statement; the entry is right whatever others do meanwhile."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Image, Project, Tag
from koherent import saving, writer
from koherent.models import Assignation
from tests.postgres.threads import WAIT, in_thread, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)


def entries(model: Any = Tag) -> list[tuple[str, str]]:
    return list(model.history.order_by("history_id").values_list("history_type", "name"))


def test_a_change_and_its_entry_and_its_assignation_are_one_statement() -> None:
    tag = Tag.objects.create(name="old")
    tag.name = "new"
    with CaptureQueriesContext(connection) as queries, koherent.audit(assignation_id="work"):
        tag.save()
    assert len(queries) == 1
    assert entries() == [("+", "old"), ("~", "new")]
    assert Assignation.objects.get().assignation_id == "work"
    with CaptureQueriesContext(connection) as queries, koherent.audit(assignation_id="more"):
        tag.save()
    # Nothing changed: no entry, and no assignation begins; one question more, whether something had changed before.
    assert (len(queries), len(entries())) == (2, 2)
    assert Assignation.objects.count() == 1


def test_a_save_that_changes_nothing_records_what_was_changed_unrecorded() -> None:
    tag = Tag.objects.create(name="one")
    with koherent.pause():
        Tag.objects.update(name="two")
    tag.refresh_from_db()
    for _ in range(2):
        with koherent.audit(assignation_id="found"):
            tag.save()
    assert entries() == [("+", "one"), ("~", "two")]
    assert Assignation.objects.get().assignation_id == "found"


def test_such_an_entry_waits_for_others_and_is_theirs_where_they_write_one() -> None:
    tag = Tag.objects.create(name="one")
    with koherent.pause():
        Tag.objects.update(name="two")
    tag.refresh_from_db()
    may_go_on, asked = threading.Event(), threading.Event()

    def has_moved(*arguments: Any) -> bool:
        found = original(*arguments)
        asked.set()
        assert may_go_on.wait(WAIT)
        return found

    original = writer._has_moved
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "_has_moved", has_moved)
        saver = in_thread(tag.save)
        assert asked.wait(WAIT)
        with transaction.atomic():
            Tag.objects.filter(pk=tag.pk).update(name="three")
            may_go_on.set()
            until_somebody_waits_for_a_lock()
        saver.join(WAIT)
    assert entries() == [("+", "one"), ("~", "three")]


def test_an_object_that_went_meanwhile_is_created_again_with_its_entry() -> None:
    tag = Tag.objects.create(name="here")
    Tag.objects.filter(pk=tag.pk).delete()
    tag.name = "back"
    tag.save()
    assert entries() == [("+", "here"), ("-", "here"), ("+", "back")]


def test_what_another_transaction_changed_meanwhile_is_not_taken_for_unchanged() -> None:
    tag = Tag.objects.create(name="one")
    stale = Tag.objects.get(pk=tag.pk)
    wrote, may_commit = threading.Event(), threading.Event()

    def rename() -> None:
        with transaction.atomic():
            Tag.objects.filter(pk=tag.pk).update(name="two")
            wrote.set()
            assert may_commit.wait(WAIT)

    other = in_thread(rename)
    assert wrote.wait(WAIT)
    saver = in_thread(stale.save)  # back to "one": the latest entry that its statement sees says "one" already
    until_somebody_waits_for_a_lock()
    may_commit.set()
    other.join(WAIT)
    saver.join(WAIT)
    assert Tag.objects.get().name == "one"
    assert entries() == [("+", "one"), ("~", "two"), ("~", "one")]


@pytest.fixture
def shouting_tags() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "UPDATE example_schema_tag SET name = upper(NEW.name) WHERE id = NEW.id AND name <> upper(NEW.name); "
            "RETURN NULL; END $$"
        )
        cursor.execute("CREATE TRIGGER shout AFTER UPDATE ON example_schema_tag FOR EACH ROW EXECUTE FUNCTION shout()")
    saving._ordinary.clear()
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER shout ON example_schema_tag")
        cursor.execute("DROP FUNCTION shout()")
    saving._ordinary.clear()


@pytest.mark.usefixtures("shouting_tags")
def test_what_a_trigger_makes_of_a_row_stands_in_its_entry() -> None:
    tag = Tag.objects.create(name="quiet")
    tag.name = "loud"
    tag.save()
    assert entries() == [("+", "quiet"), ("~", "LOUD")]


def test_values_that_the_database_works_out_are_recorded() -> None:
    project = Project.objects.create(name="p")
    image = Image.objects.create(dataset=project.datasets.create(title="d"), name="i", width=1, height=1)
    image.width = F("width") + 1
    image.save()
    image.refresh_from_db()
    image.extra = {"a": [1]}
    image.save()
    rows = Image.history.order_by("history_id").values_list("width", "extra")
    assert list(rows) == [(1, {}), (2, {}), (2, {"a": [1]})]
