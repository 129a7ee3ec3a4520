"""The verifier finds what went past the trail, and nothing where the trail is whole."""

import datetime as dt
import io
import json
import uuid
from decimal import Decimal
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import diff, registry
from koherent.models import FieldSet, Origin
from koherent.registry import TrackedModel
from koherent.retention import prune
from koherent.verify import Finding, Problem, verify

pytestmark = pytest.mark.django_db


def tracked(model: type[models.Model]) -> TrackedModel:
    found = registry.for_model(model)
    assert found is not None
    return found


def found(model: type[models.Model], **options: Any) -> list[Finding]:
    return list(verify(tracked(model), **options))


def problems(model: type[models.Model], **options: Any) -> list[tuple[str, str | None, int | None, tuple[str, ...]]]:
    return [(f.problem.value, f.object_id, f.entry, f.fields) for f in found(model, **options)]


@pytest.fixture
def dataset() -> Dataset:
    """One that has been through much, all of it recorded."""
    red, blue = Tag.objects.create(name="red"), Tag.objects.create(name="blue")
    dataset = Dataset.objects.create(project=Project.objects.create(name="Cells"), title="Plate 1")
    dataset.tags.add(red, blue)
    dataset.title = "Plate 2"
    dataset.save()
    dataset.tags.remove(blue)
    Image.objects.bulk_create(
        [
            Image(
                dataset=dataset, name=f"i{n}", width=n, height=1, exposure_ms=Decimal("1.5"), extra={"b": n, "a": [n]}
            )
            for n in range(5)
        ]
    )
    Image.objects.filter(name="i4").delete()
    gone = Project.objects.create(name="Gone")
    key = gone.pk
    gone.delete()
    Project(pk=key, name="Back").save(force_insert=True)
    return dataset


def latest(instance: Any) -> int:
    return int(instance.history.order_by("-history_id").values_list("history_id", flat=True)[0])


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_a_whole_trail_has_no_findings_whatever_the_chunk(dataset: Dataset, chunk: int) -> None:
    assert [found(model, chunk=chunk) for model in (Project, Tag, Dataset, Image)] == [[], [], [], []]


def test_a_change_by_raw_sql_is_stale_and_names_the_fields(dataset: Dataset) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE example_schema_dataset SET title = 'forged', status = 'published'")
    assert found(Dataset) == [
        Finding(
            problem=Problem.STALE,
            model="example_schema.dataset",
            object_id=str(dataset.pk),
            entry=latest(dataset),
            fields=("status", "title"),
            message="Differs from its latest entry in status, title.",
        )
    ]


def test_a_link_by_raw_sql_is_stale(dataset: Dataset) -> None:
    Dataset.tags.through.objects.all()._raw_delete(using="default")
    assert problems(Dataset) == [("stale", str(dataset.pk), latest(dataset), ("tags",))]


def test_a_row_by_raw_sql_is_missing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO example_schema_tag (id, name) VALUES (700, 'raw')")
    assert problems(Tag) == [("missing", "700", None, ())]


def test_raw_delete_leaves_an_entry_whose_object_vanished(dataset: Dataset) -> None:
    image = Image.objects.get(name="i2")
    entry = latest(image)
    Image.objects.filter(name="i2")._raw_delete(using="default")
    assert problems(Image, chunk=2) == [("vanished", str(image.pk), entry, ())]


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_everything_done_under_pause_is_found(dataset: Dataset, chunk: int) -> None:
    changed, deleted = Image.objects.get(name="i0"), Image.objects.get(name="i1")
    entries = latest(changed), latest(deleted)
    key = deleted.pk
    with koherent.pause():
        created = Image.objects.create(dataset=dataset, name="new", width=1, height=1)
        Image.objects.filter(pk=changed.pk).update(extra={"a": 1})
        deleted.delete()
    assert sorted(problems(Image, chunk=chunk), key=str) == sorted(
        [
            ("missing", str(created.pk), None, ()),
            ("stale", str(changed.pk), entries[0], ("extra",)),
            ("vanished", str(key), entries[1], ()),
        ],
        key=str,
    )


def test_an_object_that_came_back_unrecorded_is_told_from_one_without_history(dataset: Dataset) -> None:
    tag = Tag.objects.create(name="green")
    key = tag.pk
    tag.delete()
    entry = Tag.history.filter(id=key).latest("history_id").history_id
    with koherent.pause():
        Tag.objects.create(pk=key, name="green")
    assert problems(Tag) == [("resurrected", str(key), entry, ())]


def entry(model: Any, **values: Any) -> int:
    defaults = {"history_date": dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "field_set": tracked(model).field_set}
    return int(model.history.model.objects.create(**{**defaults, **values}).history_id)


@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_sequences_that_cannot_be_are_found(chunk: int) -> None:
    with koherent.pause():
        Tag.objects.create(id=3, name="c")
    headless = entry(Tag, id=0, name="0", history_type="-")
    entry(Tag, id=1, name="a", history_type="+")
    second = entry(Tag, id=1, name="a", history_type="+")
    entry(Tag, id=1, name="a", history_type="-")
    after = entry(Tag, id=1, name="b", history_type="~")
    entry(Tag, id=1, name="b", history_type="-")
    twice = entry(Tag, id=1, name="b", history_type="-")
    entry(Tag, id=2, name="a", history_type="+")
    entry(Tag, id=2, name="a", history_type="-")
    entry(Tag, id=3, name="c", history_type="+", origin=Origin.BASELINE, position=0)
    twin = entry(Tag, id=3, name="c", history_type="~")
    assert [(f.problem.value, f.object_id, f.entry, f.message) for f in found(Tag, chunk=chunk)] == [
        ("impossible", "0", headless, "The first entry is no creation."),
        ("impossible", "1", second, "A creation while the object was there."),
        ("impossible", "1", after, "A change of a deleted object."),
        ("impossible", "1", twice, "A second deletion."),
        ("duplicate", "3", twin, "A change that changed nothing."),
    ]
    assert found(Tag, chunk=chunk, since=dt.datetime(2026, 1, 2, tzinfo=dt.UTC)) == []


def test_a_history_that_was_pruned_or_adopted_may_begin_with_anything() -> None:
    entry(Tag, id=1, name="a", history_type="-", position=0)
    assert found(Tag) == []
    for action in "+~-":
        entry(Tag, id=2, name=f"b{action}", history_type=action)
    assert found(Tag) == []
    prune(before=dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
    assert list(Tag.history.values_list("id", "history_type")) == [(2, "-"), (1, "-")]
    assert found(Tag) == []


def test_a_prune_of_adopted_entries_leaves_its_trace_too() -> None:
    entry(Tag, id=1, name="a", history_type="+", position=0)
    entry(Tag, id=1, name="b", history_type="~", position=7)
    entry(Tag, id=1, name="b", history_type="-", position=7)
    prune(before=dt.datetime(2026, 2, 1, tzinfo=dt.UTC))
    assert list(Tag.history.values_list("history_type", flat=True)) == ["-"]
    assert found(Tag) == []


def test_a_time_stamp_that_moved_alone_is_passed_over(dataset: Dataset) -> None:
    Dataset.objects.update(updated_at=dt.datetime(2030, 1, 1, tzinfo=dt.UTC))
    with koherent.pause():
        Dataset.objects.update(updated_at=dt.datetime(2031, 1, 1, tzinfo=dt.UTC))
    assert found(Dataset) == []


def test_erased_values_are_passed_over(dataset: Dataset) -> None:
    row = dataset.history.order_by("history_id").last()
    row.title, row.metadata = "", {diff.ERASED: ["title"]}
    row.save()
    assert found(Dataset) == []
    with koherent.pause():
        Dataset.objects.update(title="other", access_notes="forged")
    assert problems(Dataset) == [("stale", str(dataset.pk), row.history_id, ("access_notes",))]


def test_a_field_that_the_entry_did_not_have_is_passed_over(dataset: Dataset) -> None:
    FieldSet.objects.create(digest=5, model="example_schema.dataset", names=["id", "project", "status"])
    registry._known_field_sets.cache_clear()
    with koherent.pause():
        Dataset.objects.update(title="forged")
    assert len(found(Dataset)) == 1
    Dataset.history.update(field_set=5)
    assert found(Dataset) == []
    registry._known_field_sets.cache_clear()


def test_statements_depend_on_chunks_not_on_rows(dataset: Dataset) -> None:
    def statements(chunk: int) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert found(Image, chunk=chunk) == []
        return sum(1 for q in captured.captured_queries if q["sql"].startswith("SELECT"))

    def create(count: int) -> None:
        Image.objects.bulk_create(
            [Image(id=uuid.uuid4(), dataset=dataset, name=str(n), width=n, height=1) for n in range(count)]
        )

    create(30)
    few = statements(1_000)
    create(300)
    assert statements(1_000) == few
    assert statements(100) > few


def run(*arguments: str) -> tuple[int, list[Any], str]:
    out, status = io.StringIO(), 0
    message = ""
    try:
        call_command("koherent_verify", *arguments, stdout=out)
    except CommandError as error:
        status, message = error.returncode, str(error)
    text = out.getvalue()
    return status, [json.loads(line) for line in text.splitlines()] if "--json" in arguments else [text], message


def test_command_says_that_the_trail_is_whole(dataset: Dataset) -> None:
    assert run() == (0, ["The trail of 4 models is whole.\n"], "")


def test_command_prints_findings_for_people(dataset: Dataset) -> None:
    with koherent.pause():
        Project.objects.filter(name="Cells").update(name="forged")
    project = Project.objects.get(name="forged")
    line = (
        f"stale example_schema.project {project.pk} (entry {latest(project)}): Differs from its latest entry in name.\n"
    )
    assert run() == (1, [line], "The trail is not whole: 1 stale.")


def test_command_prints_findings_for_machines(dataset: Dataset) -> None:
    with koherent.pause():
        tag = Tag.objects.create(name="paused")
    missing: dict[str, Any] = {
        "problem": "missing",
        "model": "example_schema.tag",
        "objectId": str(tag.pk),
        "entry": None,
        "fields": [],
        "count": 1,
        "message": "The object has no entry.",
    }
    summary = {"models": ["example_schema.tag"], "found": 1, "problems": {"missing": 1}}
    assert run("--json", "--model", "example_schema.Tag") == (
        1,
        [missing, summary],
        "The trail is not whole: 1 missing.",
    )
    assert run("--json", "--model", "example_schema.project") == (
        0,
        [{"models": ["example_schema.project"], "found": 0, "problems": {}}],
        "",
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "example_schema.datset"], "example_schema.datset is not a tracked model"),
        (["--chunk", "0"], "Error: argument --chunk: 1 to 10000"),
        (["--since", "someday"], "--since takes an age (12h, 30d, 8w, 2y), a date or a time"),
    ],
)
def test_wrong_usage_is_told_from_findings(arguments: list[str], message: str) -> None:
    status, _, said = run(*arguments)
    assert said.startswith(message)
    # argparse ends the process with 2 by itself; called from Python, it raises without a status of its own.
    assert status == (1 if arguments[0] == "--chunk" else 2)
