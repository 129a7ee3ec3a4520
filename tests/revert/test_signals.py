"""Django's signals around a revert, and ``koherent.signal.reverted``."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.db.models import Model
from django.db.models.signals import ModelSignal, post_delete, post_save, pre_delete, pre_save
from django.test.utils import CaptureQueriesContext

from example_schema.models import Dataset, Project, Tag
from koherent import audit
from koherent.revert import RevertPolicy, RevertStatus, revert_assignation, revert_to
from koherent.signal import reverted

pytestmark = pytest.mark.django_db
SIGNALS = {"pre_save": pre_save, "post_save": post_save, "pre_delete": pre_delete, "post_delete": post_delete}


@contextmanager
def connected(signal: ModelSignal, receiver: Callable[..., Any], sender: type[Model] | None = None) -> Iterator[None]:
    signal.connect(receiver, sender=sender)
    yield
    signal.disconnect(receiver, sender=sender)


@pytest.fixture
def heard() -> Iterator[list[tuple[Any, ...]]]:
    """Each signal of a saved or deleted object: (name, object's text, what else it says, rows like it in the table)."""
    told: list[tuple[Any, ...]] = []

    def hear(name: str, sender: Any, instance: Any, **more: Any) -> None:
        assert more.pop("signal") is SIGNALS[name]
        if (origin := more.pop("origin", None)) is not None:
            assert origin is instance
        if sender in (Dataset, Project, Tag):
            told.append((name, str(instance), more, sender.objects.filter(pk=instance.pk).count()))

    receivers = {}
    for name, signal in SIGNALS.items():
        receivers[name] = lambda name=name, **named: hear(name, **named)
        signal.connect(receivers[name])
    yield told
    for name, signal in SIGNALS.items():
        signal.disconnect(receivers[name])


def test_each_object_has_its_signals_with_the_values_that_are_written(heard: list[Any]) -> None:
    project = Project.objects.create(name="Moon")
    Dataset.objects.create(project=project, title="Craters")
    gone = Tag.objects.create(name="gone")
    with audit(assignation_id="work"):
        gone.delete()
        Dataset.objects.update(title="Seas", status="published")
        Project.objects.create(name="Mars")
    heard.clear()
    assert revert_assignation(None, "work").status is RevertStatus.APPLIED
    named: dict[str, Any] = {"using": "default"}
    saving = {**named, "raw": False, "update_fields": None}
    changing = {**saving, "update_fields": frozenset({"title", "status"})}
    assert heard == [
        ("pre_delete", "Mars", named, 1),
        ("pre_save", "Craters", changing, 1),
        ("pre_save", "gone", saving, 0),
        ("post_delete", "Mars", named, 0),
        ("post_save", "Craters", {**changing, "created": False}, 1),
        ("post_save", "gone", {**saving, "created": True}, 1),
    ]


def test_a_plan_sends_nothing_and_nor_does_what_is_skipped(heard: list[Any]) -> None:
    tags = [Tag.objects.create(name=name) for name in "ab"]
    with audit(assignation_id="work"):
        Tag.objects.filter(name="a").update(name="c")
        Tag.objects.filter(name="b").update(name="d")
    Tag.objects.filter(pk=tags[1].pk).update(name="theirs")
    heard.clear()
    revert_assignation(None, "work", dry_run=True)
    revert_assignation(None, "work")
    assert heard == []
    revert_assignation(None, "work", policy=RevertPolicy.SKIP_CONFLICTS)
    assert [(name, text) for name, text, *_ in heard] == [("pre_save", "a"), ("post_save", "a")]


def test_without_listeners_there_is_no_statement_for_them() -> None:
    with audit(assignation_id="work"):
        Tag.objects.bulk_create(Tag(name=f"t{number}") for number in range(3))
    # django-simple-history's receivers and ours are connected, and do not count.
    assert pre_delete.has_listeners(Tag)
    with CaptureQueriesContext(connection) as queries:
        assert revert_assignation(None, "work").status is RevertStatus.APPLIED
    loads = [q for q in queries if q["sql"].startswith('SELECT "') and 'FROM "example_schema_tag"' in q["sql"]]
    assert len(loads) == 1


def test_what_a_handler_saves_is_recorded_as_part_of_the_revert() -> None:
    tag = Tag.objects.create(name="old")
    with audit(assignation_id="work"):
        Tag.objects.update(name="new")

    def count(instance: Tag, **_: Any) -> None:
        Project.objects.create(name=f"about {instance.name}")

    with connected(post_save, count, Tag):
        report = revert_assignation(None, "work")
    made = Project.history.get()
    assert (made.name, made.assignation_id, made.origin) == ("about old", report.assignation_id, "revert")
    assert report.assignation_id is not None
    assert revert_assignation(None, report.assignation_id).status is RevertStatus.APPLIED
    tag.refresh_from_db()
    assert (tag.name, Project.objects.count()) == ("new", 0)


def test_a_deletion_is_recorded_once_though_our_own_handler_listens() -> None:
    with audit(assignation_id="work"):
        tag = Tag.objects.create(name="a")

    def nothing(**_: Any) -> None:
        pass

    key = tag.pk
    with connected(pre_delete, nothing, Tag):
        assert revert_assignation(None, "work").status is RevertStatus.APPLIED
    assert list(Tag.history.filter(id=key).order_by("history_id").values_list("history_type", flat=True)) == ["+", "-"]


def test_a_handler_that_raises_undoes_the_revert() -> None:
    Tag.objects.create(name="old")
    with audit(assignation_id="work"):
        Tag.objects.update(name="new")

    def refuse(**_: Any) -> None:
        raise LookupError("not today")

    entries = Tag.history.count()
    for signal in (pre_save, post_save):
        with connected(signal, refuse, Tag):
            with pytest.raises(LookupError):
                revert_assignation(None, "work")
            signal.disconnect(refuse, sender=Tag)
    assert (Tag.objects.get().name, Tag.history.count()) == ("new", entries)


@pytest.mark.django_db(transaction=True)
def test_an_asynchronous_handler_is_awaited() -> None:
    Tag.objects.create(name="old")
    with audit(assignation_id="work"):
        Tag.objects.update(name="new")
    names: list[str] = []

    async def hear(instance: Tag, **_: Any) -> None:
        names.append(instance.name)

    with connected(post_save, hear, Tag):
        revert_assignation(None, "work")
    assert names == ["old"]


def test_reverted_is_sent_once_for_what_was_applied_and_not_for_what_was_not() -> None:
    tag = Tag.objects.create(name="old")
    entry = Tag.history.get()
    with audit(assignation_id="work"):
        Tag.objects.update(name="new")
    reports: list[Any] = []

    def hear(report: Any, **_: Any) -> None:
        reports.append(report)

    reverted.connect(hear)
    revert_to(None, "example_schema.tag", entry.pk, dry_run=True)
    assert reports == []
    done = revert_to(None, "example_schema.tag", entry.pk)
    assert revert_assignation(None, "work").status is RevertStatus.UNCHANGED
    tag.name = "theirs"
    tag.save()
    assert revert_assignation(None, "work").status is RevertStatus.CONFLICTED
    reverted.disconnect(hear)
    assert reports == [done]
