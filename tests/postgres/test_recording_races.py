"""PostgreSQL only: entries of one object by two transactions at once follow each other, and the last one is right."""

import threading
from collections.abc import Callable

import pytest
from django.db import transaction
from django.db.models.signals import pre_delete

from example_schema.models import Dataset, Project, Tag
from koherent import registry
from koherent.verify import verify
from tests.postgres.threads import WAIT, in_thread, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)


def beside_an_open_transaction(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Commit ``first`` only once ``second``, in another thread, waits for it."""
    wrote, may_commit = threading.Event(), threading.Event()

    def work() -> None:
        with transaction.atomic():
            first()
            wrote.set()
            assert may_commit.wait(WAIT)

    holder = in_thread(work)
    assert wrote.wait(WAIT)
    follower = in_thread(second)
    until_somebody_waits_for_a_lock()
    may_commit.set()
    holder.join(WAIT)
    follower.join(WAIT)


def dataset() -> Dataset:
    return Dataset.objects.create(project=Project.objects.create(name="p"), title="d")


def test_links_that_two_transactions_add_at_once_are_all_in_the_last_entry() -> None:
    d, (one, two) = dataset(), (Tag.objects.create(name="one"), Tag.objects.create(name="two"))
    beside_an_open_transaction(lambda: d.tags.add(one), lambda: Dataset.objects.get(pk=d.pk).tags.add(two))
    tracked = registry.for_model(Dataset)
    assert tracked is not None
    links = [sorted(entry.tags.values_list("tag_id", flat=True)) for entry in Dataset.history.order_by("history_id")]
    assert links == [[], [one.pk], [one.pk, two.pk]]
    assert not list(verify(tracked))


def test_nothing_follows_the_entry_of_a_deletion() -> None:
    d = dataset()
    seen, may_go = threading.Event(), threading.Event()

    def dawdle(sender: object, **_: object) -> None:
        seen.set()
        assert may_go.wait(WAIT)

    def rename() -> None:
        with transaction.atomic():
            Dataset.objects.filter(pk=d.pk).update(title="renamed")
            may_go.set()
            until_somebody_waits_for_a_lock()

    pre_delete.connect(dawdle, sender=Dataset)
    try:
        deletion = in_thread(lambda: Dataset.objects.get(pk=d.pk).delete())
        assert seen.wait(WAIT)
        renaming = in_thread(rename)
        renaming.join(WAIT)
        deletion.join(WAIT)
    finally:
        pre_delete.disconnect(dawdle, sender=Dataset)
    entries = Dataset.history.order_by("history_id").values_list("history_type", "title")
    assert list(entries) == [("+", "d"), ("~", "renamed"), ("-", "renamed")]


def test_an_update_that_waits_for_a_deletion_leaves_no_entry() -> None:
    d = dataset()
    updated: list[int] = []
    beside_an_open_transaction(
        Dataset.objects.get(pk=d.pk).delete,
        lambda: updated.append(Dataset.objects.filter(pk=d.pk).update(title="late")),
    )
    assert updated == [0]
    assert list(Dataset.history.order_by("history_id").values_list("history_type", flat=True)) == ["+", "-"]
