"""Reverts inside other units of work."""

import pytest
from django.db import IntegrityError, connection, transaction

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import audit
from koherent.models import Assignation
from koherent.revert import RevertStatus, revert_assignation, revert_to

pytestmark = pytest.mark.django_db(transaction=True)


def test_entries_that_still_wait_are_seen_and_undone() -> None:
    project = Project.objects.create(name="Moon")
    with koherent.atomic():
        with audit(assignation_id="work"):
            dataset = Dataset.objects.create(project=project, title="Craters")
            dataset.tags.add(Tag.objects.create(name="raw"))
            project.name = "Mars"
            project.save()
        report = revert_assignation(None, "work")
        assert report.status is RevertStatus.APPLIED
        with audit(assignation_id="again"):
            project.refresh_from_db()
            project.description = "after"
            project.save()
        assert revert_assignation(None, "again").status is RevertStatus.APPLIED
    assert (Dataset.objects.count(), Tag.objects.count()) == (0, 0)
    assert list(Project.objects.values_list("name", "description")) == [("Moon", "")]
    assert list(Project.history.order_by("history_id").values_list("history_type", "name", "origin")) == [
        ("+", "Moon", "change"),
        ("~", "Mars", "change"),
        ("~", "Moon", "revert"),
        ("~", "Moon", "change"),
        ("~", "Moon", "revert"),
    ]


def test_a_revert_that_is_rolled_back_leaves_nothing() -> None:
    tag = Tag.objects.create(name="old")
    with audit(assignation_id="work"):
        Tag.objects.update(name="new")
    entries = Tag.history.count()
    with transaction.atomic():
        assert revert_assignation(None, "work").status is RevertStatus.APPLIED
        transaction.set_rollback(True)
    tag.refresh_from_db()
    assert (tag.name, Tag.history.count()) == ("new", entries)
    assert not Assignation.objects.filter(reverts="work").exists()


def test_a_refused_revert_leaves_the_transaction_around_it_usable() -> None:
    project = Project.objects.create(name="Moon")
    with audit(assignation_id="work"):
        dataset = Dataset.objects.create(project=project, title="Craters")
    with transaction.atomic():
        # A row that refers to the dataset, and that no look finds: the reference is to what only the database knows.
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE outsider (dataset_id bigint REFERENCES example_schema_dataset (id))")
            cursor.execute("INSERT INTO outsider VALUES (%s)", [dataset.pk])
        try:
            report = revert_assignation(None, "work")
        except IntegrityError:
            pytest.fail("the database's refusal came through")
        assert report.status is RevertStatus.CONFLICTED
        assert [c.message for c in report.steps[0].conflicts] == ["The database refused the change."]
        project.description = "still usable"
        project.save()
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE outsider")
    assert Project.objects.get().description == "still usable"
    assert Dataset.objects.exists()


def test_one_object_from_python() -> None:
    project = Project.objects.create(name="Moon")
    dataset = Dataset.objects.create(project=project, title="Craters")
    image = Image.objects.create(dataset=dataset, name="a", width=1, height=1)
    entry = Image.history.get()
    image.name = "b"
    image.save()
    assert image.revert_to(entry, reason="oops").status is RevertStatus.APPLIED
    image.refresh_from_db()
    assert image.name == "a"
    assert Image.history.latest("history_id").history_change_reason == "oops"
    assert revert_to(None, "example_schema.image", entry.pk).status is RevertStatus.UNCHANGED
