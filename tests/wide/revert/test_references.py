"""Undo among objects that refer to each other: trees, cycles, every rule of ``on_delete``, every kind of key."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db.models import ProtectedError

from koherent import audit, registry
from koherent.errors import Forbidden
from koherent.policy import Viewer
from koherent.revert import ConflictCode, RevertPolicy, RevertStatus, revert_assignation, revert_to
from tests.wide.models import (
    Calibration,
    Chicken,
    Comment,
    Dependent,
    Egg,
    Folder,
    Instrument,
    Reagent,
    Slip,
    Sticker,
    Truck,
    Unit,
    Vehicle,
)
from tests.wide.revert.states import applied, codes, state, there_and_back, undo

pytestmark = pytest.mark.django_db


@pytest.fixture
def unit() -> Unit:
    Unit.objects.create(code="default", name="fallback")
    Dependent.objects.create(name="another", cascading_id="default")
    return Unit.objects.create(code="kg", name="kilogram")


def test_an_object_whose_key_has_a_default_comes_back_under_its_key() -> None:
    key = Reagent.objects.create(name="salt").pk
    there_and_back(lambda: Reagent.objects.get().delete())
    assert Reagent.objects.get().pk == key


def test_a_tree_that_was_deleted_from_the_top_comes_back() -> None:
    top = Folder.objects.create(name="top")
    for name in "ab":
        child = Folder.objects.create(name=name, parent=top)
        Folder.objects.create(name=f"{name}{name}", parent=child)
    report = there_and_back(lambda: Folder.objects.get(name="top").delete())
    assert sorted(step.object_label for step in report.steps) == ["a", "aa", "b", "bb", "top"]


def test_a_tree_that_was_made_goes_whatever_its_order() -> None:
    def work() -> None:
        top = Folder.objects.create(name="top")
        child = Folder.objects.create(name="child", parent=top)
        other = Folder.objects.create(name="other")
        # A parent with a higher key than its child.
        Folder.objects.filter(pk=child.pk).update(parent=other)

    Folder.objects.create(name="here")
    there_and_back(work)


def test_an_object_that_refers_to_itself() -> None:
    folder = Folder.objects.create(name="loop")
    Folder.objects.update(parent=folder)
    there_and_back(Folder.objects.all().delete)


def test_a_cycle_comes_back_as_it_was() -> None:
    chicken = Chicken.objects.create(name="hen")
    egg = Egg.objects.create(name="egg", chicken=chicken)
    Chicken.objects.update(egg=egg)
    there_and_back(lambda: Chicken.objects.get().delete())


def test_a_cycle_that_was_made_goes() -> None:
    def work() -> None:
        chicken = Chicken.objects.create(name="hen")
        chicken.egg = Egg.objects.create(name="egg", chicken=chicken)
        chicken.save()

    there_and_back(work)


def test_what_set_null_did_to_others_is_repaired(unit: Unit) -> None:
    Dependent.objects.create(name="one", nulled=unit)
    Dependent.objects.create(name="two", nulled=unit)
    report = there_and_back(lambda: Unit.objects.get(code="kg").delete())
    assert [(step.action, step.object_label) for step in report.steps] == [
        ("~", "one"),
        ("~", "two"),
        ("+", "kilogram"),
    ]


def test_a_nulled_reference_that_was_set_anew_is_left_to_its_new_owner(unit: Unit) -> None:
    one = Dependent.objects.create(name="one", nulled=unit)
    with audit(assignation_id="work"):
        Unit.objects.get(code="kg").delete()
    Dependent.objects.filter(pk=one.pk).update(nulled="default")
    assert codes(undo()) == {"one": {ConflictCode.CHANGED_SINCE}}
    assert applied(undo(policy=RevertPolicy.SKIP_CONFLICTS))
    one.refresh_from_db()
    assert (one.nulled_id, Unit.objects.filter(code="kg").exists()) == ("default", True)


@pytest.mark.parametrize("rule", ["protecting", "restricting"])
def test_protected_references_come_back_and_go_again(unit: Unit, rule: str) -> None:
    def work() -> None:
        Dependent.objects.filter(name="one").delete()
        Unit.objects.get(code="kg").delete()

    Dependent.objects.create(name="one", **{rule: unit})
    with pytest.raises(ProtectedError if rule == "protecting" else Exception, match="Cannot delete"):
        unit.delete()
    there_and_back(work)


@pytest.mark.parametrize("rule", ["protecting", "restricting", "cascading", "defaulting", "calling"])
def test_what_others_hang_on_an_object_keeps_it(unit: Unit, rule: str) -> None:
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
    theirs = Dependent.objects.create(name="theirs", **{f"{rule}_id": "new"})
    before = state()
    for policy in RevertPolicy:
        report = undo(policy=policy)
        assert (report.status, codes(report)) == (
            RevertStatus.CONFLICTED,
            {"new unit": {ConflictCode.STILL_REFERENCED}},
        )
        (conflict,) = report.steps[0].conflicts
        assert conflict.entry == ("wide.dependent", theirs.history.get().pk)
        assert rule in conflict.message
    assert state() == before


def test_a_reference_that_may_be_empty_lets_go_as_a_step_that_is_shown(unit: Unit) -> None:
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
    Dependent.objects.create(name="theirs", nulled_id="new")
    before = state()
    report = undo()
    assert applied(report)
    assert [step.action + step.object_label for step in report.steps] == ["-new unit", "~theirs"]
    assert [(c.field, c.old, c.new) for c in report.steps[1].changes] == [("nulled", "new", None)]
    assert Dependent.objects.get(name="theirs").nulled_id is None
    assert report.assignation_id is not None
    assert applied(undo(report.assignation_id))
    assert state() == before


def test_an_object_that_changes_anyway_lets_go_in_the_same_step(unit: Unit) -> None:
    theirs = Dependent.objects.create(name="theirs")
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
        Dependent.objects.filter(pk=theirs.pk).update(name="changed", dangling_id="kg")
    Dependent.objects.filter(pk=theirs.pk).update(nulled_id="new")
    report = undo()
    assert applied(report)
    assert {c.field for c in report.steps[1].changes} == {"name", "nulled", "dangling"}
    theirs.refresh_from_db()
    assert (theirs.name, theirs.nulled_id, theirs.dangling_id) == ("theirs", None, None)


def test_who_refers_to_what_stays_does_not_let_go(unit: Unit) -> None:
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
        Unit.objects.create(code="free", name="free unit")
    Dependent.objects.create(name="theirs", nulled_id="new")
    Unit.objects.filter(code="new").update(name="edited")
    report = undo(policy=RevertPolicy.SKIP_CONFLICTS)
    assert applied(report)
    assert {step.object_label: step.applied for step in report.steps} == {
        "edited": False,
        "theirs": False,
        "free unit": True,
    }
    assert Dependent.objects.get(name="theirs").nulled_id == "new"


def test_letting_go_needs_the_right_to_change(unit: Unit) -> None:
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
    Dependent.objects.create(name="theirs", nulled_id="new")
    user = User.objects.create_user("ada")
    needed = ["view_historicalunit", "delete_unit", "view_historicaldependent", "change_dependent"]
    for number, codename in enumerate(needed):
        user.user_permissions.add(Permission.objects.get(codename=codename))
        viewer = Viewer(user=User.objects.get(pk=user.pk))
        if number + 1 < len(needed):
            with pytest.raises(Forbidden):
                revert_assignation(viewer, "work")
    assert applied(revert_assignation(viewer, "work"))


def test_a_reference_without_a_constraint_may_dangle(unit: Unit) -> None:
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
    Dependent.objects.create(name="theirs", dangling_id="new")
    assert applied(undo())
    assert Dependent.objects.get(name="theirs").dangling_id == "new"


def test_what_an_object_referred_to_and_is_gone_is_named(unit: Unit) -> None:
    with audit(assignation_id="work"):
        Dependent.objects.filter(name="another").delete()
    Unit.objects.get(code="default").delete()
    report = undo()
    assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {"another": {ConflictCode.REFERENCE_MISSING}})
    assert report.steps[0].conflicts[0].fields == ("cascading",)


def test_a_skipped_object_takes_its_dependents_along() -> None:
    with audit(assignation_id="work"):
        first, second = Folder.objects.create(name="first"), Folder.objects.create(name="second")
        inner = Folder.objects.create(name="inner", parent=first)
        Folder.objects.create(name="innermost", parent=inner)
    Folder.objects.filter(name="innermost").update(name="theirs")
    report = undo(policy=RevertPolicy.SKIP_CONFLICTS)
    assert applied(report)
    assert codes(report) == {
        "theirs": {ConflictCode.CHANGED_SINCE},
        "inner": {ConflictCode.STILL_REFERENCED},
        "first": {ConflictCode.STILL_REFERENCED},
    }
    assert [step.object_label for step in report.steps if step.applied] == ["second"]
    assert not Folder.objects.filter(pk=second.pk).exists()


def test_rows_of_models_that_are_not_tracked_are_never_cascaded_to() -> None:
    with audit(assignation_id="work"):
        instrument = Instrument.objects.create(code="a", name="scope")
    Sticker.objects.create(instrument=instrument, text="theirs")
    report = undo(policy=RevertPolicy.OVERWRITE)
    assert (report.status, codes(report)) == (RevertStatus.CONFLICTED, {"scope": {ConflictCode.STILL_REFERENCED}})
    assert report.steps[0].conflicts[0].entry is None


@pytest.mark.parametrize("policy", RevertPolicy)
def test_rows_of_models_that_are_not_tracked_are_never_made_to_let_go(policy: RevertPolicy) -> None:
    """Nothing could show that step, nor take it back."""
    with audit(assignation_id="work"):
        Unit.objects.create(code="new", name="new unit")
        Unit.objects.create(code="free", name="free unit")
    slip = Slip.objects.create(unit_id="new", text="theirs")
    report = undo(policy=policy)
    assert codes(report) == {"new unit": {ConflictCode.STILL_REFERENCED}}
    (conflict,) = next(step for step in report.steps if step.object_label == "new unit").conflicts
    assert (conflict.entry, "slips" in conflict.message) == (None, True)
    slip.refresh_from_db()
    assert slip.unit_id == "new"
    skipped = policy is RevertPolicy.SKIP_CONFLICTS
    assert report.status is (RevertStatus.APPLIED if skipped else RevertStatus.CONFLICTED)
    assert set(Unit.objects.values_list("code", flat=True)) == ({"new"} if skipped else {"new", "free"})


def test_what_let_go_without_a_history_does_not_come_back_to_an_object_that_does() -> None:
    """Nobody knows which rows referred to it: the object comes back, and they stay as they are."""
    unit = Unit.objects.create(code="kg", name="kilogram")
    slips = [Slip.objects.create(unit=unit, text="theirs"), Slip.objects.create(text="of nothing")]
    with audit(assignation_id="work"):
        unit.delete()
    report = undo()
    assert applied(report)
    assert [step.action + step.object_label for step in report.steps] == ["+kilogram"]
    assert Unit.objects.get().code == "kg"
    assert list(Slip.objects.filter(unit=None).order_by("pk")) == slips
    assert report.assignation_id is not None
    assert applied(undo(report.assignation_id))
    assert not Unit.objects.exists()


def test_a_foreign_key_as_primary_key() -> None:
    instrument = Instrument.objects.create(code="a", name="scope")
    Calibration.objects.create(instrument=instrument, name="first")
    there_and_back(lambda: Calibration.objects.get().delete())


def test_generic_relations_come_back_with_their_object() -> None:
    def work() -> None:
        instrument = Instrument.objects.create(code="b", name="lens")
        Comment.objects.create(target=instrument, text="new")
        Comment.objects.filter(text="good").delete()

    instrument = Instrument.objects.create(code="a", name="scope")
    Comment.objects.create(target=instrument, text="good")
    # The instruments have a field that is not tracked, and at its default.
    there_and_back(work, policy=RevertPolicy.OVERWRITE)


def test_a_comment_of_others_keeps_its_object() -> None:
    with audit(assignation_id="work"):
        instrument = Instrument.objects.create(code="b", name="lens")
    Comment.objects.create(target=instrument, text="theirs")
    assert codes(undo()) == {"lens": {ConflictCode.STILL_REFERENCED}}


def test_both_tables_of_a_multi_table_child() -> None:
    Truck.objects.create(name="old", load=1)

    def work() -> None:
        Truck.objects.get(name="old").delete()
        Truck.objects.create(name="new", load=2)

    there_and_back(work)
    truck = Truck.objects.get()
    assert (truck.name, truck.load, Vehicle.objects.count()) == ("old", 1, 1)


def test_a_change_of_a_multi_table_child_goes_back_in_both_tables() -> None:
    Truck.objects.create(name="old", load=1)
    with audit(assignation_id="work"):
        truck = Truck.objects.get()
        truck.name, truck.load = "new", 2
        truck.save()
    assert applied(undo())
    assert [(t.name, t.load) for t in Truck.objects.all()] == [("old", 1)]


def test_a_text_key_goes_and_comes_by_entry(unit: Unit) -> None:
    entry = unit.history.get()
    unit.delete()
    assert applied(revert_to(None, "wide.unit", entry.pk))
    gone = Unit.history.get(code="kg", history_type="-")
    assert applied(revert_to(None, "wide.unit", gone.pk))
    assert not Unit.objects.filter(code="kg").exists()


def test_every_step_has_its_entry() -> None:
    top = Folder.objects.create(name="top")
    Folder.objects.create(name="child", parent=top)
    with audit(assignation_id="work"):
        Folder.objects.get(name="top").delete()
    report = undo(reason="back")
    entries: list[Any] = []
    for label, pk in report.entry_keys:
        tracked = registry.by_label(label)
        assert tracked is not None
        entries.append(tracked.history_model._base_manager.get(pk=pk))
    assert sorted((e.name, e.history_type, e.history_change_reason, e.origin) for e in entries) == [
        ("child", "+", "back", "revert"),
        ("top", "+", "back", "revert"),
    ]


def test_what_set_default_and_set_did_to_others_is_repaired(unit: Unit) -> None:
    Unit.objects.create(code="stand-in", name="calls")
    Dependent.objects.create(name="one", defaulting=unit, falling_back=unit, calling=unit)
    there_and_back(lambda: Unit.objects.get(code="kg").delete())
