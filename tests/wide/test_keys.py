"""An update of the key itself: the trail of the old object ends, and that of the new one begins."""

from typing import Any

import pytest
from django.db.models import F, Value
from django.db.models.functions import Concat

from tests.wide.models import Calibration, Instrument, Unit

pytestmark = pytest.mark.django_db


def trail(model: Any, *names: str) -> list[tuple[Any, ...]]:
    return list(model.history.order_by("history_id").values_list("history_type", *names))


@pytest.fixture
def units() -> None:
    for code in "ab":
        Unit.objects.create(code=code, name=code)


def test_along_with_another_field(units: None) -> None:
    assert Unit.objects.filter(pk="a").update(code="c", amount=1) == 1
    expected = [("+", "a", 0), ("+", "b", 0), ("-", "a", 0), ("+", "c", 1)]
    assert trail(Unit, "code", "amount") == expected


def test_by_an_expression(units: None) -> None:
    assert Unit.objects.update(code=Concat(F("code"), Value("'"))) == 2
    moves = [("-", "a"), ("-", "b"), ("+", "a'"), ("+", "b'")]
    assert trail(Unit, "code") == [("+", "a"), ("+", "b"), *moves]


def test_to_what_it_is_already(units: None) -> None:
    """Code that writes back all that it has read names the key too: the object is the same as before."""
    assert Unit.objects.filter(pk="a").update(code="a", name="a", amount=0) == 1
    assert Unit.objects.filter(pk="a").update(code="a", name="a", amount=1) == 1
    assert trail(Unit, "code", "amount") == [("+", "a", 0), ("+", "b", 0), ("~", "a", 1)]


def test_of_nothing(units: None) -> None:
    assert Unit.objects.filter(pk="c").update(code="a") == 0
    assert trail(Unit, "code") == [("+", "a"), ("+", "b")]


@pytest.mark.parametrize("by", ["instrument", "instrument_id", "instance"])
def test_of_a_foreign_key(by: str) -> None:
    one, other = (Instrument.objects.create(code=code, name=code) for code in "ab")
    Calibration.objects.create(instrument=one)
    given: dict[str, Any] = {"instrument": other} if by == "instance" else {by: other.pk}
    assert Calibration.objects.update(**given) == 1
    assert trail(Calibration, "instrument_id") == [("+", one.pk), ("-", one.pk), ("+", other.pk)]
