"""PostgreSQL only: a prune and those who write at the same time."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, transaction

import koherent
from example_schema.models import Project
from koherent import commits, export, timeline
from koherent.models import Assignation, Pruned
from koherent.retention import prune, pruning
from tests.retention.histories import days_ago, write

pytestmark = pytest.mark.django_db(transaction=True)
WAIT = 20.0


def closing(work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        connections.close_all()


@pytest.mark.parametrize("remembered", [False, True])
def test_an_assignation_that_goes_on_while_its_row_is_pruned_is_still_listed(remembered: bool) -> None:
    with koherent.audit(assignation_id="work"):
        Project.objects.create(name="first")
    Project.history.all().delete()
    if not remembered:
        # Nobody has written to it for a month, and no process knows of it.
        Assignation.objects.update(started_at=days_ago(30))
        commits._forget()
    wrote, may_commit = threading.Event(), threading.Event()

    def go_on() -> None:
        with koherent.audit(assignation_id="work"), transaction.atomic():
            Project.objects.create(name="second")
            wrote.set()
            assert may_commit.wait(WAIT)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(closing, go_on)
        assert wrote.wait(WAIT)
        assert prune(keep=0).assignations == (0 if remembered else 1)
        may_commit.set()
        writer.result(WAIT)
    [found] = timeline.assignations(export.unrestricted()).items
    assert (found.id, found.entry_count) == ("work", 1)


def test_prunes_at_the_same_time_do_what_one_would_have_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 7)
    for pk in range(1, 11):
        write(
            Project,
            [{"id": pk, "name": "x", "history_type": "~", "history_date": days_ago(30 + pk)} for _ in range(9)],
        )
    barrier = threading.Barrier(4, timeout=WAIT)

    def work() -> int:
        barrier.wait()
        return prune(keep=2).entries

    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(closing, work) for _ in range(4)]
        assert sum(run.result(WAIT) for run in runs) == 60
    for pk in range(1, 11):
        assert Project.history.filter(id=pk).count() == 3
    newest = sorted(Project.history.filter(id=10).values_list("history_id", flat=True))
    assert Pruned.objects.get().history_id == newest[0] - 1
