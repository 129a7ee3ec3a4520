"""Large reverts: memory and work grow with the changes and no faster. ``make deep`` runs a hundred thousand."""

import gc
import os
import tracemalloc
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from example_schema.models import Dataset, Image, Project
from koherent import audit
from koherent.revert import Report, RevertStatus, revert_assignation

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(3600)]
CHANGES = int(os.environ.get("REVERT_CHANGES", "4000"))
MEGABYTE = 2**20
CHUNK = 2_000


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters")


def changed(dataset: Dataset, name: str, count: int) -> None:
    """So many images, changed by an assignation of this name."""
    for start in range(0, count, CHUNK):
        numbers = range(start, min(count, start + CHUNK))
        Image.objects.bulk_create(Image(dataset=dataset, name=name, width=n + 1, height=1) for n in numbers)
    with audit(assignation_id=name):
        Image.objects.filter(name=name).update(height=F("height") + 1, extra={"changed": True})


def undone(name: str, **arguments: Any) -> Report:
    report = revert_assignation(None, name, **arguments)
    assert report.status is RevertStatus.APPLIED
    assert not Image.objects.filter(name=name).exclude(height=1, extra={}).exists()
    return report


def test_a_revert_holds_little_of_each_object_and_tells_how_far_it_is(dataset: Dataset) -> None:
    changed(dataset, "first", 10)
    undone("first")
    changed(dataset, "many", CHANGES)
    told: list[tuple[str, int, int]] = []
    gc.collect()
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        report = revert_assignation(None, "many", progress=lambda *what: told.append(what))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (report.status, len(report.steps), len(report.entry_keys)) == (RevertStatus.APPLIED, CHANGES, CHANGES)
    # What one batch needs, and a kilobyte for each object: 150 megabytes above the idle process at a hundred thousand.
    assert (peak - start) / MEGABYTE < 30 + CHANGES / 1000
    ends = [min(CHANGES, end) for end in range(CHUNK, CHANGES + CHUNK, CHUNK)]
    assert told == [(doing, end, CHANGES) for doing in ("planning", "writing") for end in ends]


@pytest.mark.parametrize("kind", ["update", "delete", "create"])
def test_statements_grow_with_batches_and_not_with_objects(dataset: Dataset, kind: str) -> None:
    def statements(name: str, count: int) -> int:
        images = [Image(dataset=dataset, name=name, width=n + 1, height=1) for n in range(count)]
        with audit(assignation_id=name if kind == "create" else "setup"):
            Image.objects.bulk_create(images)
        with audit(assignation_id=name):
            if kind == "update":
                Image.objects.filter(name=name).update(height=2)
            if kind == "delete":
                Image.objects.filter(name=name).delete()
        with CaptureQueriesContext(connection) as queries:
            assert revert_assignation(None, name).status is RevertStatus.APPLIED
        # SQLite: a row for each run.
        return sum(not q["sql"].startswith('INSERT INTO "koherent_assignation"') for q in queries)

    assert statements("few", 3) == statements("many", 1500)
