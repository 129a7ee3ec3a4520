"""A baseline begins the trail of what was there before it, and of what went past it."""

import datetime as dt
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import diff, registry, timeline
from koherent.baseline import BaselineReport, record_baseline
from koherent.errors import HistoryPruned
from koherent.feed import cursor as feed
from koherent.policy import Viewer, scope_for
from koherent.registry import TrackedModel
from koherent.verify import verify

pytestmark = pytest.mark.django_db


def tracked(model: type[models.Model]) -> TrackedModel:
    found = registry.for_model(model)
    assert found is not None
    return found


def baseline(model: type[models.Model], **options: Any) -> tuple[int, int | None, int | None]:
    report = record_baseline(tracked(model), **options)
    return report.created, report.changed, report.deleted


def findings(model: type[models.Model]) -> list[Any]:
    return list(verify(tracked(model)))


@pytest.fixture
def dataset() -> Dataset:
    """One with two tags and five images, none of them recorded."""
    with koherent.pause():
        dataset = Dataset.objects.create(project=Project.objects.create(name="Cells"), title="Plate 1")
        dataset.tags.add(Tag.objects.create(name="red"), Tag.objects.create(name="blue"))
        Image.objects.bulk_create(
            [Image(dataset=dataset, name=f"i{n}", width=n, height=1, extra={"n": n}) for n in range(5)]
        )
    return dataset


def test_the_entry_of_a_row_without_history_holds_its_values_links_and_no_actor(
    dataset: Dataset, django_user_model: Any
) -> None:
    before = timezone.now()
    with koherent.audit(user=django_user_model.objects.create_user("ada"), app="cli", assignation_id="a"):
        assert baseline(Dataset) == (1, None, None)
    row = dataset.history.get()
    values = {f.attname: getattr(row, f.attname) for f in tracked(Dataset).fields}
    assert values == {f.attname: getattr(dataset, f.attname) for f in tracked(Dataset).fields}
    assert set(row.tags.values_list("tag__name", flat=True)) == {"red", "blue"}
    stamp = (
        row.history_type,
        row.origin,
        row.position,
        row.field_set,
        row.app,
        row.history_change_reason,
        row.assignation_id,
        row.history_user,
        row.actor_id,
        row.actor_name,
        row.metadata,
    )
    assert stamp == (
        "+", "baseline", 0, tracked(Dataset).field_set, "koherent_baseline", "baseline", None, None, None, None, {},
    )  # fmt: skip
    assert before <= row.history_date <= timezone.now()


@pytest.mark.parametrize("chunk", [1, 2, 5, 100])
def test_running_again_writes_only_what_is_missing(dataset: Dataset, chunk: int) -> None:
    assert baseline(Image, chunk=chunk) == (5, None, None)
    assert findings(Image) == []
    with koherent.pause():
        Image.objects.create(dataset=dataset, name="late", width=1, height=1)
    assert baseline(Image, chunk=chunk, dry_run=True) == (1, None, None)
    assert Image.history.count() == 5
    assert baseline(Image, chunk=chunk) == (1, None, None)
    assert baseline(Image, chunk=chunk) == (0, None, None)
    assert sorted(Image.history.values_list("name", flat=True)) == ["i0", "i1", "i2", "i3", "i4", "late"]
    assert findings(Image) == []


def test_an_object_that_came_back_unrecorded_gets_one(dataset: Dataset) -> None:
    tag = Tag.objects.create(name="green")
    key = tag.pk
    tag.delete()
    with koherent.pause():
        Tag.objects.create(pk=key, name="lime")
    assert baseline(Tag) == (3, None, None)
    entries = Tag.history.filter(id=key).order_by("history_id").values_list("history_type", "name", "origin")
    assert list(entries) == [("+", "green", "change"), ("-", "green", "change"), ("+", "lime", "baseline")]
    assert findings(Tag) == []


def test_no_feed_delivers_a_baseline_and_the_past_before_it_is_unknown(dataset: Dataset, viewer: Viewer) -> None:
    start = feed.current_position()
    baseline(Project)
    assert list(feed.read_since(start, 100).items) == []
    scope = scope_for(viewer)
    key = str(dataset.project_id)
    entry = timeline.as_of(scope, "example_schema.project", key, timezone.now())
    assert entry is not None
    assert entry.values["name"] == "Cells"
    with pytest.raises(HistoryPruned):
        timeline.as_of(scope, "example_schema.project", key, timezone.now() - dt.timedelta(days=1))


def test_the_first_change_after_it_is_shown_as_a_change(dataset: Dataset) -> None:
    baseline(Dataset)
    Dataset.objects.update(title="Plate 2")
    rows = list(dataset.history.order_by("history_id").values_list("history_type", "title"))
    assert rows == [("+", "Plate 1"), ("~", "Plate 2")]


def test_repair_records_what_went_past_the_trail_and_nothing_twice(dataset: Dataset) -> None:
    Tag.objects.create(name="recorded")
    for model in (Project, Dataset, Image, Tag):
        baseline(model)
    erased = Image.history.get(name="i3")
    erased.extra, erased.metadata = {}, {diff.ERASED: ["extra"], "address": "10.0.0.1"}
    erased.save()
    key = dataset.pk
    with koherent.pause():
        Image.objects.filter(name="i0").update(width=9)
        Image.objects.exclude(name="i0").delete()
        dataset.tags.remove(Tag.objects.get(name="red"))
    assert baseline(Dataset, repair=True, dry_run=True) == (0, 1, 0)
    assert baseline(Dataset, repair=True) == (0, 1, 0)
    assert baseline(Image, repair=True, chunk=2, dry_run=True) == (0, 1, 4)
    assert baseline(Image, repair=True, chunk=2) == (0, 1, 4)
    assert baseline(Image, repair=True, chunk=2) == (0, 0, 0)
    changed = Image.history.get(name="i0", history_type="~")
    assert (changed.width, changed.origin, changed.position, changed.app) == (9, "baseline", 0, "koherent_baseline")
    deleted = Image.history.filter(history_type="-").order_by("name").values_list("name", "width", "origin", "metadata")
    assert list(deleted) == [
        ("i1", 1, "baseline", {}),
        ("i2", 2, "baseline", {}),
        ("i3", 3, "baseline", {diff.ERASED: ["extra"]}),
        ("i4", 4, "baseline", {}),
    ]
    with koherent.pause():
        dataset.delete()
    assert baseline(Dataset, repair=True) == (0, 0, 1)
    last = Dataset.history.filter(id=key).order_by("history_id").last()
    assert (last.history_type, last.title, [link.tag.name for link in last.tags.all()]) == ("-", "Plate 1", ["blue"])
    assert baseline(Image, repair=True) == (0, 0, 1)
    assert [findings(model) for model in (Project, Dataset, Image, Tag)] == [[], [], [], []]


def test_statements_depend_on_chunks_not_on_rows(dataset: Dataset) -> None:
    with koherent.pause():
        Image.objects.bulk_create([Image(dataset=dataset, name=f"x{n}", width=n, height=1) for n in range(300)])
    with CaptureQueriesContext(connection) as captured:
        baseline(Image, chunk=1_000)
    inserts = [q["sql"] for q in captured.captured_queries if q["sql"].startswith("INSERT")]
    assert len(inserts) == 1
    assert len(captured) < 12


def test_what_loaddata_wrote_is_recorded_by_a_repair(dataset: Dataset, tmp_path: Path) -> None:
    Tag.objects.create(pk=70, name="old")
    baseline(Tag)
    fixture = tmp_path / "tags.json"
    fields = [(70, "changed"), (71, "new")]
    rows = [{"model": "example_schema.tag", "pk": pk, "fields": {"name": name}} for pk, name in fields]
    fixture.write_text(json.dumps(rows))
    call_command("loaddata", str(fixture), verbosity=0)
    assert [(f.problem.value, f.object_id) for f in findings(Tag)] == [("missing", "71"), ("stale", "70")]
    assert baseline(Tag, repair=True, reason="fixture") == (1, 1, 0)
    entries = Tag.history.filter(history_change_reason="fixture").values_list("history_type", "id", "name")
    assert sorted(entries) == [("+", 71, "new"), ("~", 70, "changed")]
    assert findings(Tag) == []


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("koherent_baseline", *arguments, stdout=out)
    return out.getvalue()


def test_command_counts_before_it_writes(dataset: Dataset) -> None:
    assert run("--dry-run") == (
        "example_schema.dataset: 1 entries would be written (1 created)\n"
        "example_schema.image: 5 entries would be written (5 created)\n"
        "example_schema.project: 1 entries would be written (1 created)\n"
        "example_schema.tag: 2 entries would be written (2 created)\n"
    )
    assert Image.history.count() == 0
    assert run("--model", "example_schema.Image", "--reason", "go live", "--chunk", "2", "--repair") == (
        "example_schema.image: 5 entries written (5 created, 0 changed, 0 deleted)\n"
    )
    assert set(Image.history.values_list("history_change_reason", flat=True)) == {"go live"}
    lines = [json.loads(line) for line in run("--json", "--model", "example_schema.tag").splitlines()]
    assert lines == [
        {
            "model": "example_schema.tag",
            "created": 2,
            "changed": None,
            "deleted": None,
            "restored": None,
            "detached": None,
            "dryRun": False,
        }
    ]


def test_command_tells_wrong_usage() -> None:
    with pytest.raises(CommandError) as caught:
        run("--model", "example_schema.datset")
    assert caught.value.returncode == 2
    assert "Did you mean example_schema.dataset?" in str(caught.value)


def test_report_adds_up() -> None:
    counts = {"created": 1, "changed": 2, "deleted": 3, "restored": 9, "detached": 9}
    assert BaselineReport(model="a.b", dry_run=False, **counts).entries == 6
