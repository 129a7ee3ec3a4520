"""One object back to one of its entries, and who may do it."""

from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser, Permission, User

from example_schema.models import Dataset, Image, Project, Tag
from koherent import audit
from koherent.errors import Forbidden, LimitExceeded, NotFound, Unauthenticated
from koherent.policy import Viewer
from koherent.revert import ConflictCode, RevertPolicy, RevertStatus, revert_assignation, revert_to

pytestmark = pytest.mark.django_db
IMAGE, DATASET, PROJECT = "example_schema.image", "example_schema.dataset", "example_schema.project"


@pytest.fixture
def dataset() -> Dataset:
    project = Project.objects.create(name="Moon")
    return Dataset.objects.create(project=project, title="Craters", access_notes="ask")


def history(row: Any) -> Any:
    return type(row).history.filter(id=row.pk).order_by("history_id")


def viewer(*codenames: str) -> Viewer:
    user = User.objects.create_user("ada")
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    return Viewer(user=User.objects.get(pk=user.pk))


def test_a_deleted_object_comes_back_under_its_key(dataset: Dataset) -> None:
    image = Image.objects.create(dataset=dataset, name="a", width=1, height=2, extra={"x": [1, None]})
    key = image.pk
    before = Image.objects.values().get()
    image.delete()
    entry = Image.history.get(id=key, history_type="+")
    report = revert_to(None, IMAGE, entry.pk)
    assert (report.status, report.steps[0].action) == (RevertStatus.APPLIED, "+")
    assert Image.objects.values().get(pk=key) == before
    assert revert_to(None, IMAGE, entry.pk).status is RevertStatus.UNCHANGED
    gone = Image.history.get(id=key, history_type="-")
    assert revert_to(None, IMAGE, gone.pk).status is RevertStatus.APPLIED
    assert not Image.objects.exists()


def test_values_and_links_go_back_and_later_changes_are_what_goes(dataset: Dataset) -> None:
    dataset.tags.set([Tag.objects.create(name="one")])
    entry = history(dataset).last()
    dataset.tags.set([Tag.objects.create(name="two")])
    dataset.title = "Later"
    dataset.save()
    report = revert_to(None, DATASET, entry.pk, reason="better")
    assert report.status is RevertStatus.APPLIED
    (step,) = report.steps
    assert [c.field for c in step.changes] == ["title", "tags"]
    dataset.refresh_from_db()
    assert (dataset.title, [t.name for t in dataset.tags.all()]) == ("Craters", ["one"])
    latest = history(dataset).last()
    assert (latest.origin, latest.history_change_reason) == ("revert", "better")


def test_a_later_entry_than_expected_is_refused_under_every_policy(dataset: Dataset) -> None:
    first = history(dataset).last()
    dataset.title = "Two"
    dataset.save()
    seen = history(dataset).last()
    dataset.title = "Three"
    dataset.save()
    for policy in RevertPolicy:
        report = revert_to(None, DATASET, first.pk, expected_latest=(DATASET, seen.pk), policy=policy)
        assert report.status is RevertStatus.CONFLICTED
        (conflict,) = report.steps[0].conflicts
        assert (conflict.code, conflict.entry) == (ConflictCode.CHANGED_SINCE, (DATASET, history(dataset).last().pk))
    assert Dataset.objects.get().title == "Three"
    latest = history(dataset).last()
    assert revert_to(None, DATASET, first.pk, expected_latest=(DATASET, latest.pk)).status is RevertStatus.APPLIED


def test_deleting_a_parent_of_live_rows_is_refused() -> None:
    project = Project.objects.create(name="Moon")
    key = project.pk
    project.delete()
    gone = Project.history.get(id=key, history_type="-")
    Project(pk=key, name="Moon").save(force_insert=True)
    Dataset.objects.create(project_id=key, title="Theirs")
    report = revert_to(None, PROJECT, gone.pk)
    assert [c.code for c in report.steps[0].conflicts] == [ConflictCode.STILL_REFERENCED]
    assert Project.objects.exists()


def test_permissions(dataset: Dataset) -> None:
    first = history(dataset).last()
    dataset.title = "Two"
    dataset.save()
    with pytest.raises(Unauthenticated):
        revert_to(Viewer(user=AnonymousUser()), DATASET, first.pk)
    ada = viewer("view_historicalproject")
    with pytest.raises(NotFound):
        revert_to(ada, DATASET, first.pk)
    ada.user.user_permissions.add(Permission.objects.get(codename="view_historicaldataset"))
    reader = Viewer(user=User.objects.get())
    with pytest.raises(NotFound):
        revert_to(reader, DATASET, 10**9)
    with pytest.raises(Forbidden):
        revert_to(reader, DATASET, first.pk, dry_run=True)
    ada.user.user_permissions.add(Permission.objects.get(codename="change_dataset"))
    writer = Viewer(user=User.objects.get())
    assert revert_to(writer, DATASET, first.pk).status is RevertStatus.APPLIED


def test_a_redacted_field_may_not_be_set_and_does_not_show(dataset: Dataset) -> None:
    first = history(dataset).last()
    dataset.access_notes = "secret"
    dataset.save()
    ada = viewer("view_historicaldataset", "change_dataset", "add_dataset")
    with pytest.raises(Forbidden):
        revert_to(ada, DATASET, first.pk)
    dataset.delete()
    report = revert_to(ada, DATASET, first.pk)
    assert report.status is RevertStatus.APPLIED
    hidden = next(c for c in report.steps[0].changes if c.field == "access_notes")
    assert (hidden.redacted, hidden.new) == (True, None)
    assert Dataset.objects.get().access_notes == "ask"


def test_one_forbidden_step_forbids_the_whole(dataset: Dataset) -> None:
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Two")
        Project.objects.update(description="Two")
    ada = viewer("view_historicaldataset", "change_dataset", "change_project")
    with pytest.raises(NotFound):
        revert_assignation(ada, "never")
    with pytest.raises(Forbidden):
        revert_assignation(ada, "work", policy=RevertPolicy.SKIP_CONFLICTS)
    assert Dataset.objects.get().title == "Two"


def test_the_limit_holds_for_viewers(dataset: Dataset, settings: Any) -> None:
    settings.KOHERENT = {"REVERT_LIMIT": 0}
    first = history(dataset).last()
    Dataset.objects.update(title="Two")
    with pytest.raises(LimitExceeded):
        revert_to(viewer("view_historicaldataset", "change_dataset"), DATASET, first.pk)
    assert revert_to(None, DATASET, first.pk).status is RevertStatus.APPLIED
