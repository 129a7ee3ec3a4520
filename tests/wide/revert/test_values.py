"""Values of every type, and those that the history does not hold: excluded, erased, unknown to an older model."""

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import InMemoryStorage, default_storage
from django.db import connection
from django.db.models import JSONField, Value
from django.utils import timezone

from koherent import audit, registry
from koherent.diff import ERASED
from koherent.models import FieldSet
from koherent.revert import ConflictCode, RevertPolicy, RevertStatus, revert_to
from koherent.revert.live import read_live
from koherent.revert.pair import _Text, read_pair
from koherent.revert.values import value_of
from koherent.revert.versions import Versions
from tests.wide.models import (
    Alarm,
    Article,
    Calibration,
    Headline,
    Instrument,
    Locker,
    Person,
    Shelf,
    Unit,
)
from tests.wide.revert.states import applied, codes, normal, state, there_and_back, undo

pytestmark = pytest.mark.django_db
FIRST: dict[str, Any] = {
    "name": "scope",
    "amount": -7,
    "price": Decimal("10.5000"),
    "options": {"z": [1, None, {"y": True}], "a": 1.5},
    "warranty": dt.timedelta(days=3, microseconds=7),
    "bought_on": dt.date(2026, 1, 1),
    "serviced_at": dt.datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=dt.UTC),
    "manual": "manuals/a.pdf",
    "state": "ready",
    "active": False,
    "weight": 1.5e-300,
    "pulses": 2**62,
    "firmware": b"\x00\x01",
    "address": "10.0.0.1",
    "checksum": "abc",
    "access_code": "1234",
}
SECOND: dict[str, Any] = {
    "name": "lens",
    "amount": 0,
    "price": None,
    "options": [],
    "warranty": None,
    "bought_on": None,
    "serviced_at": None,
    "manual": "",
    "state": "broken",
    "active": True,
    "weight": None,
    "pulses": -1,
    "firmware": b"",
    "address": None,
    "checksum": "",
    "access_code": "",
}


def values(code: str = "a") -> dict[str, Any]:
    return normal(Instrument.objects.filter(code=code).values(*FIRST).get())


@pytest.mark.parametrize(("one", "other"), [(FIRST, SECOND), (SECOND, FIRST)])
def test_values_of_every_type_go_back(one: dict[str, Any], other: dict[str, Any]) -> None:
    Instrument.objects.create(code="a", **one)
    there_and_back(lambda: Instrument.objects.update(**other))
    assert values() == one


@pytest.mark.parametrize("given", [FIRST, SECOND])
def test_an_entry_and_its_object_are_read_together_as_they_are_alone(given: dict[str, Any]) -> None:
    instrument = Instrument.objects.create(code="a", **given)
    shelf = Shelf.objects.create(name="low")
    objects: list[Any] = [
        instrument,
        Calibration.objects.create(instrument=instrument, name="zero", amount=3),
        Unit.objects.create(code="m", name="metre"),
        Shelf.objects.create(name="high", above=shelf),
        Locker.objects.create(number=1, hall="a", place=1, owner=Person.objects.create(name="ann")),
    ]
    for made in objects:
        tracked = registry.for_model(type(made))
        assert tracked is not None
        history_id = tracked.history_model._base_manager.filter(**{tracked.pk_attname: made.pk}).get().pk
        versions = Versions(tracked)
        # Links are another matter: an instrument has some.
        text = _Text(tracked, lock=connection.features.has_select_for_update)
        found = text.read(history_id)
        assert found is not None
        alone = versions.one(history_id)
        together = versions.version(found[: text.width])
        assert (together.id, together.pk, together.action) == (alone.id, alone.pk, alone.action)
        assert (together.known, together.values) == (alone.known, alone.values)
        row = read_live(tracked, [made.pk], lock=True).rows[made.pk]
        read = tracked.model.from_db("default", text.attnames, found[text.width :])
        fields = tracked.model._meta.concrete_fields
        assert [value_of(read, f) for f in fields] == [value_of(row, f) for f in fields]
        assert vars(read).keys() == vars(row).keys()
        if tracked.m2m:
            assert read_pair(versions, history_id, lock=True) is None
        else:
            pair = read_pair(versions, history_id, lock=True)
            assert pair is not None
            assert (pair[0].values, pair[1].rows, pair[1].links) == (alone.values, {made.pk: row}, {made.pk: {}})


@pytest.mark.parametrize("given", [FIRST, SECOND])
def test_values_of_every_type_come_back_with_their_object(given: dict[str, Any]) -> None:
    Instrument.objects.create(code="a", **given)
    times = Instrument.objects.values_list("made_at", "moved_at").get()
    there_and_back(lambda: Instrument.objects.get().delete(), policy=RevertPolicy.OVERWRITE)
    assert values() == given
    assert Instrument.objects.values_list("made_at", "moved_at").get() == times


def test_a_json_null_is_not_a_missing_value() -> None:
    Instrument.objects.create(code="a", **FIRST)
    Instrument.objects.update(options=Value(None, JSONField()))
    with audit(assignation_id="work"):
        Instrument.objects.get().delete()
    assert applied(undo(policy=RevertPolicy.OVERWRITE))
    assert Instrument.objects.get().options is None


def test_infinity_goes_back() -> None:
    Instrument.objects.create(code="a", weight=math.inf)
    there_and_back(lambda: Instrument.objects.update(weight=1.0))
    assert Instrument.objects.get().weight == math.inf


def test_files_go_back_by_path_and_none_is_deleted(settings: Any) -> None:
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"}}
    made = Instrument.objects.create(code="a")
    made.manual.save("one.txt", ContentFile(b"one"))
    first = made.manual.name
    with audit(assignation_id="work"):
        made.manual.save("two.txt", ContentFile(b"two"))
    second = made.manual.name
    assert applied(undo())
    made.refresh_from_db()
    assert made.manual.name == first
    assert isinstance(default_storage._wrapped, InMemoryStorage)  # type: ignore[attr-defined]
    assert [default_storage.open(name).read() for name in (str(first), str(second))] == [b"one", b"two"]


def test_a_field_that_is_not_tracked_is_left_alone() -> None:
    Instrument.objects.create(code="a", name="one", cache="kept")
    with audit(assignation_id="work"):
        Instrument.objects.update(name="two", cache="changed")
    assert applied(undo())
    assert Instrument.objects.values_list("name", "cache").get() == ("one", "changed")


def test_an_object_whose_untracked_fields_are_lost_comes_back_only_on_demand() -> None:
    Instrument.objects.create(code="a", name="scope", cache="lost")
    with audit(assignation_id="work"):
        Instrument.objects.get().delete()
    for policy in (RevertPolicy.ABORT, RevertPolicy.SKIP_CONFLICTS):
        report = undo(policy=policy)
        assert (report.status, codes(report)) == (
            RevertStatus.CONFLICTED,
            {"scope": {ConflictCode.UNTRACKED_FIELDS}},
        )
        assert report.steps[0].conflicts[0].fields == ("cache",)
    assert applied(undo(policy=RevertPolicy.OVERWRITE))
    assert Instrument.objects.values_list("name", "cache").get() == ("scope", "")


def test_a_field_that_the_model_did_not_have_stays_as_it_is() -> None:
    alarm = Alarm.notices.create(name="old", level=1)
    older = FieldSet.objects.create(digest=77, model="wide.alarm", names=["id", "name"])
    Alarm.history.update(field_set=older.digest)
    entry = Alarm.history.get()
    _forget_field_sets()
    with audit(assignation_id="work"):
        Alarm.notices.update(name="new", level=5)
    report = undo()
    assert applied(report)
    assert [change.field for change in report.steps[0].changes] == ["name"]
    assert Alarm.notices.values_list("name", "level").get() == ("old", 5)
    Alarm.notices.get(pk=alarm.pk).delete()
    # The object comes back as it was then, with the new field's default.
    assert applied(revert_to(None, "wide.alarm", entry.pk))
    assert Alarm.notices.values_list("name", "level").get() == ("old", 0)
    FieldSet.objects.all().delete()
    _forget_field_sets()


def _forget_field_sets() -> None:
    from koherent import registry

    registry._known_field_sets.cache_clear()


def test_an_erased_value_never_comes_back() -> None:
    Instrument.objects.create(code="a", name="Ada Lovelace", amount=1)
    entry = Instrument.history.get()
    with audit(assignation_id="work"):
        Instrument.objects.update(name="scope", amount=2)
    Instrument.history.filter(pk=entry.pk).update(name="", metadata={ERASED: ["name"]})
    assert applied(undo())
    assert Instrument.objects.values_list("name", "amount").get() == ("scope", 1)
    Instrument.objects.update(amount=3)
    assert applied(revert_to(None, "wide.instrument", entry.pk))
    assert Instrument.objects.values_list("name", "amount").get() == ("scope", 1)


def test_an_object_with_an_erased_value_says_so_when_it_is_to_come_back() -> None:
    Instrument.objects.create(code="a", name="Ada Lovelace")
    with audit(assignation_id="work"):
        Instrument.objects.get().delete()
    Instrument.history.filter(history_type="-").update(name="", metadata={ERASED: ["name"]})
    report = undo(policy=RevertPolicy.OVERWRITE)
    assert report.status is RevertStatus.CONFLICTED
    (conflict,) = report.steps[0].conflicts
    assert (conflict.code, conflict.fields) == (ConflictCode.UNTRACKED_FIELDS, ("cache", "name"))


def test_time_stamps_that_set_themselves_are_no_change_and_say_now() -> None:
    Instrument.objects.create(code="a", name="one")
    with audit(assignation_id="work"):
        Instrument.objects.update(moved_at=timezone.now())
        Instrument.objects.update(name="two")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE wide_instrument SET moved_at = '2000-01-01 00:00:00+00:00'")
    report = undo()
    assert applied(report)
    assert [change.field for change in report.steps[0].changes] == ["name"]
    assert Instrument.objects.get().moved_at > timezone.now() - dt.timedelta(minutes=1)


def test_managers_that_hide_rows_hide_none_from_a_revert() -> None:
    Article.objects.create(name="draft")

    def work() -> None:
        Article.objects.update(name="later")
        Headline.lines.create(name="proxy")

    there_and_back(work)


def test_what_raw_sql_changed_is_a_conflict_without_an_entry() -> None:
    Instrument.objects.create(code="a", name="one")
    with audit(assignation_id="work"):
        Instrument.objects.update(name="two")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE wide_instrument SET name = 'raw'")
    before = state()
    (conflict,) = undo().steps[0].conflicts
    assert (conflict.code, conflict.fields, conflict.entry) == (ConflictCode.CHANGED_SINCE, ("name",), None)
    assert state() == before
    assert applied(undo(policy=RevertPolicy.OVERWRITE))
    assert Instrument.objects.get().name == "one"
