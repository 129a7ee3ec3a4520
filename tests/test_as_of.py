"""A whole graph of objects as it was at a time, in a constant number of statements a hop."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent.errors import HistoryPruned

pytestmark = pytest.mark.django_db


def now() -> dt.datetime:
    """A time that lies between two changes."""
    moment = timezone.now()
    while timezone.now() <= moment:
        pass
    return moment


@pytest.fixture
def story() -> dict[str, Any]:
    """What was where at ``then``, and everything moved, renamed, unlinked or deleted since."""
    moon, mars = Project.objects.create(name="Moon"), Project.objects.create(name="Mars")
    day, night = Tag.objects.create(name="day"), Tag.objects.create(name="night")
    craters = Dataset.objects.create(project=moon, title="Craters")
    craters.tags.set([day, night])
    dunes = Dataset.objects.create(project=mars, title="Dunes")
    dunes.tags.add(night)
    image = Image.objects.create(dataset=craters, name="one", width=1, height=2)
    gone = Image.objects.create(dataset=craters, name="two", width=1, height=2)
    then = now()
    moon.name = "Luna"
    moon.save()
    craters.project = mars
    craters.title = "Craters, large"
    craters.save()
    craters.tags.set([day])
    night.name = "dark"
    night.save()
    image.dataset = dunes
    image.name = "moved"
    image.save()
    Image.objects.create(dataset=craters, name="later", width=1, height=2)
    gone.delete()
    return {
        "then": then,
        "moon": moon,
        "mars": mars,
        "craters": craters,
        "dunes": dunes,
        "image": image,
        "night": night,
    }


def test_forwards_and_backwards_everything_is_as_it_was(story: dict[str, Any]) -> None:
    craters = koherent.as_of(story["craters"], story["then"])
    assert (craters.title, craters.status, craters.pk) == ("Craters", "draft", story["craters"].pk)
    assert isinstance(koherent.as_of(story["craters"], story["then"]), Dataset)
    assert craters == story["craters"]
    assert (craters.project.name, craters.project.description) == ("Moon", "")
    assert [tag.name for tag in craters.tags.all()] == ["day", "night"]
    assert [image.name for image in craters.images.all()] == sorted(
        ["one", "two"], key=lambda name: str(Image.history.filter(name=name).first().id)
    )
    night = craters.tags.all()[1]
    assert [dataset.title for dataset in night.datasets.all()] == ["Craters", "Dunes"]
    assert night.datasets.first().project.datasets.first().images.count() == 2
    moon = koherent.as_of(story["moon"], story["then"])
    assert (moon.name, [d.title for d in moon.datasets.all()]) == ("Moon", ["Craters"])
    mars = koherent.as_of(story["mars"], story["then"])
    assert [d.title for d in mars.datasets.all()] == ["Dunes"]
    assert mars.datasets.first().images.exists() is False
    assert koherent.as_of(story["image"], story["then"]).dataset.title == "Craters"


def test_now_is_what_the_database_holds(story: dict[str, Any]) -> None:
    today = timezone.now()
    for dataset, past in zip(Dataset.objects.order_by("pk"), koherent.as_of(Dataset, today), strict=True):
        assert (past.pk, past.title, past.project) == (dataset.pk, dataset.title, dataset.project)
        assert list(past.tags.all()) == list(dataset.tags.order_by("pk"))
        assert list(past.images.all()) == list(dataset.images.order_by("pk"))
    for tag, past in zip(Tag.objects.order_by("pk"), koherent.as_of(Tag.objects.order_by("pk"), today), strict=True):
        assert list(past.datasets.all()) == list(tag.datasets.order_by("pk"))


def test_sources(story: dict[str, Any]) -> None:
    then = story["then"]
    assert [d.title for d in koherent.as_of(Dataset.objects.order_by("-pk"), then)] == ["Dunes", "Craters"]
    names = {image.name for image in koherent.as_of(Image, then)}
    assert names == {image.name for image in koherent.as_of(Image.history.all(), then)} == {"one", "two"}
    assert [image.name for image in koherent.as_of(Image.objects.order_by("pk"), then)] == ["one"]
    assert koherent.as_of(Dataset.objects.none(), then) == []
    past = koherent.as_of(story["craters"], then)
    assert koherent.as_of(past, timezone.now()).title == "Craters, large"
    for untracked in (dict, "example_schema.dataset"):
        with pytest.raises(TypeError, match="is not tracked"):
            koherent.as_of(untracked, then)  # type: ignore[arg-type]


def test_before_the_creation_and_after_the_deletion_there_is_nothing(story: dict[str, Any]) -> None:
    before = Project.history.order_by("history_date").first().history_date - dt.timedelta(seconds=1)
    with pytest.raises(Dataset.DoesNotExist):
        koherent.as_of(story["craters"], before)
    assert koherent.as_of(Dataset.objects.all(), before) == koherent.as_of(Dataset, before) == []
    key = story["dunes"].pk
    Dataset.objects.filter(pk=key).delete()
    assert key not in [past.pk for past in koherent.as_of(Dataset, timezone.now())]


def test_ties_and_skewed_clocks_go_by_the_history_id() -> None:
    project = Project.objects.create(name="one")
    moment = now()
    for name in ("two", "three"):
        project.name = name
        project._history_date = moment  # type: ignore[attr-defined]
        project.save()
    assert koherent.as_of(project, moment).name == "three"
    assert [past.name for past in koherent.as_of(Project, moment)] == ["three"]
    project.name = "a machine whose clock is slow"
    project._history_date = moment - dt.timedelta(days=1)  # type: ignore[attr-defined]
    project.save()
    dataset = Dataset.objects.create(project=project, title="a")
    dataset._history_date = moment - dt.timedelta(days=2)  # type: ignore[attr-defined]
    dataset.title = "b"
    dataset.save()
    assert koherent.as_of(project, moment).name == "a machine whose clock is slow"
    assert koherent.as_of(project, moment - dt.timedelta(hours=1)).name == "a machine whose clock is slow"
    [past] = koherent.as_of(project, moment).datasets
    assert past.title == "b"


def queries(run: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        run()
    return len(captured)


def test_a_hop_costs_the_same_for_1_10_and_100_objects() -> None:
    costs = []
    for parents in (1, 10, 100):
        Project.objects.all().delete()
        Tag.objects.all().delete()
        tag = Tag.objects.create(name="tag")
        for number in range(parents):
            project = Project.objects.create(name=f"{number}")
            dataset = Dataset.objects.create(project=project, title=f"{number}")
            dataset.tags.add(tag)
            Image.objects.create(dataset=dataset, name="i", width=1, height=1)
        then = now()
        Dataset.objects.update(title="later")
        cost: list[int] = []
        datasets: list[Any] = []
        cost.append(queries(lambda datasets=datasets: datasets.extend(koherent.as_of(Dataset.objects.all(), then))))  # type: ignore[misc]  # noqa: B023
        assert len(datasets) == parents
        for hop in ("project", "tags", "images"):
            cost.append(queries(lambda hop=hop: [getattr(dataset, hop) for dataset in datasets]))  # type: ignore[misc]  # noqa: B023
        cost.append(queries(lambda: [d.title for dataset in datasets for d in dataset.project.datasets]))  # noqa: B023
        cost.append(queries(lambda: [t.datasets.count() for dataset in datasets for t in dataset.tags]))  # noqa: B023
        costs.append(cost)
    assert costs == [costs[0]] * 3
    assert max(costs[0]) <= 5


def test_what_was_pruned_is_not_guessed(story: dict[str, Any]) -> None:
    then, craters = story["then"], story["craters"]
    first = Dataset.history.filter(id=craters.pk, history_date__gt=then).order_by("history_id").first()
    Dataset.history.filter(id=craters.pk, history_id__lt=first.history_id).delete()
    for lost in (lambda: koherent.as_of(craters, then), lambda: koherent.as_of(Dataset, then)):
        with pytest.raises(HistoryPruned) as caught:
            lost()
        assert caught.value.fields == {"oldest": first.history_date.isoformat()}
    with pytest.raises(HistoryPruned):
        # Whether it was among them then, nobody knows.
        koherent.as_of(story["mars"], then).datasets  # noqa: B018
    with pytest.raises(HistoryPruned):
        koherent.as_of(story["image"], then).dataset  # noqa: B018
    assert koherent.as_of(craters, first.history_date).title == first.title


def test_what_began_with_a_baseline_is_unknown_before_it() -> None:
    project = Project.objects.create(name="Moon")
    Project.history.update(origin="baseline")
    with pytest.raises(HistoryPruned):
        koherent.as_of(project, timezone.now() - dt.timedelta(days=1))
    assert koherent.as_of(project, timezone.now()).name == "Moon"


def test_the_past_cannot_be_written(story: dict[str, Any]) -> None:
    past = koherent.as_of(story["craters"], story["then"])
    for write in (past.save, past.delete):
        with pytest.raises(TypeError, match="cannot be written"):
            write()
    with pytest.raises(AttributeError, match="cannot be set"):
        past.project = story["mars"]
    with pytest.raises(AttributeError, match="was not recorded"):
        past.refresh_from_db()
    assert Dataset.objects.get(pk=past.pk).title == "Craters, large"


def test_a_field_that_was_not_recorded_is_absent(story: dict[str, Any]) -> None:
    from koherent import registry
    from koherent.models import FieldSet

    FieldSet.objects.create(digest=1, model="example_schema.dataset", names=["id", "title", "project"])
    registry._known_field_sets.cache_clear()
    try:
        Dataset.history.update(field_set=1)
        past = koherent.as_of(story["craters"], story["then"])
        assert past.title == "Craters"
        assert not hasattr(past, "status")
        assert not hasattr(past, "tags")
    finally:
        registry._known_field_sets.cache_clear()


def test_a_reference_to_what_did_not_exist_is_refused(story: dict[str, Any]) -> None:
    key = story["moon"].pk
    Project.history.filter(id=key).update(history_date=timezone.now() + dt.timedelta(days=1))
    past = koherent.as_of(story["craters"], story["then"])
    with pytest.raises(Project.DoesNotExist):
        past.project  # noqa: B018
