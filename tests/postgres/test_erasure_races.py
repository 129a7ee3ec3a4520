"""PostgreSQL only: an erasure and a revert of the same object at the same time. No revert ever writes a wiped value."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import koherent
from example_schema.models import Dataset, Project, Tag
from koherent.diff import erased_fields
from koherent.revert import Report, RevertStatus, apply, revert_assignation, revert_to
from tests.postgres.threads import WAIT, begun_before_commit, closing, until_somebody_waits_for_a_lock

pytestmark = pytest.mark.django_db(transaction=True)


class Between:
    """Lets a revert stop when it has planned, before it writes anything."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.planned, self.go_on = threading.Event(), threading.Event()
        decide = apply._decide

        def stopping(*args: Any, **kwargs: Any) -> Any:
            decision = decide(*args, **kwargs)
            self.planned.set()
            assert self.go_on.wait(WAIT)
            return decision

        monkeypatch.setattr(apply, "_decide", stopping)

    def run(self, revert: Any, erase: Any) -> tuple[Report, Any]:
        """``erase`` begins when ``revert`` has planned, and the revert goes on when it is done, or waits."""
        with ThreadPoolExecutor(2) as pool:
            reverting = pool.submit(closing, revert)
            assert self.planned.wait(WAIT)
            erasing = pool.submit(closing, erase)
            until_somebody_waits_for_a_lock(erasing)
            self.go_on.set()
            return reverting.result(WAIT), erasing.result(WAIT)


@pytest.fixture
def between(monkeypatch: pytest.MonkeyPatch) -> Between:
    return Between(monkeypatch)


@pytest.fixture
def dataset(transactional_db: None) -> Dataset:
    """Its old notes are to be erased while they are brought back."""
    dataset = Dataset.objects.create(project=Project.objects.create(name="Moon"), title="old", access_notes="personal")
    with koherent.audit(assignation_id="work"):
        Dataset.objects.update(title="new", access_notes="public")
    return dataset


def test_a_live_object(between: Between, dataset: Dataset) -> None:
    report, _ = between.run(
        lambda: revert_assignation(None, "work"), lambda: koherent.erase(dataset, ["title", "access_notes"])
    )
    assert report.status is RevertStatus.APPLIED
    # The erasure waited: the revert was first, and its entry is wiped too.
    assert Dataset.objects.values_list("title", "access_notes").get() == ("old", "personal")
    kept = set(Dataset.history.exclude(origin="erasure").values_list("title", "access_notes"))
    assert kept == {("", "")}


def test_an_object_that_is_gone(between: Between, dataset: Dataset) -> None:
    entry = Dataset.history.earliest("history_id")
    Dataset.objects.all().delete()
    report, erased = between.run(
        lambda: revert_to(None, "example_schema.dataset", entry.pk),
        lambda: koherent.erase(Dataset(pk=dataset.pk), ["access_notes"]),
    )
    assert report.status is RevertStatus.APPLIED
    assert Dataset.objects.get().access_notes == "personal"
    assert erased.entries == Dataset.history.count()


def test_a_revert_waits_for_an_erasure_and_sees_it(dataset: Dataset) -> None:
    report = begun_before_commit(
        lambda: revert_assignation(None, "work"), lambda: koherent.erase(dataset, ["access_notes"])
    )
    assert report.status is RevertStatus.APPLIED
    assert Dataset.objects.values_list("title", "access_notes").get() == ("old", "public")


def test_reverts_of_other_models_wait_for_nothing(between: Between, dataset: Dataset) -> None:
    with koherent.audit(assignation_id="tags"):
        Tag.objects.create(name="x")
    with ThreadPoolExecutor(1) as pool:
        reverting = pool.submit(closing, lambda: revert_assignation(None, "tags"))
        assert between.planned.wait(WAIT)
        koherent.erase(dataset, ["access_notes"])
        between.go_on.set()
        assert reverting.result(WAIT).status is RevertStatus.APPLIED


def test_the_erasure_of_a_person_keeps_what_the_erasure_of_an_object_marks(dataset: Dataset) -> None:
    """Both write to the metadata of an entry; without its markers, empty values would pass for real ones."""
    with koherent.audit(told_by="Ada"):
        Dataset.objects.update(access_notes="personal again")
    entry = Dataset.history.get(metadata__told_by="Ada")
    report = begun_before_commit(
        lambda: koherent.erase_actor("0", traces=["Ada"]), lambda: koherent.erase(dataset, ["access_notes"])
    )
    assert report.metadata == 1
    entry.refresh_from_db()
    assert (entry.metadata["told_by"], erased_fields(entry)) == ("[erased]", frozenset({"access_notes"}))
