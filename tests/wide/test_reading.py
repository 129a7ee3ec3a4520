"""Pages, the newest of many objects, counts and filters work for models with every kind of key."""

from typing import Any

import pytest
from django.db import connection, models
from django.test.utils import CaptureQueriesContext

from koherent import timeline
from koherent.policy import Scope, Viewer, scope_for
from koherent.registry import for_model
from koherent.timeline import Filters, Window
from tests.wide.models import Calibration, Comment, Folder, Headline, Instrument, Notice, Person, Reagent, Truck, Unit

pytestmark = pytest.mark.django_db


@pytest.fixture
def scope(django_user_model: Any) -> Scope:
    return scope_for(Viewer(user=django_user_model.objects.create_superuser("root")))


def made(model: type[models.Model]) -> list[models.Model]:
    """Three objects of a model."""
    if model is Calibration:
        instruments = [Instrument.objects.create(code=code, name=code) for code in "abc"]
        return [Calibration.objects.create(instrument=instrument, name="x") for instrument in instruments]
    if model is Unit:
        return [Unit.objects.create(code=code, name="x") for code in ("a", "b c", "d'e")]
    if model is Comment:
        return [Comment.objects.create(target=Unit.objects.create(code=code, name="x"), text="x") for code in "abc"]
    if model is Instrument:
        return [Instrument.objects.create(code=code, name="x") for code in "abc"]
    manager: Any = model._default_manager
    return [manager.create(name="x") for _ in "abc"]


@pytest.mark.parametrize(
    "model", [Calibration, Comment, Folder, Headline, Instrument, Notice, Person, Reagent, Truck, Unit]
)
def test_the_newest_of_many_objects_are_those_of_each(scope: Scope, model: type[models.Model]) -> None:
    objects = made(model)
    name = "text" if model is Comment else "name"
    for number, instance in enumerate(objects):
        for again in range(number):
            setattr(instance, name, f"{again}")
            instance.save()
    tracked = for_model(model)
    assert tracked is not None
    keys = [instance.pk for instance in objects]
    with CaptureQueriesContext(connection) as queries:
        pages = timeline.pages_of_objects(scope, tracked, keys, Window.of(first=2))
    with CaptureQueriesContext(connection) as for_one:
        timeline.pages_of_objects(scope, tracked, keys[:1], Window.of(first=2))
    assert len(queries) == len(for_one)
    counts = timeline.counts_of_objects(scope, tracked, keys)
    for number, key in enumerate(keys):
        filters = Filters(models=[tracked.label], object_id=str(key))
        alone = timeline.page(scope, filters, first=2)
        together = pages[key]
        assert [entry.key for entry in together.entries] == [entry.key for entry in alone.entries]
        assert [entry.changes for entry in together.entries] == [entry.changes for entry in alone.entries]
        assert together.has_next_page == alone.has_next_page == (number == 2)
        assert counts[key] == timeline.count(scope, filters) == number + 1


def test_keys_that_no_model_could_have_match_nothing(scope: Scope) -> None:
    made(Unit)
    for key in ("x" * 300, "d'e; --", "B C"):
        assert timeline.page(scope, Filters(models=["wide.unit"], object_id=key)).entries == []
