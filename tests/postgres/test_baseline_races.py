"""PostgreSQL only: a baseline is written while others write, and never stands after an entry of their own."""

import random
import threading
from typing import Any

import pytest
from django.db import transaction

import koherent
from example_schema.models import Project, Tag
from koherent import registry
from koherent.baseline import record_baseline
from koherent.registry import TrackedModel
from koherent.verify import verify
from tests.postgres.threads import WAIT, in_thread, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)


def tracked() -> TrackedModel:
    found = registry.for_model(Tag)
    assert found is not None
    return found


def entries() -> list[tuple[str, str, str]]:
    return list(Tag.history.order_by("history_id").values_list("history_type", "name", "origin"))


def test_a_row_that_is_being_changed_gets_no_baseline_after_its_entry() -> None:
    with koherent.pause():
        Tag.objects.bulk_create([Tag(name="changing"), Tag(name="going"), Tag(name="quiet")])
    wrote, may_commit = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            Tag.objects.filter(name="changing").update(name="changed")
            Tag.objects.filter(name="going").delete()
            Tag.objects.create(name="new")
            wrote.set()
            assert may_commit.wait(WAIT)

    created: list[int] = []
    writer = in_thread(write)
    assert wrote.wait(WAIT)
    baseline = in_thread(lambda: created.append(record_baseline(tracked()).created))
    until_somebody_waits_for_a_lock()
    assert entries() == [("+", "quiet", "baseline")]  # what nobody held is committed already
    may_commit.set()
    writer.join(WAIT)
    baseline.join(WAIT)
    assert created == [1]
    assert entries() == [
        ("~", "changed", "change"),
        ("-", "going", "change"),
        ("+", "new", "change"),
        ("+", "quiet", "baseline"),
    ]


def test_under_load_every_object_ends_with_its_own_last_entry() -> None:
    with koherent.pause():
        Tag.objects.bulk_create([Tag(name=f"t{number}") for number in range(300)])
    keys = list(Tag.objects.values_list("pk", flat=True))
    failures: list[BaseException] = []
    start = threading.Barrier(4, timeout=WAIT)

    def write(seed: int) -> None:
        chance = random.Random(seed)
        try:
            start.wait()
            for number in range(60):
                with transaction.atomic():
                    for pk in sorted(chance.sample(keys, 3)):
                        Tag.objects.filter(pk=pk).update(name=f"{seed}-{number}-{pk}")
                    if chance.random() < 0.2:
                        Tag.objects.filter(pk__in=Tag.objects.select_for_update().filter(pk=keys[number])).delete()
        except BaseException as error:
            failures.append(error)
            raise

    writers = [in_thread(lambda seed=seed: write(seed)) for seed in range(3)]  # type: ignore[misc]
    start.wait()
    record_baseline(tracked(), chunk=7)
    for writer in writers:
        writer.join(60)
    record_baseline(tracked(), chunk=7)
    assert failures == []
    # What a writer touched before the baseline reached it begins with a change; all else has to be in order.
    assert [f for f in verify(tracked()) if f.problem != "impossible"] == []
    history: Any = Tag.history
    for entry in history.filter(origin="baseline"):
        before = history.filter(id=entry.id, history_id__lt=entry.history_id).order_by("history_id").last()
        assert before is None or before.history_type == "-"


def test_the_verifier_reads_each_chunk_at_one_moment_while_others_write() -> None:
    Project.objects.bulk_create([Project(name=f"p{number}") for number in range(50)])
    done = threading.Event()

    def write() -> None:
        number = 0
        while not done.is_set() and number < 300:
            number += 1
            Project.objects.filter(pk__in=keys[number % 5 :: 5]).update(description=str(number))

    keys = list(Project.objects.values_list("pk", flat=True))
    writer = in_thread(write)
    try:
        model = registry.for_model(Project)
        assert model is not None
        assert [finding for _ in range(3) for finding in verify(model, chunk=50)] == []
    finally:
        done.set()
        writer.join(WAIT)
