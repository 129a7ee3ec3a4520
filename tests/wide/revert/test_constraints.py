"""What values must satisfy: unique ones that move among objects, checks, validators, a model's own ``clean()``."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from koherent import audit
from koherent.revert import ConflictCode, RevertPolicy, RevertStatus, revert_to
from tests.wide.models import Locker, Person
from tests.wide.revert.states import applied, codes, state, there_and_back, undo

pytestmark = pytest.mark.django_db


def locker(number: int, **values: Any) -> Locker:
    given = {"hall": "a", "place": number, "label": f"l{number}", "badge": f"b{number}", **values}
    return Locker.objects.create(number=number, **given)


def swap(name: str, between: Any, one: Locker, other: Locker) -> None:
    first, second = (getattr(Locker.objects.get(pk=row.pk), name) for row in (one, other))
    Locker.objects.filter(pk=one.pk).update(**{name: between})
    Locker.objects.filter(pk=other.pk).update(**{name: first})
    Locker.objects.filter(pk=one.pk).update(**{name: second})


@pytest.mark.parametrize(
    ("name", "between"), [("number", 999), ("place", 999), ("label", "between"), ("badge", "between")]
)
def test_unique_values_of_every_kind_swap_back(name: str, between: Any) -> None:
    one, two = locker(1), locker(2)
    there_and_back(lambda: swap(name, between, one, two))


def test_a_unique_reference_swaps_back() -> None:
    ann, bob = Person.objects.create(name="ann"), Person.objects.create(name="bob")
    one, two = locker(1, owner=ann), locker(2, owner=bob)
    there_and_back(lambda: swap("owner_id", None, one, two))


def test_unique_values_go_round() -> None:
    lockers = [locker(number) for number in range(1, 6)]

    def work() -> None:
        Locker.objects.filter(number=1).update(number=99)
        for number in range(2, 6):
            Locker.objects.filter(number=number).update(number=number - 1)
        Locker.objects.filter(number=99).update(number=5)

    there_and_back(work)
    assert [Locker.objects.get(pk=row.pk).number for row in lockers] == [1, 2, 3, 4, 5]


def test_a_unique_value_goes_back_to_an_object_that_was_deleted() -> None:
    one, two = locker(1), locker(2)

    def work() -> None:
        Locker.objects.filter(pk=one.pk).delete()
        Locker.objects.filter(pk=two.pk).update(number=1, place=1, label="l1", badge="b1")
        locker(2)

    there_and_back(work)


def test_one_letter_that_must_be_unique_swaps_with_its_partner() -> None:
    one, two = locker(1, hall="a", place=7), locker(2, hall="b", place=7)
    there_and_back(lambda: swap("hall", "c", one, two))


@pytest.mark.parametrize(
    ("values", "theirs", "fields"),
    [
        ({"number": 9}, {"number": 1}, ("number",)),
        ({"place": 9}, {"place": 1}, ("hall", "place")),
        ({"label": "away"}, {"label": "L1"}, ("label",)),
        ({"badge": "away"}, {"badge": "b1"}, ("badge",)),
    ],
)
def test_a_value_that_somebody_took_meanwhile(values: Any, theirs: Any, fields: tuple[str, ...]) -> None:
    one, two = locker(1), locker(2)
    with audit(assignation_id="work"):
        Locker.objects.filter(pk=one.pk).update(**values)
    Locker.objects.filter(pk=two.pk).update(**theirs)
    before = state()
    for policy in RevertPolicy:
        report = undo(policy=policy)
        assert (report.status, [c.code for c in report.steps[0].conflicts]) == (
            RevertStatus.CONFLICTED,
            [ConflictCode.UNIQUE_TAKEN],
        )
        (conflict,) = report.steps[0].conflicts
        assert conflict.fields == fields
        assert conflict.entry == ("wide.locker", two.history.latest("history_id").pk)
    assert state() == before


def test_a_value_that_is_unique_only_among_the_active() -> None:
    one, two = locker(1), locker(2, active=False)
    with audit(assignation_id="work"):
        Locker.objects.filter(pk=one.pk).update(badge="away")
    Locker.objects.filter(pk=two.pk).update(badge="b1")
    assert applied(undo())


def test_a_check_of_the_database() -> None:
    one = locker(1)
    with connection.cursor() as cursor:
        # The rule came later than this row.
        cursor.execute("UPDATE wide_historicallocker SET place = -1")
    with audit(assignation_id="work"):
        Locker.objects.update(place=2)
    report = undo()
    assert codes(report) == {"l1": {ConflictCode.INVALID}}
    assert "places_count_from_one" in report.steps[0].conflicts[0].message
    assert Locker.objects.get(pk=one.pk).place == 2


def test_validators_speak_for_themselves() -> None:
    locker(1, place=1000)
    with audit(assignation_id="work"):
        Locker.objects.update(place=2)
    (conflict,) = undo(policy=RevertPolicy.OVERWRITE).steps[0].conflicts
    assert (conflict.code, conflict.message, conflict.fields) == (
        ConflictCode.INVALID,
        "Halls have 999 places.",
        ("place",),
    )


def test_the_models_own_clean_speaks_for_itself() -> None:
    one = locker(1)
    locker(2, beside=one)
    with audit(assignation_id="work"):
        Locker.objects.filter(number=2).update(beside=None)
    Locker.objects.filter(number=1).update(hall="b")
    (conflict,) = undo().steps[0].conflicts
    assert (conflict.code, conflict.message, conflict.fields) == (
        ConflictCode.INVALID,
        "Beside a locker of another hall.",
        ("beside",),
    )


def test_clean_sees_what_the_same_revert_brings_back() -> None:
    one = locker(1)
    locker(2, beside=one)
    there_and_back(Locker.objects.all().delete)


def test_an_overridden_save_is_not_called() -> None:
    locker(1)
    Locker.objects.update(label=" padded ")
    with audit(assignation_id="work"):
        Locker.objects.update(label="away")
    assert applied(undo())
    assert Locker.objects.get().label == " padded "


def test_an_object_may_keep_its_own_unique_values() -> None:
    entry = locker(1).history.get()
    Locker.objects.update(active=False)
    assert applied(revert_to(None, "wide.locker", entry.pk))


def test_constraints_are_weighed_in_sets() -> None:
    def statements(assignation_id: str, numbers: range) -> int:
        for number in numbers:
            locker(number)
        with audit(assignation_id=assignation_id):
            for row in Locker.objects.filter(number__in=numbers):
                Locker.objects.filter(pk=row.pk).update(
                    place=row.place + 400, label=f"x{row.label}", badge="", active=0
                )
        with CaptureQueriesContext(connection) as queries:
            assert applied(undo(assignation_id))
        return len(queries)

    # Both are enough for a run (SQLite writes its row with a statement of its own).
    assert statements("few", range(1, 22)) == statements("many", range(30, 90))
