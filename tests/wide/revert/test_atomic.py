"""Whatever statement of an apply fails, all of it has happened or nothing."""

from typing import Any

import pytest
from django.db import DatabaseError, connection
from django.db.models.signals import post_save

from koherent import audit, registry
from koherent.revert import RevertStatus
from tests.failing import FailAt
from tests.wide.models import Dependent, Instrument, Locker, Membership, Person, Reagent, Team, Truck, Unit
from tests.wide.revert.states import applied, state, undo

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])


def entries() -> list[int]:
    return [
        tracked.history_model._base_manager.count()
        for tracked in registry.tracked_models()
        if tracked.label != "wide.elsewhere"
    ]


def test_failing_each_statement_in_turn_leaves_all_or_nothing() -> None:
    Unit.objects.create(code="default", name="what dependents fall back to")
    team = Team.objects.create(name="red")
    ann, bob = Person.objects.create(name="ann"), Person.objects.create(name="bob")
    ann.teams.add(team, through_defaults={"role": "captain"})
    ann.friends.add(bob)
    one = Locker.objects.create(number=1, hall="a", place=1, label="one", badge="b1", owner=ann)
    two = Locker.objects.create(number=2, hall="a", place=2, label="two", badge="b2")
    Truck.objects.create(name="truck", load=1)
    instrument = Instrument.objects.create(code="a", name="scope")
    instrument.reagents.add(Reagent.objects.create(name="salt"))
    before = state()
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
        for number, row in ((99, one), (1, two), (2, one)):
            Locker.objects.filter(pk=row.pk).update(number=number)
        Membership.objects.update(role="guest")
        ann.friends.clear()
        Truck.objects.get().delete()
        Reagent.objects.get().delete()
        bob.delete()
    Dependent.objects.create(name="theirs", nulled_id="new")
    after, written = state(), entries()
    heard: list[str] = []

    def listen(instance: Any, **_: Any) -> None:
        heard.append(str(instance))

    post_save.connect(listen, sender=Truck)
    number = 0
    try:
        while True:
            try:
                with connection.execute_wrapper(FailAt(number)):
                    report = undo()
            except DatabaseError:
                assert (state(), entries()) == (after, written), number
                number += 1
                continue
            break
    finally:
        post_save.disconnect(listen, sender=Truck)
    assert applied(report)
    assert number > 50
    assert heard[-1] == "truck"
    expected = {**before, "Dependent": state()["Dependent"]}
    assert state() == expected
    assert Dependent.objects.get().nulled_id is None
    assert undo().status is RevertStatus.UNCHANGED
