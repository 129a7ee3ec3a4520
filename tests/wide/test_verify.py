"""The verifier knows models of every kind: keys, fields, parents, through models, a second database."""

import datetime as dt
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import models
from django.utils import timezone

import koherent
from koherent import registry
from koherent.baseline import record_baseline
from koherent.verify import verify
from tests.wide.models import Alarm, Calibration, Elsewhere, Instrument, Membership, Person, Reagent, Team, Truck, Unit

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def found(model: type[models.Model], using: str = "default", chunk: int = 2) -> list[tuple[str, str | None, Any]]:
    tracked = registry.for_model(model)
    assert tracked is not None
    return [(f.problem.value, f.object_id, f.fields) for f in verify(tracked, using=using, chunk=chunk)]


def instrument(number: int) -> Instrument:
    made = Instrument.objects.create(
        code=f"c{number}",
        name="scope",
        price=Decimal("10.5"),
        options={"z": [1, {"y": None}], "a": True},
        warranty=dt.timedelta(days=3, microseconds=7),
        bought_on=dt.date(2026, 1, 1),
        serviced_at=timezone.now(),
        manual="manuals/a.pdf",
        weight=float("inf") if number else 1.5,
        firmware=b"\x00\x01",
        address="10.0.0.1",
    )
    made.reagents.add(Reagent.objects.create(name="r"))
    return made


def person(number: int) -> Person:
    made, other = Person.objects.create(name=f"p{number}"), Person.objects.create(name="other")
    made.teachers.add(other)
    made.teams.add(Team.objects.create(name="t"), through_defaults={"role": "lead"})
    return made


MAKERS: dict[type[models.Model], Callable[[int], models.Model]] = {
    Reagent: lambda n: Reagent.objects.create(id=uuid.uuid4(), name=f"r{n}"),
    Unit: lambda n: Unit.objects.create(code=f"u{n}", name="unit"),
    Instrument: instrument,
    Calibration: lambda n: Calibration.objects.create(instrument=instrument(n), name="c"),
    Person: person,
    Alarm: lambda n: Alarm.notices.create(name=f"a{n}", level=n),
    Truck: lambda n: Truck.objects.create(name=f"t{n}", load=n),
    Elsewhere: lambda n: Elsewhere.objects.using("other").create(name=f"e{n}"),
}


@pytest.mark.parametrize("model", MAKERS)
def test_every_kind_of_model_is_whole_and_what_goes_past_the_trail_is_found(model: type[models.Model]) -> None:
    using = "other" if model is Elsewhere else "default"
    made = [MAKERS[model](number) for number in range(5)]
    assert found(model, using) == []
    with koherent.pause():
        model._base_manager.using(using).filter(pk=made[1].pk).update(name="forged")
        gone = made[2].pk
        made[2].delete()
    unknown = made[3].pk
    model.history.using(using).filter(**{f"{model._meta.pk.attname}": unknown}).delete()  # type: ignore[attr-defined]
    expected = [("stale", str(made[1].pk), ("name",)), ("vanished", str(gone), ()), ("missing", str(unknown), ())]
    assert sorted(found(model, using)) == sorted(expected)


@pytest.mark.parametrize("model", MAKERS)
def test_every_kind_of_model_gets_a_baseline_and_is_repaired(model: type[models.Model]) -> None:
    using = "other" if model is Elsewhere else "default"
    tracked = registry.for_model(model)
    assert tracked is not None
    with koherent.pause():
        made = [MAKERS[model](number) for number in range(5)]
    count = model._base_manager.using(using).count()
    assert record_baseline(tracked, using=using, chunk=2).created == count
    assert found(model, using) == []
    with koherent.pause():
        model._base_manager.using(using).filter(pk=made[1].pk).update(name="late")
        made[2].delete()
    report = record_baseline(tracked, using=using, chunk=2, repair=True)
    assert (report.created, report.changed, report.deleted) == (0, 1, 1)
    assert found(model, using) == []


def test_a_link_that_changed_only_in_the_columns_of_its_own_is_stale() -> None:
    made = person(1)
    with koherent.pause():
        Membership.objects.update(role="member")
    assert found(Person) == [("stale", str(made.pk), ("teams",))]


def test_a_parents_column_that_changed_alone_is_stale() -> None:
    truck = Truck.objects.create(name="t", load=1)
    with koherent.pause():
        Truck.objects.filter(pk=truck.pk).update(name="forged")
    assert found(Truck) == [("stale", str(truck.pk), ("name",))]


def test_both_sides_of_a_symmetrical_link_are_compared() -> None:
    one, other = Person.objects.create(name="one"), Person.objects.create(name="other")
    one.friends.add(other)
    assert found(Person) == []
    with koherent.pause():
        one.friends.clear()
    assert found(Person) == [("stale", str(one.pk), ("friends",)), ("stale", str(other.pk), ("friends",))]
