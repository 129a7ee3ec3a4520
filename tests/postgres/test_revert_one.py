"""PostgreSQL only: one object goes back with few statements, and nothing of what a revert promises is lost."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext

from example_schema.models import Project, Tag
from koherent import audit
from koherent.models import Assignation
from koherent.revert import ConflictCode, Report, RevertPolicy, RevertStatus, revert_assignation, revert_to
from koherent.signal import reverted
from tests.failing import FailAt
from tests.postgres.threads import begun_before_commit
from tests.revert.test_signals import connected

pytestmark = pytest.mark.django_db(transaction=True)
TAG = "example_schema.tag"
CONTROL = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")


@pytest.fixture
def tag() -> Tag:
    tag = Tag.objects.create(name="old")
    with audit(assignation_id="work"):
        Tag.objects.update(name="new")
    return tag


def back(tag: Tag, **named: Any) -> Report:
    first = Tag.history.filter(id=tag.pk).order_by("history_id")[0]
    return revert_to(None, TAG, first.pk, **named)


def written() -> tuple[Any, ...]:
    """All that a revert may write."""
    return (
        list(Tag.objects.order_by("pk").values_list("pk", "name")),
        list(Tag.history.order_by("history_id").values_list("history_id", "name")),
        list(Assignation.objects.order_by("pk").values_list("assignation_id", "reverts_entry", "reverts")),
    )


def said(work: Callable[[], Report]) -> list[str]:
    """The beginnings of the statements of a revert that is applied."""
    with CaptureQueriesContext(connection) as queries:
        assert work().status is RevertStatus.APPLIED
    return [q["sql"][:15].strip() for q in queries if not q["sql"].startswith(CONTROL)]


def test_a_single_change_takes_three_statements() -> None:
    Project.objects.create(name="Moon")
    entry = Project.history.get()
    plain = ["SELECT pg_advis", 'SELECT "example', "WITH m0 AS (UPD"]
    Project.objects.update(description="new")
    assert said(lambda: revert_to(None, "example_schema.project", entry.pk)) == plain
    Project.objects.update(description="new")
    with transaction.atomic():
        # A COMMIT of somebody else's is too late for what the database refuses.
        assert said(lambda: revert_to(None, "example_schema.project", entry.pk)) == [*plain, "SET CONSTRAINTS"]


def test_an_assignation_that_changed_one_object_is_undone_with_the_same_single_statement(tag: Tag) -> None:
    statements = said(lambda: revert_assignation(None, "work"))
    assert [text for text in statements if not text.lstrip("(").startswith("SELECT")] == ["WITH m0 AS (UPD"]
    assert (Tag.objects.get().name, Tag.history.latest("history_id").name) == ("old", "old")


def test_it_is_recorded_and_linked_both_ways(tag: Tag) -> None:
    first = Tag.history.order_by("history_id")[0]
    ada = User.objects.create_user("ada")
    with audit(user=ada, app="desk", assignation_id="outer"):
        report = back(tag, reason="by mistake")
    entry = Tag.history.latest("history_id")
    assert report.entry_keys == [(TAG, entry.pk)]
    assert (entry.name, entry.history_type, entry.origin, entry.app) == ("old", "~", "revert", "desk")
    assert (entry.history_user_id, entry.actor_name) == (ada.pk, "ada")
    assert (entry.history_change_reason, entry.metadata) == ("by mistake", {"requestAssignationId": "outer"})
    assert entry.assignation_id == report.assignation_id
    assert Assignation.objects.get(assignation_id=report.assignation_id).reverts_entry == f"{TAG}:{first.pk}"
    undone = revert_assignation(None, str(report.assignation_id))
    assert (undone.status, Tag.objects.get().name) == (RevertStatus.APPLIED, "new")
    assert Assignation.objects.get(assignation_id=undone.assignation_id).reverts == report.assignation_id


def test_failing_each_statement_in_turn_leaves_all_or_nothing(tag: Tag) -> None:
    before, number = written(), 0
    while True:
        try:
            with connection.execute_wrapper(FailAt(number)):
                report = back(tag)
        except DatabaseError:
            assert written() == before
            number += 1
            continue
        break
    # This test's own, the locks, the pair, who holds the unique name, the write.
    assert number == 5
    assert (report.status, Tag.objects.get().name) == (RevertStatus.APPLIED, "old")


def test_what_raw_sql_did_goes_back_without_an_entry_that_says_nothing(tag: Tag) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE example_schema_tag SET name = 'raw'")
    latest = Tag.history.latest("history_id")
    report = revert_to(None, TAG, latest.pk)
    assert (report.status, report.entry_keys) == (RevertStatus.APPLIED, [])
    assert (Tag.objects.get().name, Tag.history.latest("history_id")) == ("new", latest)
    assert Assignation.objects.get(assignation_id=report.assignation_id).reverts_entry == f"{TAG}:{latest.pk}"


@pytest.mark.parametrize("signal", [pre_save, post_save])
def test_what_handlers_write_belongs_to_the_one_assignation(tag: Tag, signal: Any) -> None:
    def note(instance: Tag, **_: Any) -> None:
        Project.objects.create(name=f"about {instance.name}")

    with connected(signal, note, Tag):
        report = back(tag)
    made = Project.history.get()
    assert (made.name, made.origin, made.assignation_id) == ("about old", "revert", report.assignation_id)
    own = Assignation.objects.filter(assignation_id=report.assignation_id)
    assert [bool(row.reverts_entry) for row in own] == [True]


def test_a_change_that_commits_meanwhile_is_what_is_reverted(tag: Tag) -> None:
    report = begun_before_commit(lambda: back(tag), lambda: Tag.objects.update(name="newer"))
    ((change,),) = [step.changes for step in report.steps]
    assert (change.old, change.new) == ("newer", "old")
    assert list(Tag.history.order_by("history_id").values_list("name", flat=True)) == ["old", "new", "newer", "old"]


def test_an_object_that_goes_meanwhile_comes_back(tag: Tag) -> None:
    report = begun_before_commit(lambda: back(tag), lambda: Tag.objects.get().delete())
    assert [step.action for step in report.steps] == ["+"]
    assert Tag.objects.get(pk=tag.pk).name == "old"


# --- what the database refuses only at the end


@pytest.fixture
def refused_at_the_end(tag: Tag) -> Iterator[None]:
    """No plan knows of this constraint, and the database asks for it last."""
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE names_that_may_be (name varchar(200) PRIMARY KEY)")
        cursor.execute("INSERT INTO names_that_may_be VALUES ('new')")
        cursor.execute(
            "ALTER TABLE example_schema_tag ADD CONSTRAINT name_may_be FOREIGN KEY (name) "
            "REFERENCES names_that_may_be DEFERRABLE INITIALLY DEFERRED"
        )
    yield
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE example_schema_tag DROP CONSTRAINT name_may_be")
        cursor.execute("DROP TABLE names_that_may_be")


def assert_refused(report: Report) -> None:
    assert report.status is RevertStatus.CONFLICTED
    ((conflict,),) = [step.conflicts for step in report.steps]
    assert (conflict.code, conflict.message) == (ConflictCode.INVALID, "The database refused the change.")


@pytest.mark.usefixtures("refused_at_the_end")
@pytest.mark.parametrize("policy", list(RevertPolicy))
def test_at_its_own_commit_it_is_a_conflict(tag: Tag, policy: RevertPolicy) -> None:
    before = written()
    assert_refused(back(tag, policy=policy))
    assert written() == before
    assert not connection.in_atomic_block


@pytest.mark.usefixtures("refused_at_the_end")
def test_inside_another_transaction_it_is_a_conflict_before_its_commit(tag: Tag) -> None:
    with transaction.atomic():
        Project.objects.create(name="kept")
        assert_refused(back(tag))
    assert (Tag.objects.get().name, Project.objects.get().name) == ("new", "kept")


@pytest.mark.usefixtures("refused_at_the_end")
def test_without_autocommit_it_is_a_conflict_before_somebodys_commit(tag: Tag) -> None:
    transaction.set_autocommit(False)
    try:
        assert_refused(back(tag))
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)
    assert Tag.objects.get().name == "new"


@pytest.mark.usefixtures("refused_at_the_end")
def test_nobody_is_told_of_what_was_refused(tag: Tag) -> None:
    told = list[Report]()

    def hear(report: Report, **_: Any) -> None:
        told.append(report)

    reverted.connect(hear)
    try:
        assert_refused(back(tag))
    finally:
        reverted.disconnect(hear)
    assert told == []
