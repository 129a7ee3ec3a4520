"""Rules where two good engineers would differ, and failures of others: each is a test by its name."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from example_schema.models import Dataset, Image, Project, Tag
from koherent import audit
from koherent.errors import Forbidden, NotFound
from koherent.models import Assignation
from koherent.policy import Policy, Viewer
from koherent.revert import (
    ConflictCode,
    Report,
    RevertPolicy,
    RevertStatus,
    plan_assignation,
    revert_assignation,
    revert_to,
)
from tests.revert.test_assignation import codes, entry_counts, state

pytestmark = pytest.mark.django_db
DATASET, TAG = "example_schema.dataset", "example_schema.tag"


@pytest.fixture
def dataset() -> Dataset:
    return Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters", access_notes="ask")


def viewer(*codenames: str) -> Viewer:
    user = User.objects.create_user("ada")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return Viewer(user=User.objects.get(pk=user.pk))


# --- what others were seen to do wrong


def test_a_revert_that_changes_nothing_writes_no_entry(dataset: Dataset) -> None:
    entry = dataset.history.get()
    entries = entry_counts()
    report = revert_to(None, DATASET, entry.pk)
    assert (report.status, report.assignation_id, list(report.steps)) == (RevertStatus.UNCHANGED, None, [])
    assert entry_counts() == entries


def test_validation_does_not_take_an_object_for_another_one_of_the_same_unique_value() -> None:
    tag = Tag.objects.create(name="one")
    entry = tag.history.get()
    tag.name = "two"
    tag.save()
    assert revert_to(None, TAG, entry.pk).status is RevertStatus.APPLIED
    tag.delete()
    assert revert_to(None, TAG, entry.pk).status is RevertStatus.APPLIED


def test_undo_of_a_group_keeps_later_edits_and_takes_its_deletions_back(dataset: Dataset) -> None:
    Image.objects.create(dataset=dataset, name="a", width=1, height=1)
    with audit(assignation_id="work"):
        Image.objects.all().delete()
        Dataset.objects.update(title="Seas")
    Dataset.objects.update(status="published")
    assert revert_assignation(None, "work").status is RevertStatus.APPLIED
    assert Dataset.objects.values_list("title", "status").get() == ("Craters", "published")
    assert [image.name for image in Image.objects.all()] == ["a"]


def test_undo_of_a_group_leaves_no_children_behind(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        mine = Dataset.objects.create(project=dataset.project, title="Mine")
        Image.objects.create(dataset=mine, name="a", width=1, height=1)
    assert revert_assignation(None, "work").status is RevertStatus.APPLIED
    assert (Dataset.objects.count(), Image.objects.count()) == (1, 0)


# --- conflicts


def test_values_count_and_not_rows(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    Dataset.objects.update(title="Mountains")
    Dataset.objects.update(title="Seas")
    assert revert_assignation(None, "work").status is RevertStatus.APPLIED


def test_a_value_that_is_the_target_already_is_no_conflict(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas", status="published")
    Dataset.objects.update(title="Mountains")
    Dataset.objects.update(title="Craters")
    report = revert_assignation(None, "work")
    assert (report.status, [c.field for c in report.steps[0].changes]) == (RevertStatus.APPLIED, ["status"])


def test_overwrite_goes_to_the_value_before_the_first_change(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="One")
    Dataset.objects.update(title="Foreign")
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Two")
    Dataset.objects.update(title="Later")
    assert codes(revert_assignation(None, "work")) == {ConflictCode.CHANGED_SINCE}
    assert revert_assignation(None, "work", policy=RevertPolicy.OVERWRITE).status is RevertStatus.APPLIED
    assert Dataset.objects.get().title == "Craters"


def test_what_was_edited_and_then_deleted_by_others_comes_back_only_by_overwrite(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    Dataset.objects.update(status="published")
    Dataset.objects.get().delete()
    report = revert_assignation(None, "work")
    assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {ConflictCode.CHANGED_SINCE})
    assert report.steps[0].conflicts[0].entry == (DATASET, Dataset.history.latest("history_id").pk)
    assert revert_assignation(None, "work", policy=RevertPolicy.OVERWRITE).status is RevertStatus.APPLIED
    assert Dataset.objects.values_list("title", "status").get() == ("Craters", "published")


def test_what_was_deleted_and_made_again_by_others_is_changed_back(dataset: Dataset) -> None:
    key = dataset.pk
    with audit(assignation_id="work"):
        Dataset.objects.get().delete()
    Dataset(pk=key, project=Project.objects.get(), title="Theirs").save(force_insert=True)
    assert codes(revert_assignation(None, "work")) == {ConflictCode.CHANGED_SINCE}
    assert revert_assignation(None, "work", policy=RevertPolicy.OVERWRITE).status is RevertStatus.APPLIED
    assert Dataset.objects.values_list("title", "access_notes").get() == ("Craters", "ask")


def test_undone_before_and_not_edited_since_is_unchanged(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    Dataset.objects.update(title="Craters")
    assert revert_assignation(None, "work").status is RevertStatus.UNCHANGED


def test_to_an_entry_later_changes_are_what_the_caller_wants_gone(dataset: Dataset) -> None:
    entry = dataset.history.get()
    for number in range(3):
        Dataset.objects.update(title=f"{number}")
    assert revert_to(None, DATASET, entry.pk).status is RevertStatus.APPLIED


def test_conflict_count_counts_steps() -> None:
    with audit(assignation_id="work"):
        for name in "abc":
            Tag.objects.create(name=name)
    Tag.objects.filter(name="a").update(name="x")
    project = Project.objects.create(name="p")
    Dataset.objects.create(project=project, title="t").tags.add(Tag.objects.get(name="x"), Tag.objects.get(name="b"))
    report = plan_assignation(None, "work")
    assert [len(step.conflicts) for step in report.steps] == [2, 1, 0]
    assert report.conflict_count == 2


# --- tokens


def test_a_token_covers_conflicts_and_values_and_no_labels(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(status="published")
        Tag.objects.create(name="mine")
    plan = plan_assignation(None, "work").plan
    Project.objects.update(name="Renamed")  # what a label could show
    Dataset.objects.update(title="Elsewhere")  # the object's own label
    assert plan_assignation(None, "work").plan == plan
    Dataset.objects.get().tags.add(Tag.objects.get())
    assert plan_assignation(None, "work").plan != plan


def test_a_token_is_the_same_for_everybody_and_told_to_nobody_who_may_not(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    reader = viewer("view_historicaldataset", "change_dataset")
    assert plan_assignation(reader, "work").plan == plan_assignation(None, "work").plan


# --- attribution


def test_a_revert_has_an_assignation_of_its_own_and_is_linked(dataset: Dataset) -> None:
    entry = dataset.history.get()
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    with audit(assignation_id="work"):
        undone = revert_assignation(None, "work")
        again = revert_assignation(None, str(undone.assignation_id))
        back = revert_to(None, DATASET, entry.pk)
    rows = {a.assignation_id: (a.reverts, a.reverts_entry) for a in Assignation.objects.all()}
    assert rows == {
        "work": (None, None),
        undone.assignation_id: ("work", None),
        again.assignation_id: (undone.assignation_id, None),
        back.assignation_id: (None, f"{DATASET}:{entry.pk}"),
    }
    reverts = Dataset.history.filter(origin="revert")
    assert {e.metadata["requestAssignationId"] for e in reverts} == {"work"}


# --- who may


class OwnTagsOnly(Policy):
    """Some rows are nobody's business."""

    def visible_entries(self, viewer: Viewer, tracked: Any, queryset: Any) -> Any:
        """All but those of secret tags."""
        return queryset.exclude(name="secret") if tracked.label == TAG else queryset


def test_a_conflict_with_an_invisible_row_shows_its_code_and_fields_only(settings: Any) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.OwnTagsOnly"}
    with audit(assignation_id="work"):
        Tag.objects.create(name="plain")
        Tag.objects.filter(name="plain").delete()
    tag = Tag.objects.create(name="first")
    with audit(assignation_id="second"):
        Tag.objects.filter(pk=tag.pk).update(name="between")
    Tag.objects.create(name="secret")
    Tag.objects.filter(name="secret").update(name="first")
    Tag.history.filter(name="first", history_type="~").update(name="secret")  # its entries are hidden
    report = plan_assignation(viewer("view_historicaltag", "change_tag"), "second")
    (conflict,) = report.steps[0].conflicts
    assert (conflict.code, conflict.fields, conflict.entry) == (ConflictCode.UNIQUE_TAKEN, ("name",), None)
    assert "secret" not in conflict.message


def test_a_hidden_entry_among_those_to_be_undone_forbids_the_whole(settings: Any) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.OwnTagsOnly"}
    with audit(assignation_id="work"):
        Tag.objects.create(name="open")
        Tag.objects.create(name="secret")
    ada = viewer("view_historicaltag", "delete_tag")
    with pytest.raises(Forbidden) as refused:
        plan_assignation(ada, "work")
    assert refused.value.extensions == {"code": "FORBIDDEN"}
    Tag.objects.get(name="secret").delete()
    # What is not to be undone any more forbids nothing.
    assert plan_assignation(ada, "work").status is RevertStatus.PLANNED


def test_an_assignation_that_nobody_may_see_is_not_found(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
    with pytest.raises(NotFound):
        plan_assignation(viewer("view_historicaltag"), "work")


def test_deleting_and_bringing_back_redacted_values_is_allowed(dataset: Dataset) -> None:
    ada = viewer("view_historicaldataset", "add_dataset", "delete_dataset")
    with audit(assignation_id="work"):
        Dataset.objects.get().delete()
    report = revert_assignation(ada, "work")
    assert report.status is RevertStatus.APPLIED
    hidden = next(change for change in report.steps[0].changes if change.field == "access_notes")
    assert (hidden.redacted, hidden.old, hidden.new) == (True, None, None)
    assert Dataset.objects.get().access_notes == "ask"
    assert revert_assignation(ada, str(report.assignation_id)).status is RevertStatus.APPLIED


# --- figures


def test_one_object_takes_at_most_twelve_statements(dataset: Dataset) -> None:
    image = Image.objects.create(dataset=dataset, name="a", width=1, height=1)
    entry = Image.history.get()
    with audit(assignation_id="work"):
        image.width, image.name = 2, "b"
        image.save()
    reverts: list[Callable[[], Report]] = [
        lambda: revert_to(None, "example_schema.image", entry.pk),
        lambda: revert_assignation(None, "work"),
    ]
    for revert in reverts:
        with CaptureQueriesContext(connection) as queries:
            assert revert().status is RevertStatus.APPLIED
        said = [q["sql"] for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE"))]
        assert len(said) <= 12, said
        Image.objects.update(width=2, name="b")


def test_a_single_change_takes_four_statements(dataset: Dataset) -> None:
    entry = Project.history.get()
    Project.objects.update(description="new")
    with CaptureQueriesContext(connection) as queries:
        assert revert_to(None, "example_schema.project", entry.pk).status is RevertStatus.APPLIED
    said = [q["sql"] for q in queries if not q["sql"].startswith(("SAVEPOINT", "RELEASE"))]
    # SQLite: the entry and its object, the assignation, the change, its entry. PostgreSQL: locks, the former, all
    # three writes in one, and, inside another transaction, what its constraints say.
    assert len(said) == 4, said


def test_a_long_plan_costs_no_more_statements_to_show_than_a_short_one(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Image.objects.bulk_create(Image(dataset=dataset, name=f"{n}", width=1, height=1) for n in range(700))
    report = plan_assignation(None, "work")
    with CaptureQueriesContext(connection) as queries:
        assert len(list(report.steps)) == len(report.steps) == 700
        assert report.steps[-1] == report.steps[699]
        assert report.steps[699:0:-300] == tuple(report.steps[n] for n in (699, 399, 99))
    assert len(queries) <= 8
    before = state()
    assert revert_assignation(None, "work", dry_run=True, expected_plan=report.plan).status is RevertStatus.PLANNED
    assert state() == before
