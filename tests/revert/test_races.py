"""Reverts against each other and against other writers: one order of events wins, and nothing is lost.

SQLite has one writer at a time, so there the same work runs one after another.
"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import IntegrityError, connection, connections

from example_schema.models import Dataset, Image, Project
from koherent import audit
from koherent.revert import ConflictCode, RevertStatus, revert_assignation, revert_to

pytestmark = pytest.mark.django_db(transaction=True)
ROUNDS = 8


def together(*work: Callable[[], Any]) -> list[Any]:
    """Run all at once, each on its own connection; returns the results, or the integrity errors, in order."""
    barrier = threading.Barrier(len(work))
    results: list[Any] = [None] * len(work)

    def run(number: int) -> None:
        try:
            barrier.wait()
            results[number] = work[number]()
        except IntegrityError as error:
            results[number] = error
        finally:
            connections.close_all()

    if connection.vendor != "postgresql":
        return [one() for one in work]
    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return results


def test_two_reverts_of_the_same_assignation() -> None:
    for number in range(ROUNDS):
        project = Project.objects.create(name=f"p{number}")
        dataset = Dataset.objects.create(project=project, title="t")
        key = dataset.pk
        with audit(assignation_id=f"work{number}"):
            dataset.delete()
            Project.objects.filter(pk=project.pk).update(description="changed")
        reports = together(*[lambda n=number: revert_assignation(None, f"work{n}")] * 2)
        assert sorted(r.status.value for r in reports) == ["APPLIED", "UNCHANGED"]
        assert Dataset.history.filter(id=key).count() == 3


def test_two_ways_to_bring_the_same_object_back() -> None:
    project = Project.objects.create(name="p")
    for number in range(ROUNDS):
        dataset = Dataset.objects.create(project=project, title="t")
        entry = Dataset.history.filter(id=dataset.pk).latest("history_id")
        with audit(assignation_id=f"work{number}"):
            dataset.delete()
        reports = together(
            lambda n=number: revert_assignation(None, f"work{n}"),  # type: ignore[misc]
            lambda e=entry: revert_to(None, "example_schema.dataset", e.pk),  # type: ignore[misc]
        )
        assert sorted(r.status.value for r in reports) == ["APPLIED", "UNCHANGED"]


def test_against_a_save_no_update_is_lost() -> None:
    project = Project.objects.create(name="p")
    for number in range(ROUNDS):
        dataset = Dataset.objects.create(project=project, title="old")
        with audit(assignation_id=f"work{number}"):
            Dataset.objects.filter(pk=dataset.pk).update(title="new")
        report, _ = together(
            lambda n=number: revert_assignation(None, f"work{n}"),  # type: ignore[misc]
            lambda d=dataset: Dataset.objects.filter(pk=d.pk).update(title="theirs"),  # type: ignore[misc]
        )
        dataset.refresh_from_db()
        # Either the revert saw their title and refused, or theirs came after it: it stands both times.
        assert dataset.title == "theirs"
        assert report.status in (RevertStatus.APPLIED, RevertStatus.CONFLICTED)


def test_against_an_insert_of_a_referring_row() -> None:
    project = Project.objects.create(name="p")
    for number in range(ROUNDS):
        with audit(assignation_id=f"work{number}"):
            dataset = Dataset.objects.create(project=project, title="t")
        report, image = together(
            lambda n=number: revert_assignation(None, f"work{n}"),  # type: ignore[misc]
            lambda d=dataset: _insert(d.pk),  # type: ignore[misc]
        )
        exists = Image.objects.filter(dataset_id=dataset.pk).exists()
        if report.status is RevertStatus.APPLIED:
            assert not exists
            assert isinstance(image, IntegrityError)
        else:
            assert {c.code for step in report.steps for c in step.conflicts} == {ConflictCode.STILL_REFERENCED}
            assert exists


def _insert(dataset_id: Any) -> Any:
    if connection.vendor != "postgresql" and not Dataset.objects.filter(pk=dataset_id).exists():
        return IntegrityError("what its commit would say")
    return Image.objects.create(dataset_id=dataset_id, name="i", width=1, height=1)
