"""Another spelling is a change, also where the database takes both for the same."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest

import koherent
from tests.wide.models import Alias

pytestmark = pytest.mark.django_db


def save(alias: Alias) -> None:
    alias.name = "ADA"
    alias.save()


def update(alias: Alias) -> None:
    Alias.objects.filter(pk=alias.pk).update(name="ADA")


def bulk_update(alias: Alias) -> None:
    alias.name = "ADA"
    Alias.objects.bulk_update([alias], ["name"])


@pytest.mark.parametrize("write", [save, update, bulk_update])
@pytest.mark.parametrize("unit", [nullcontext, koherent.atomic], ids=["plain", "unit"])
def test_another_spelling_is_recorded(write: Callable[[Alias], None], unit: Any) -> None:
    alias = Alias.objects.create(name="ada")
    assert Alias.objects.filter(name="Ada").exists(), "the database takes them for the same"
    with unit():
        write(alias)
    assert list(Alias.history.order_by("history_id").values_list("history_type", "name")) == [
        ("+", "ada"),
        ("~", "ADA"),
    ]


@pytest.mark.parametrize("write", [save, update, bulk_update])
def test_the_same_spelling_is_none(write: Callable[[Alias], None]) -> None:
    alias = Alias.objects.create(name="ADA")
    write(alias)
    assert Alias.history.count() == 1
