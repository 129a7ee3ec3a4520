"""Erasure works on keys and fields of every kind."""

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType

import koherent
from koherent import registry
from koherent.erasure.values import empty_value
from koherent.verify import verify
from tests.wide.models import Calibration, Comment, Instrument, Person, Reagent, Team, Unit

pytestmark = pytest.mark.django_db


def rows(changed: Any) -> list[Any]:
    model = type(changed)
    return list(model.history.filter(**{model._meta.pk.attname: changed.pk}).order_by("history_id"))


@pytest.mark.parametrize("kind", ["uuid", "text", "foreign key"])
def test_only_the_object_of_the_key_loses_its_name(kind: str) -> None:
    def make(name: str) -> Any:
        if kind == "uuid":
            return Reagent.objects.create(name=name)
        if kind == "text":
            return Unit.objects.create(code=name, name=name)
        return Calibration.objects.create(instrument=Instrument.objects.create(code=name, name="i"), name=name)

    one, other = make("one"), make("other")
    report = koherent.erase(one, fields=["name"])
    assert (report.object_id, report.entries) == (str(one.pk), 2)
    assert {row.name for row in rows(one)} == {""}
    assert {row.name for row in rows(other)} == {"other"}


def test_every_type_takes_its_empty_value_and_excluded_fields_are_none_of_it() -> None:
    instrument = Instrument.objects.create(
        code="c",
        name="n",
        amount=3,
        price=Decimal("1.5"),
        options={"a": 1},
        warranty=dt.timedelta(1),
        bought_on=dt.date(2026, 1, 1),
        weight=1.5,
        firmware=b"\x01",
        address="10.0.0.1",
        manual="manuals/a.pdf",
        access_code="1234",
    )
    instrument.reagents.add(Reagent.objects.create(name="acid"))
    report = koherent.erase(instrument)
    assert "cache" not in report.fields
    assert report.links == 2
    tracked = registry.for_model(Instrument)
    assert tracked is not None
    for row in rows(instrument):
        for field in tracked.fields:
            if not field.primary_key:
                column: Any = tracked.history_model._meta.get_field(field.name)
                value = getattr(row, field.attname)
                value = bytes(value) if isinstance(value, memoryview) else value
                assert value == empty_value(column) or (field.name == "manual" and not value)
        assert row.reagents.count() == 0
    assert list(verify(tracked)) == []
    instrument.refresh_from_db()
    assert (instrument.name, instrument.access_code) == ("n", "1234")


def test_links_of_one_field_go_and_those_of_others_stay() -> None:
    ada, bob = Person.objects.create(name="Ada"), Person.objects.create(name="Bob")
    team = Team.objects.create(name="Deep sea")
    ada.friends.add(bob)
    ada.teams.add(team, through_defaults={"role": "diver"})
    key = ada.pk
    ada.delete()
    koherent.erase(Person(pk=key), fields=["friends"])
    own = Person.history.filter(name="Ada").latest("history_id")
    assert own.origin == "erasure"
    assert own.friends.count() == 0
    assert [(link.team_id, link.role) for link in own.teams.all()] == [(team.pk, "diver")]


def test_a_generic_relation_is_erased_like_any_columns() -> None:
    unit = Unit.objects.create(code="m", name="metre")
    comment = Comment.objects.create(
        content_type=ContentType.objects.get_for_model(Unit), object_key=unit.pk, text="Ada was here"
    )
    koherent.erase(comment, fields=["text", "object_key"])
    assert {(row.text, row.object_key) for row in rows(comment)} == {("", "")}
