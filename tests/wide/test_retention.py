"""Retention works on objects with keys of every kind."""

import datetime as dt
from typing import Any

import pytest
from django.utils import timezone

from koherent.retention import ModelReport, prune
from tests.wide.models import Calibration, Instrument, Person, Reagent, Team, Unit

pytestmark = pytest.mark.django_db


def objects_of(kind: str) -> tuple[list[Any], str]:
    """Three objects, and the field that tells their versions apart."""
    if kind == "uuid":
        return [Reagent.objects.create(name="v0") for _ in range(3)], "name"
    if kind == "text":
        return [Unit.objects.create(code=code, name="v0") for code in ("b", "A", "ä")], "name"
    if kind == "foreign key":
        instruments = [Instrument.objects.create(code=code, name="i") for code in "abc"]
        return [Calibration.objects.create(instrument=instrument, name="v0") for instrument in instruments], "name"
    return [Person.objects.create(name="v0") for _ in range(3)], "name"


@pytest.mark.parametrize("kind", ["integer", "uuid", "text", "foreign key"])
@pytest.mark.parametrize("batch", [1, 2, 5, 1000])
def test_each_object_keeps_its_newest_and_its_baseline(kind: str, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koherent.retention.pruning.BATCH", batch)
    objects, name = objects_of(kind)
    for number in range(1, 5):
        for changed in objects:
            setattr(changed, name, f"v{number}")
            changed.save()
    model = type(objects[0])
    history: Any = model.history
    history.update(history_date=timezone.now() - dt.timedelta(days=30))
    label = model._meta.label_lower
    assert prune(keep=2, models=[label]).models == (ModelReport(label=label, entries=6, links=0),)
    for changed in objects:
        own = history.filter(**{model._meta.pk.attname: changed.pk}).order_by("history_id")
        assert list(own.values_list(name, flat=True)) == ["v2", "v3", "v4"]


def test_every_many_to_many_of_a_pruned_entry_goes() -> None:
    ada, bob = Person.objects.create(name="Ada"), Person.objects.create(name="Bob")
    team = Team.objects.create(name="Deep sea")
    ada.friends.add(bob)
    ada.teachers.add(bob)
    ada.teams.add(team, through_defaults={"role": "diver"})
    ada.name = "Ada L."
    ada.save()
    history: Any = Person.history
    history.update(history_date=timezone.now() - dt.timedelta(days=30))
    prune(keep=0, models=["wide.person"])
    newest = {row.history_id for row in history.all()}
    assert len(newest) == 2
    row = history.get(name="Ada L.")
    for links in (row.friends, row.teachers, row.teams):
        assert set(links.model.objects.values_list("history_id", flat=True)) <= newest
        assert links.count() == 1
