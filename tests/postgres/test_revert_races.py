"""Reverts against each other and against other writers, many rounds; ``REVERT_ROUNDS`` says how many.

Whatever the order of events, one of them wins: the revert is applied as if alone, or says what stands in its way, and
nobody's change is lost. No deadlock reaches anybody.
"""

import os
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import DatabaseError, IntegrityError, connections, transaction

from example_schema.models import Dataset, Image, Project, Tag
from koherent import audit, registry
from koherent.revert import ConflictCode, Report, RevertStatus, revert_assignation, revert_to
from koherent.verify import verify

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(3600)]
ROUNDS = int(os.environ.get("REVERT_ROUNDS", "8"))
WAIT = 30.0
THREADS = 3
_pool: ThreadPoolExecutor


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """Threads that keep their connections for all rounds of a test."""
    global _pool
    with ThreadPoolExecutor(THREADS) as _pool:
        yield
        together(*[connections.close_all] * THREADS)


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run all at once, each on its own connection; returns the results, or the integrity errors, in order."""
    barrier = threading.Barrier(len(work))

    def run(one: Callable[[], Any]) -> Any:
        barrier.wait(WAIT)
        try:
            return one()
        except IntegrityError as error:
            return error

    return [future.result(WAIT) for future in [_pool.submit(run, one) for one in work]]


class Round:
    """Some objects, and an assignation that changed, deleted, created and linked."""

    def __init__(self, number: int) -> None:
        self.work = f"work{number}"
        self.project = Project.objects.create(name=f"p{number}")
        self.dataset = Dataset.objects.create(project=self.project, title="old")
        self.other = Dataset.objects.create(project=self.project, title="other")
        self.image = Image.objects.create(dataset=self.dataset, name="gone", width=1, height=1)
        self.lost = self.image.pk
        with audit(assignation_id=self.work):
            Dataset.objects.filter(pk=self.dataset.pk).update(title="new")
            self.image.delete()
            self.made = Dataset.objects.create(project=self.project, title="made")
            self.part = Image.objects.create(dataset=self.made, name="part", width=1, height=1)
            self.tag = Tag.objects.create(name=f"t{number}")
            self.dataset.tags.add(self.tag)

    def revert(self) -> Report:
        return revert_assignation(None, self.work)

    @property
    def row(self) -> Dataset | None:
        return Dataset.objects.filter(pk=self.dataset.pk).first()

    def is_undone(self) -> bool:
        """All of it, apart from the one object that others fight for."""
        done = {
            Image.objects.filter(pk=self.lost).exists(),
            not Dataset.objects.filter(pk=self.made.pk).exists(),
            not Tag.objects.filter(pk=self.tag.pk).exists(),
        }
        assert len(done) == 1, "half of it"
        return done.pop()


def codes(report: Report) -> set[ConflictCode]:
    return {conflict.code for step in report.steps for conflict in step.conflicts}


def rounds(against: Callable[[Round], str]) -> Counter[str]:
    """Who won how often; then the trail agrees with the tables."""
    won = Counter(against(Round(number)) for number in range(ROUNDS))
    for tracked in registry.tracked_models():
        assert list(verify(tracked)) == []
    return won


def test_against_itself() -> None:
    def against(one: Round) -> str:
        reports = together(one.revert, one.revert, one.revert)
        assert sorted(r.status.value for r in reports) == ["APPLIED", "UNCHANGED", "UNCHANGED"]
        assert one.is_undone()
        return "one of them"

    rounds(against)


def test_against_a_save() -> None:
    def against(one: Round) -> str:
        def save() -> None:
            row = Dataset.objects.get(pk=one.dataset.pk)
            row.title = "theirs"
            row.save(update_fields=["title"])

        report, _ = together(one.revert, save)
        assert one.row is not None
        assert one.row.title == "theirs"
        if report.status is RevertStatus.APPLIED:
            assert one.is_undone()
            return "revert"
        assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.CHANGED_SINCE})
        assert not one.is_undone()
        return "save"

    rounds(against)


def test_against_a_save_of_another_field_both_stand() -> None:
    def against(one: Round) -> str:
        report, _ = together(
            one.revert, lambda: Dataset.objects.filter(pk=one.dataset.pk).update(status=Dataset.Status.PUBLISHED)
        )
        assert report.status is RevertStatus.APPLIED
        assert one.row is not None
        assert (one.row.title, one.row.status) == ("old", "published")
        return "both"

    rounds(against)


def test_against_a_delete_that_cascades() -> None:
    def against(one: Round) -> str:
        report, deleted = together(one.revert, lambda: Dataset.objects.get(pk=one.dataset.pk).delete())
        if report.status is RevertStatus.CONFLICTED:
            assert codes(report) <= {ConflictCode.CHANGED_SINCE, ConflictCode.REFERENCE_MISSING}
            assert one.row is None
            assert not one.is_undone()
            return "delete"
        assert report.status is RevertStatus.APPLIED
        if isinstance(deleted, IntegrityError):
            # Its cascade had looked before the image came back.
            assert one.row is not None
            assert one.is_undone()
            return "revert"
        assert one.row is None
        assert not Image.objects.filter(pk=one.lost).exists()
        return "both"

    rounds(against)


def test_against_an_insert_of_a_referring_row() -> None:
    def against(one: Round) -> str:
        report, image = together(
            one.revert, lambda: Image.objects.create(dataset_id=one.made.pk, name="theirs", width=1, height=1)
        )
        if report.status is RevertStatus.APPLIED:
            assert isinstance(image, IntegrityError)
            assert one.is_undone()
            return "revert"
        assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.STILL_REFERENCED})
        assert Image.objects.filter(dataset_id=one.made.pk, name="theirs").exists()
        assert not one.is_undone()
        return "insert"

    rounds(against)


def test_against_a_new_link() -> None:
    def against(one: Round) -> str:
        report, link = together(one.revert, lambda: one.other.tags.add(one.tag))
        if report.status is RevertStatus.APPLIED:
            assert isinstance(link, IntegrityError)
            assert one.is_undone()
            return "revert"
        assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.STILL_REFERENCED})
        assert list(one.other.tags.all()) == [one.tag]
        return "link"

    rounds(against)


def test_against_the_revert_of_a_later_assignation() -> None:
    def against(one: Round) -> str:
        later = f"{one.work}-later"
        with audit(assignation_id=later):
            Dataset.objects.filter(pk=one.dataset.pk).update(title="later")
        report, undone = together(one.revert, lambda: revert_assignation(None, later))
        assert undone.status is (RevertStatus.APPLIED)
        assert one.row is not None
        if report.status is RevertStatus.APPLIED:
            assert one.row.title == "old"
            assert one.is_undone()
            return "both"
        assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.CHANGED_SINCE})
        assert one.row.title == "new"
        return "later"

    rounds(against)


def test_against_one_object_going_back_to_an_entry() -> None:
    def against(one: Round) -> str:
        entry = Image.history.get(id=one.lost, history_type="+")
        report, back = together(one.revert, lambda: revert_to(None, "example_schema.image", entry.pk))
        assert report.status is RevertStatus.APPLIED
        assert back.status in (RevertStatus.APPLIED, RevertStatus.UNCHANGED)
        assert one.is_undone()
        entries = list(Image.history.filter(id=one.lost).order_by("history_id").values_list("history_type", flat=True))
        assert entries == ["+", "-", "+"]
        return str(back.status.value)

    rounds(against)


def test_against_a_transaction_that_locks_the_other_way_round() -> None:
    def against(one: Round) -> str:
        def update() -> None:
            with transaction.atomic():
                rows = [(Project, one.project.pk), (Dataset, one.dataset.pk), (Image, one.part.pk), (Tag, one.tag.pk)]
                random.Random(one.work).shuffle(rows)
                for model, pk in rows:
                    row: Any = model._default_manager.filter(pk=pk).first()
                    if row is not None:
                        row.save(force_update=True)

        (report,) = [r for r in retried(one.revert, update) if isinstance(r, Report)]
        assert report.status is RevertStatus.APPLIED
        assert one.is_undone()
        return "both"

    rounds(against)


def retried(revert: Callable[[], Report], update: Callable[[], None]) -> list[Any]:
    """The other one tries again when the database has chosen it to end a deadlock, or its row is gone."""

    def persistent() -> None:
        for _ in range(5):
            try:
                update()
            except DatabaseError as error:
                sqlstate = getattr(error.__cause__, "sqlstate", None)
                if sqlstate is not None and sqlstate != "40P01":
                    raise
            else:
                return

    return together(revert, persistent)
