"""Values are gone from the whole history of an object; that it changed, when and by whom, is not."""

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, models

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import export, timeline
from koherent.erasure import objects
from koherent.erasure.values import empty_value
from koherent.errors import BadInput, NotFound
from koherent.models import Assignation, Origin
from koherent.registry import by_label
from koherent.revert import ConflictCode, RevertPolicy, RevertStatus, revert_assignation, revert_to
from koherent.timeline import Filters
from koherent.verify import verify

pytestmark = pytest.mark.django_db

PROJECT = "example_schema.project"
DATASET = "example_schema.dataset"


def entries(label: str, pk: Any) -> list[timeline.Entry]:
    """An object's entries, oldest first, as somebody sees them who may see everything."""
    page = timeline.page(export.unrestricted(), Filters(models=[label], object_id=str(pk)))
    return list(reversed(page.entries))


def changes(entry: timeline.Entry) -> dict[str, tuple[Any, Any, bool]]:
    return {c.field: (c.old, c.new, c.erased) for c in entry.changes or ()}


@pytest.fixture
def project() -> Project:
    """Two versions of a name, three of a description."""
    with koherent.audit(assignation_id="work", app="desk"):
        project = Project.objects.create(name="Ada Lovelace", description="one")
        project.description = "two"
        project.save()
        project.name, project.description = "Countess Lovelace", "three"
        project.save()
    return project


def everything() -> str:
    """All that the database knows of the history of projects and datasets."""
    found = []
    for model in (Project, Dataset):
        history: Any = model.history.model
        found += [str(row) for row in history.objects.values()]
    return "\n".join(found)


@pytest.mark.parametrize("batch", [1, 2, 5_000])
def test_the_values_go_and_the_fact_of_each_change_stays(
    project: Project, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects, "BATCH", batch)
    before = [(e.history_id, e.action, e.date, e.row.app, e.row.assignation_id) for e in entries(PROJECT, project.pk)]
    user = User.objects.create_user("officer")
    with koherent.audit(user=user, ticket=7):
        report = koherent.erase(project, fields=["name"], reason="asked for it")
    assert (report.label, report.object_id, report.fields) == (PROJECT, str(project.pk), ("name",))
    assert (report.entries, report.links) == (4, 0)
    assert "Lovelace" not in everything()
    *old, own = entries(PROJECT, project.pk)
    assert [(e.history_id, e.action, e.date, e.row.app, e.row.assignation_id) for e in old] == before
    assert [changes(e) for e in old] == [
        {"name": (None, None, True), "description": (None, "one", False)},
        {"description": ("one", "two", False)},
        {"name": (None, None, True), "description": ("two", "three", False)},
    ]
    assert (own.history_id, own.action, own.row.origin) == (report.history_id, "~", Origin.ERASURE)
    assert own.user is not None
    assert (own.user.name, own.reason, own.row.metadata["ticket"]) == ("officer", "asked for it", 7)
    assert changes(own) == {}
    assert [e.snapshot["name"] for e in [*old, own]] == [None] * 4
    assert [e.object_label for e in [*old, own]] == [f"project {project.pk}"] * 4
    project.refresh_from_db()
    assert project.name == "Countess Lovelace"


def test_a_second_erasure_keeps_what_the_first_one_knew(project: Project) -> None:
    koherent.erase(project, fields=["name"])
    koherent.erase(project, fields=["description"])
    koherent.erase(project, fields=["name"])
    created, described, renamed, *_ = entries(PROJECT, project.pk)
    gone = (None, None, True)
    assert changes(created) == changes(renamed) == {"name": gone, "description": gone}
    assert changes(described) == {"description": gone}


def test_other_objects_and_fields_are_left_alone(project: Project) -> None:
    other = Project.objects.create(name="Moon", description="dust")
    before = list(Project.history.filter(id=other.pk).values())
    koherent.erase(project, fields=["name"])
    assert list(Project.history.filter(id=other.pk).values()) == before
    assert Project.history.filter(id=project.pk).exclude(description="").count() == 4


def test_many_to_many_links_go_too(project: Project) -> None:
    tags = [Tag.objects.create(name=name) for name in "ab"]
    dataset = Dataset.objects.create(project=project, title="Craters")
    dataset.tags.set(tags)
    dataset.title = "Craters, large"
    dataset.save()
    report = koherent.erase(dataset, fields=["tags"])
    assert report.links == 2 + 2 + 2
    created, linked, titled, own = entries(DATASET, dataset.pk)
    assert "tags" not in changes(created)
    [change] = [c for c in linked.changes or () if c.field == "tags"]
    assert (change.added, change.removed, change.erased) == (None, None, True)
    assert "tags" not in changes(titled)
    assert own.snapshot["tags"] is None
    assert set(dataset.tags.all()) == set(tags)


def test_all_fields_of_every_type_take_their_empty_value() -> None:
    dataset = Dataset.objects.create(project=Project.objects.create(name="p"), title="t", access_notes="x")
    image = Image.objects.create(dataset=dataset, name="face.tif", width=3, height=4, extra={"who": "Ada"})
    koherent.erase(image)
    for row in Image.history.filter(id=image.pk):
        values = (row.name, row.width, row.height, row.exposure_ms, row.extra, row.dataset_id)
        assert values == ("", 0, 0, None, {}, None)
    koherent.erase(dataset)
    for row in Dataset.history.filter(id=dataset.pk):
        assert (row.title, row.status, row.access_notes, row.project_id) == ("", "", "", None)
        assert row.created_at == dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def test_the_history_of_what_is_gone_can_be_erased(project: Project) -> None:
    tag = Tag.objects.create(name="Ada")
    dataset = Dataset.objects.create(project=project, title="Ada's", access_notes="for Ada")
    dataset.tags.add(tag)
    key = dataset.pk
    dataset.delete()
    koherent.erase(Dataset(pk=key), fields=["access_notes"])
    with koherent.audit(assignation_id="erasure"):
        report = koherent.erase(Dataset(pk=key), fields=["title"])
    *_, deleted, _, own = entries(DATASET, key)
    assert (deleted.row.origin, deleted.action, own.action, own.row.origin) == ("change", "-", "-", Origin.ERASURE)
    assert own.history_id == report.history_id
    assert own.snapshot["tags"] == [tag.pk]
    assert own.snapshot["project"] == project.pk
    assert (own.snapshot["title"], own.snapshot["access_notes"]) == (None, None)
    assert "Ada's" not in everything()
    assert "for Ada" not in everything()
    assert list(verify(by_label(DATASET))) == []  # type: ignore[arg-type]
    assert Assignation.objects.filter(assignation_id="erasure").exists()
    assert timeline.assignation(export.unrestricted(), "erasure") is not None


def test_the_live_row_goes_along_where_that_is_asked_for(project: Project) -> None:
    dataset = Dataset.objects.create(project=project, title="Ada's", access_notes="for Ada")
    dataset.tags.add(Tag.objects.create(name="Ada"))
    koherent.erase(dataset, fields=["title", "tags"], live=True)
    dataset.refresh_from_db()
    assert (dataset.title, dataset.access_notes, dataset.tags.count()) == ("", "for Ada", 0)
    *_, own = entries(DATASET, dataset.pk)
    assert own.row.origin == Origin.ERASURE
    dataset.access_notes = "for nobody"
    dataset.save()
    assert [c.field for c in entries(DATASET, dataset.pk)[-1].changes or ()] == ["access_notes", "updated_at"]
    assert list(verify(by_label(DATASET))) == []  # type: ignore[arg-type]


def test_the_verifier_passes_over_what_was_erased(project: Project) -> None:
    koherent.erase(project)
    assert list(verify(by_label(PROJECT))) == []  # type: ignore[arg-type]


def test_a_dry_run_counts_and_changes_nothing(project: Project) -> None:
    before = everything()
    report = koherent.erase(project, dry_run=True)
    assert (report.entries, report.history_id, report.fields) == (3, None, ("name", "description"))
    assert everything() == before


@pytest.mark.parametrize("fields", [[], ["id"], ["nothing"], ["name", "history"]])
def test_what_cannot_be_erased_is_named(project: Project, fields: list[str]) -> None:
    before = everything()
    with pytest.raises(BadInput, match="name, description"):
        koherent.erase(project, fields=fields)
    assert everything() == before


def test_what_is_not_tracked_or_has_no_history_is_refused(project: Project) -> None:
    with pytest.raises(BadInput):
        koherent.erase(User(pk=1))
    with pytest.raises(NotFound):
        koherent.erase(Project(pk=10**6))


@pytest.mark.parametrize("name", ["name", "project"])
def test_a_live_row_that_cannot_be_empty_is_refused_before_anything_happens(project: Project, name: str) -> None:
    target = project if name == "name" else Dataset.objects.create(project=project, title="t")
    before = everything()
    with pytest.raises(BadInput, match=name):
        koherent.erase(target, fields=[name], live=True)
    assert everything() == before


def test_a_failure_leaves_everything_as_it_was(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "BATCH", 2)
    before, statements = everything(), 0

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal statements
        if sql.startswith("UPDATE"):
            statements += 1
            if statements == 2:
                raise ZeroDivisionError
        return execute(sql, params, many, context)

    with pytest.raises(ZeroDivisionError), connection.execute_wrapper(fail):
        koherent.erase(project)
    assert everything() == before


def test_a_revert_of_a_live_object_leaves_an_erased_field_alone(project: Project) -> None:
    first = Project.history.earliest("history_id")
    koherent.erase(project, fields=["name"])
    report = revert_to(None, PROJECT, first.pk)
    assert report.status is RevertStatus.APPLIED
    project.refresh_from_db()
    assert (project.name, project.description) == ("Countess Lovelace", "one")


def test_undoing_an_assignation_never_writes_a_wiped_value(project: Project) -> None:
    with koherent.audit(assignation_id="renaming"):
        project.name, project.description = "Augusta Ada", "four"
        project.save()
    koherent.erase(project, fields=["name"])
    report = revert_assignation(None, "renaming", policy=RevertPolicy.OVERWRITE)
    assert report.status is RevertStatus.APPLIED
    project.refresh_from_db()
    assert (project.name, project.description) == ("Augusta Ada", "three")


@pytest.mark.parametrize("policy", list(RevertPolicy))
def test_an_object_does_not_come_back_with_a_wiped_value(project: Project, policy: RevertPolicy) -> None:
    key = project.pk
    with koherent.audit(assignation_id="removal"):
        project.delete()
    koherent.erase(Project(pk=key), fields=["name"])
    report = revert_assignation(None, "removal", policy=policy)
    assert [c.code for step in report.steps for c in step.conflicts] == [ConflictCode.UNTRACKED_FIELDS]
    assert [c.fields for step in report.steps for c in step.conflicts] == [("name",)]
    assert report.status is RevertStatus.CONFLICTED
    assert not Project.objects.filter(pk=key).exists()


def test_the_feed_delivers_an_erasure(project: Project) -> None:
    from koherent.feed.cursor import current_position, read_since

    start = current_position()
    report = koherent.erase(project, fields=["name"])
    if connection.vendor == "sqlite":
        assert [item.key.history_id for item in read_since(start, 10).items] == [report.history_id]
    row = Project.history.get(pk=report.history_id)
    assert row.position > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (models.CharField(), ""),
        (models.CharField(null=True), None),
        (models.EmailField(), ""),
        (models.FileField(), ""),
        (models.PositiveSmallIntegerField(), 0),
        (models.DurationField(), dt.timedelta()),
        (models.TimeField(), dt.time()),
        (models.DateField(), dt.date(1970, 1, 1)),
        (models.BinaryField(), b""),
        (models.GenericIPAddressField(), "0.0.0.0"),
    ],
)
def test_empty_values(field: Any, value: Any) -> None:
    assert empty_value(field) == value


def test_a_type_that_nobody_knows_is_refused() -> None:
    field: Any = models.Field()
    field.set_attributes_from_name("odd")
    with pytest.raises(BadInput, match="odd"):
        empty_value(field)
