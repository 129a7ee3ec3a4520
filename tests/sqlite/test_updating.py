"""SQLite only: the entries of an ``update()`` that can be foreseen are written ahead of it."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Length, Now, Random, Upper
from django.test.utils import CaptureQueriesContext, register_lookup
from django.utils import timezone

import koherent
from example_schema.models import Dataset, Image, Project
from koherent import updating, writer
from koherent.models import Assignation

pytestmark = pytest.mark.django_db(transaction=True)

WIDTHS = (1, 2, 3, 3)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries there were, each time that some were to be written ahead, or behind what left rows alone."""
    written: list[int] = []

    def noted(*arguments: Any) -> list[int]:
        ids = write(*arguments)
        written.append(len(ids))
        return ids

    write = writer.write_ahead
    monkeypatch.setattr(writer, "write_ahead", noted)
    return written


@pytest.fixture
def images() -> models.QuerySet[Image]:
    dataset = Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters")
    for number, width in enumerate(WIDTHS):
        Image.objects.create(
            dataset=dataset, name=f"Image {number}", width=width, height=7, exposure_ms="1.5", extra={"n": number}
        )
    return Image.objects.order_by("name")


@pytest.fixture
def triggered() -> Iterator[None]:
    """The database itself changes what an UPDATE leaves."""
    body = "UPDATE example_schema_image SET height = 99 WHERE id = NEW.id"
    connection.ensure_connection()
    driver = connection.connection
    driver.execute(f"CREATE TRIGGER taller AFTER UPDATE OF width ON EXAMPLE_schema_image BEGIN {body}; END")
    yield
    driver.execute("DROP TRIGGER taller")


def entries(since: int = 0) -> list[dict[str, Any]]:
    left_out = {"history_id", "history_date", "id", "dataset_id", "in_run"}
    rows = Image.history.filter(history_id__gt=since).order_by("id", "history_id").values()
    return [{name: value for name, value in row.items() if name not in left_out} for row in rows]


def differing(since: int) -> dict[str, Any]:
    """What ``koherent_verify`` would miss: images whose latest entry is not what they are."""
    names = ("name", "width", "height", "exposure_ms", "extra")
    live = {image["id"]: image for image in Image.objects.values("id", *names)}
    latest = {entry["id"]: entry for entry in Image.history.order_by("history_id").values("id", *names)}
    return {image["name"]: (image, latest[key]) for key, image in live.items() if image != latest[key]}


SETTLED: dict[str, tuple[Callable[[Any], Any], dict[str, Any], int]] = {
    "a value": (lambda all: all, {"width": 3}, 2),
    "an expression": (lambda all: all, {"width": F("width") + F("height") * 2}, 4),
    "what it was": (lambda all: all, {"width": F("width"), "name": "new"}, 4),
    "several values": (lambda all: all.filter(width__lte=2), {"name": "new", "exposure_ms": Decimal("2.25")}, 2),
    "the same number, written otherwise": (lambda all: all, {"exposure_ms": Decimal("1.500"), "height": 8}, 4),
    "null": (lambda all: all.filter(exposure_ms__isnull=False), {"exposure_ms": None}, 4),
    "an object": (lambda all: all.filter(extra__n=1), {"extra": {"n": [1]}}, 1),
    "a condition of what changes": (lambda all: all.filter(width=3), {"width": 4}, 2),
    "conditions": (lambda all: all.filter(Q(width__in=[1, 2]) & ~Q(name__endswith="0") | Q(pk=None)), {"width": 9}, 1),
    "columns and lookups": (lambda all: all.filter(width__lt=F("height") - 4, name__upper="IMAGE 0"), {"width": 5}, 1),
    "an object that it belongs to": (lambda all: all.filter(dataset=Dataset.objects.get()), {"width": Value(6)}, 4),
    "a name with a percent sign": (lambda all: all.filter(name__contains="0"), {"name": "100% %s"}, 1),
}


@pytest.fixture(autouse=True)
def lookups() -> Iterator[None]:
    with register_lookup(models.CharField, Upper):
        yield


@pytest.mark.parametrize("which", SETTLED)
def test_the_entries_are_those_that_would_follow(
    which: str, images: Any, ahead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrowed, values, count = SETTLED[which]
    begun = Image.history.latest().history_id
    context = {"app": "press", "assignation_id": "a", "reason": "why", "mood": "good"}
    with koherent.audit(**context), CaptureQueriesContext(connection) as queries:
        matching = narrowed(images).update(**values)
    kinds = [query["sql"].split()[0] for query in queries if "SELECT" not in query["sql"].split()[0]]
    # What was left alone may have moved before. Django logs the UPDATE once all that is done within it is logged.
    behind = [0] if matching > count else []
    assert kinds == ["BEGIN", "INSERT", "INSERT", *("INSERT" for _ in behind), "UPDATE", "COMMIT"]
    assert ahead == [count, *behind]
    written = entries(begun)
    assert len(written) == count
    assert not differing(begun)
    assert Assignation.objects.count() == 1

    with koherent.pause():
        for old in Image.history.filter(history_type="+"):
            old.instance.save(force_update=True)
    Image.history.filter(history_id__gt=begun).delete()
    monkeypatch.setattr(updating, "_foreseen", lambda *_: None)
    with koherent.audit(**context):
        assert narrowed(images).update(**values) == matching
    assert ahead == [count, *behind]
    assert entries(begun) == written


def test_what_moves_nothing_leaves_nothing(images: Any, ahead: list[int]) -> None:
    begun = Image.history.count()
    assert images.update(width=F("width"), exposure_ms="1.5000", height=7) == len(WIDTHS)
    assert ahead == [0]
    assert Image.history.count() == begun
    assert not Assignation.objects.exists()


def test_what_moved_before_and_unrecorded_is_recorded_along(images: Any, ahead: list[int]) -> None:
    begun = Image.history.latest().history_id
    with koherent.pause():
        Image.objects.filter(width=3).update(name="unrecorded")
    assert images.update(width=3) == len(WIDTHS)
    assert ahead == [2, 2]
    assert sorted(entry["name"] for entry in entries(begun)) == ["Image 0", "Image 1", "unrecorded", "unrecorded"]
    assert not differing(begun)


def test_an_update_that_moves_its_rows_out_of_its_condition_finds_what_moved_before(
    images: Any, ahead: list[int]
) -> None:
    begun = Image.history.latest().history_id
    with koherent.pause():
        Image.objects.filter(name="Image 3").update(height=70)
    where = Q(width=1) | Q(name="Image 3") | Q(name="Image 1", width=2)
    assert images.filter(where).update(width=3) == 3
    assert ahead == [2, 1]
    assert sorted((entry["name"], entry["width"], entry["height"]) for entry in entries(begun)) == [
        ("Image 0", 3, 7),
        ("Image 1", 3, 7),
        ("Image 3", 3, 70),
    ]
    assert not differing(begun)


def test_a_time_stamp_alone_is_no_change(images: Any, ahead: list[int]) -> None:
    begun = Dataset.history.count()
    Dataset.objects.update(updated_at=timezone.now())
    assert (ahead, Dataset.history.count()) == ([0], begun)
    Dataset.objects.update(updated_at=timezone.now(), title="Seas")
    assert (ahead, Dataset.history.count()) == ([0, 1], begun + 1)
    assert Dataset.history.latest().updated_at == Dataset.objects.get().updated_at


UNSETTLED: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "the time": (lambda all: all, {"name": Now()}),
    "chance": (lambda all: all.filter(width__gt=Random()), {"width": 9}),
    "cases": (lambda all: all, {"width": Case(When(name="Image 0", then=Value(5)), default=Value(6))}),
    "a function": (lambda all: all, {"width": Length("name")}),
    "another table": (lambda all: all.filter(dataset__title="Craters"), {"width": 9}),
    "a subquery": (lambda all: all.filter(dataset__in=Dataset.objects.all()), {"width": 9}),
    "an annotation": (lambda all: all.annotate(twice=F("width") * 2).filter(twice__gt=1), {"width": 9}),
    "a column of another type": (lambda all: all, {"name": F("width")}),
    "more parameters than fit": (lambda all: all.filter(width__in=range(980)), {"width": 990}),
    "an expression in a list": (lambda all: all.filter(width__in=[1, F("width")]), {"width": 9}),
    "an expression in a range": (lambda all: all.filter(width__range=(0, Random() + 9)), {"width": 9}),
}


@pytest.mark.parametrize("which", UNSETTLED)
def test_what_may_mean_something_else_a_moment_later_is_recorded_behind(
    which: str, images: Any, ahead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(connection.features), "max_query_params", 999)
    narrowed, values = UNSETTLED[which]
    begun = Image.history.latest().history_id
    assert narrowed(images).update(**values) == len(WIDTHS)
    assert ahead == []
    assert len(entries(begun)) == len(WIDTHS)
    assert not differing(begun)


@pytest.mark.parametrize("other", ["a value", "an expression"])
def test_an_update_of_a_teams_own_that_says_more_is_recorded_behind(
    other: str, images: Any, ahead: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = models.QuerySet.update

    def update(self: Any, **values: Any) -> int:
        return original(self, **values, height=8 if other == "a value" else F("width"))

    monkeypatch.setattr(models.QuerySet, "update", update)
    begun = Image.history.latest().history_id
    assert images.update(name="new") == len(WIDTHS)
    assert ahead == []
    assert len(entries(begun)) == len(WIDTHS)
    assert not differing(begun)


@pytest.mark.usefixtures("triggered")
def test_entries_hold_what_a_trigger_leaves(images: Any, ahead: list[int]) -> None:
    begun = Image.history.latest().history_id
    images.update(width=9)
    assert ahead == [0]
    assert [(entry["width"], entry["height"]) for entry in entries(begun)] == [(9, 99)] * len(WIDTHS)


def test_a_refused_update_leaves_no_entries(ahead: list[int]) -> None:
    for name in ("Moon", "Mars"):
        Project.objects.create(name=name)
    begun = Project.history.count()
    with koherent.audit(assignation_id="a"), pytest.raises(IntegrityError):
        Project.objects.update(name="Venus")
    assert ahead == [2]
    assert (Project.history.count(), Assignation.objects.count()) == (begun, 0)
    assert not connection.connection.in_transaction
    with koherent.audit(assignation_id="a"):
        Project.objects.filter(name="Moon").update(name="Venus")
    assert (Project.history.count(), Assignation.objects.count()) == (begun + 1, 1)


def test_within_a_unit_of_work_the_entries_may_wait(images: Any, ahead: list[int]) -> None:
    begun = Image.history.latest().history_id
    with koherent.atomic():
        images.update(width=9)
        images.update(height=9)
    assert ahead == []
    assert len(entries(begun)) == 2 * len(WIDTHS)
    assert not differing(begun)
