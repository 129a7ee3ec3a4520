"""Undo of an assignation: its delta, over three models, and nothing else."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from example_schema.models import Dataset, Image, Project, Tag
from koherent import audit, registry
from koherent.errors import NotFound
from koherent.models import Assignation
from koherent.revert import ConflictCode, Report, RevertPolicy, RevertStatus, revert_assignation
from koherent.signal import reverted

pytestmark = pytest.mark.django_db


def state() -> dict[str, Any]:
    """All rows of the example, and their links; not the time stamps that set themselves."""
    found: dict[str, Any] = {
        model._meta.label: {row["id"]: dict(row) for row in model._default_manager.values()}
        for model in (Project, Tag, Dataset, Image)
    }
    for row in found["example_schema.Dataset"].values():
        del row["updated_at"]
    found["links"] = set(Dataset.tags.through._default_manager.values_list("dataset_id", "tag_id"))
    return found


def entry_counts() -> list[int]:
    return [t.history_model._default_manager.count() for t in registry.tracked_models()]


@pytest.fixture
def lab() -> Dataset:
    with audit(assignation_id="setup"):
        project = Project.objects.create(name="Moon")
        dataset = Dataset.objects.create(project=project, title="Craters", access_notes="ask")
        dataset.tags.set([Tag.objects.create(name="raw"), Tag.objects.create(name="night")])
        Image.objects.create(dataset=dataset, name="a", width=1, height=2, exposure_ms="1.500", extra={"iso": True})
        Image.objects.create(dataset=dataset, name="b", width=3, height=4)
    return dataset


def work(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        dataset.title = "Seas"
        dataset.save()
        fresh = Tag.objects.create(name="fresh")
        dataset.tags.add(fresh)
        dataset.tags.remove(Tag.objects.get(name="raw"))
        Image.objects.get(name="a").delete()
        Image.objects.filter(name="b").update(width=F("width") + 1)
        other = Project.objects.create(name="Mars")
        new = Dataset.objects.create(project=other, title="Dust")
        new.tags.add(fresh)
        Image.objects.create(dataset=new, name="c", width=1, height=1)


def codes(report: Report) -> set[ConflictCode]:
    return {conflict.code for step in report.steps for conflict in step.conflicts}


def test_undo_restores_the_exact_earlier_state_and_undo_of_undo_is_the_identity(lab: Dataset) -> None:
    before = state()
    work(lab)
    after = state()
    heard: list[Any] = []

    def listen(report: Report, **_: Any) -> None:
        heard.append(report)

    reverted.connect(listen)
    report = revert_assignation(None, "work", reason="oops")
    reverted.disconnect(listen)
    assert report.status is RevertStatus.APPLIED
    assert state() == before
    assert heard == [report]
    assert all(step.applied for step in report.steps)
    row = Assignation.objects.get(assignation_id=report.assignation_id)
    assert (row.reverts, row.reverts_entry) == ("work", None)
    for label, pk in report.entry_keys:
        tracked = registry.by_label(label)
        assert tracked is not None
        entry: Any = tracked.history_model._default_manager.get(pk=pk)
        assert (entry.origin, entry.assignation_id) == ("revert", report.assignation_id)
        assert entry.history_change_reason == "oops"
    assert len(report.entry_keys) == len(report.steps) == 7

    assert revert_assignation(None, "work").status is RevertStatus.UNCHANGED
    assert report.assignation_id is not None
    assert revert_assignation(None, report.assignation_id).status is RevertStatus.APPLIED
    assert state() == after


def test_cascades_come_back_with_keys_time_stamps_and_links(lab: Dataset) -> None:
    before, stamps = state(), Dataset.objects.values_list("created_at", "updated_at").get()
    with audit(assignation_id="gone"):
        Project.objects.get().delete()
    assert not Image.objects.exists()
    assert revert_assignation(None, "gone").status is RevertStatus.APPLIED
    assert state() == before
    assert Dataset.objects.values_list("created_at", "updated_at").get() == stamps


def test_a_dry_run_writes_nothing(lab: Dataset) -> None:
    work(lab)
    after, entries = state(), entry_counts()
    with CaptureQueriesContext(connection) as queries:
        report = revert_assignation(None, "work", dry_run=True)
    assert report.status is RevertStatus.PLANNED
    assert {q["sql"].lstrip("(").split()[0] for q in queries} == {"SELECT"}
    assert (state(), entry_counts(), report.assignation_id) == (after, entries, None)
    applied = revert_assignation(None, "work", expected_plan=report.plan)
    assert (applied.status, applied.plan) == (RevertStatus.APPLIED, report.plan)


def test_an_expected_plan_is_exact_also_where_nothing_conflicts(lab: Dataset) -> None:
    work(lab)
    plan = revert_assignation(None, "work", dry_run=True).plan
    Dataset.objects.filter(pk=lab.pk).update(title="Craters")  # a person undid one field: no conflict, but another plan
    before, entries = state(), entry_counts()
    refused = revert_assignation(None, "work", expected_plan=plan)
    assert (refused.status, refused.conflict_count) == (RevertStatus.CONFLICTED, 0)
    assert (state(), entry_counts()) == (before, entries)


def test_an_expected_plan_that_is_another_is_refused(lab: Dataset) -> None:
    work(lab)
    plan = revert_assignation(None, "work", dry_run=True).plan
    Image.objects.filter(name="c").update(width=99)
    after = state()
    assert revert_assignation(None, "work", expected_plan=plan).status is RevertStatus.CONFLICTED
    assert state() == after


def test_a_later_change_of_another_field_stays(lab: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    Dataset.objects.update(status="published")
    lab.tags.add(Tag.objects.create(name="later"))
    assert revert_assignation(None, "work").status is RevertStatus.APPLIED
    lab.refresh_from_db()
    assert (lab.title, lab.status, lab.tags.count()) == ("Craters", "published", 3)


def test_a_later_change_of_the_same_field_is_a_conflict_that_overwrite_overrides(lab: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
        Image.objects.update(height=7)
    Dataset.objects.update(title="Mountains")
    Dataset.objects.update(status="published")
    latest = Dataset.history.filter(title="Mountains").first()
    after = state()
    report = revert_assignation(None, "work")
    assert (report.status, codes(report), report.conflict_count) == (
        RevertStatus.CONFLICTED,
        {ConflictCode.CHANGED_SINCE},
        1,
    )
    (conflict,) = next(step for step in report.steps if step.conflicts).conflicts
    oldest = Dataset.history.filter(title="Mountains").order_by("history_id").first()
    assert latest is not None
    assert (conflict.fields, conflict.entry) == (("title",), ("example_schema.dataset", oldest.pk))
    assert state() == after

    skipped = revert_assignation(None, "work", policy=RevertPolicy.SKIP_CONFLICTS, dry_run=True)
    assert [step.conflicts != () for step in skipped.steps].count(False) == 2
    assert skipped.status is RevertStatus.PLANNED
    assert revert_assignation(None, "work", policy=RevertPolicy.OVERWRITE).status is RevertStatus.APPLIED
    lab.refresh_from_db()
    assert (lab.title, lab.status) == ("Craters", "published")


def test_a_foreign_change_between_its_own_is_a_conflict_and_one_undone_is_none(lab: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="One")
    Dataset.objects.update(title="Foreign")
    Dataset.objects.update(title="One")
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Two")
    assert revert_assignation(None, "work", dry_run=True).status is RevertStatus.PLANNED
    Dataset.objects.update(title="Foreign")
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Three")
    assert codes(revert_assignation(None, "work")) == {ConflictCode.CHANGED_SINCE}


def test_what_it_created_and_others_edited_or_refer_to(lab: Dataset) -> None:
    with audit(assignation_id="work"):
        project = Project.objects.create(name="Mars")
    theirs = Dataset.objects.create(project=project, title="Theirs")
    report = revert_assignation(None, "work", policy=RevertPolicy.OVERWRITE)
    assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.STILL_REFERENCED})
    assert report.steps[0].conflicts[0].entry == ("example_schema.dataset", theirs.history.get().pk)
    theirs.delete()
    Project.objects.filter(name="Mars").update(description="edited")
    assert codes(revert_assignation(None, "work")) == {ConflictCode.CHANGED_SINCE}


def test_a_tag_that_others_attached_is_still_referenced(lab: Dataset) -> None:
    with audit(assignation_id="work"):
        tag = Tag.objects.create(name="mine")
    lab.tags.add(tag)
    report = revert_assignation(None, "work", policy=RevertPolicy.SKIP_CONFLICTS)
    assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.STILL_REFERENCED})


def test_a_taken_unique_value_and_its_dependents(lab: Dataset) -> None:
    with audit(assignation_id="gone"):
        Project.objects.get().delete()
        Tag.objects.filter(name="raw").delete()
    with audit(assignation_id="theirs"):
        holder = Project.objects.create(name="Moon")
    report = revert_assignation(None, "gone", policy=RevertPolicy.OVERWRITE)
    assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.UNIQUE_TAKEN})
    (conflict,) = next(step for step in report.steps if step.conflicts).conflicts
    assert (conflict.fields, conflict.entry) == (("name",), ("example_schema.project", holder.history.get().pk))

    report = revert_assignation(None, "gone", policy=RevertPolicy.SKIP_CONFLICTS)
    assert report.status is RevertStatus.APPLIED
    assert [step.tracked.label for step in report.steps if step.applied] == ["example_schema.tag"]
    assert codes(report) == {ConflictCode.UNIQUE_TAKEN, ConflictCode.REFERENCE_MISSING}
    assert not Dataset.objects.exists()


def test_a_missing_reference(lab: Dataset) -> None:
    with audit(assignation_id="gone"):
        Image.objects.get(name="a").delete()
    Project.objects.get().delete()
    report = revert_assignation(None, "gone")
    assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.REFERENCE_MISSING})


def test_unique_values_swap_inside_the_group(lab: Dataset) -> None:
    before = state()
    raw, night = Tag.objects.order_by("pk")
    with audit(assignation_id="swap"):
        Tag.objects.filter(pk=raw.pk).update(name="between")
        Tag.objects.filter(pk=night.pk).update(name="raw")
        Tag.objects.filter(pk=raw.pk).update(name="night")
    assert revert_assignation(None, "swap").status is RevertStatus.APPLIED
    assert state() == before


def test_invalid_values_come_with_the_validators_words(lab: Dataset) -> None:
    with audit(assignation_id="bad"):
        Dataset.objects.update(status="unknown")
    with audit(assignation_id="work"):
        Dataset.objects.update(status="draft")
    report = revert_assignation(None, "work")
    (conflict,) = report.steps[0].conflicts
    assert (conflict.code, conflict.fields) == (ConflictCode.INVALID, ("status",))
    assert "unknown" in conflict.message


def test_attribution_names_the_user_and_the_requests_own_id(lab: Dataset) -> None:
    user = User.objects.create_user("ada")
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    with audit(user=user, app="desk", assignation_id="request"):
        report = revert_assignation(None, "work")
    entry = Dataset.history.latest("history_id")
    assert (entry.actor_name, entry.app, entry.assignation_id) == ("ada", "desk", report.assignation_id)
    assert entry.metadata == {"requestAssignationId": "request"}
    assert entry.assignation_id != "request"


def test_net_nothing_is_unchanged_and_unknown_is_not_found(lab: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
        Dataset.objects.update(title="Craters")
        Tag.objects.create(name="short").delete()
    assert revert_assignation(None, "work").status is RevertStatus.UNCHANGED
    with pytest.raises(NotFound):
        revert_assignation(None, "never")


def test_statements_depend_on_models_not_on_objects(lab: Dataset) -> None:
    def statements(name: str, count: int) -> int:
        Image.objects.bulk_create(Image(dataset=lab, name=name, width=i + 1, height=1) for i in range(count))
        with audit(assignation_id=name):
            Image.objects.filter(name=name).update(height=F("width") + 1)
        with CaptureQueriesContext(connection) as queries:
            assert revert_assignation(None, name).status is RevertStatus.APPLIED
        # SQLite: a row for each run.
        return sum(not q["sql"].startswith('INSERT INTO "koherent_assignation"') for q in queries)

    assert statements("few", 3) == statements("many", 200)
