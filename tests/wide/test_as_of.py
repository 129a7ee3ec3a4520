"""Relations of every kind lead to objects of the same time, or say that they cannot."""

import pytest
from django.utils import timezone

import koherent
from tests.wide.models import Alarm, Calibration, Comment, Folder, Instrument, Membership, Person, Reagent, Team, Unit

pytestmark = pytest.mark.django_db


def test_a_tree_and_links_to_the_own_model() -> None:
    root = Folder.objects.create(name="root")
    leaf = Folder.objects.create(name="leaf", parent=root)
    people = [Person.objects.create(name=name) for name in "abc"]
    people[0].friends.set(people[1:])
    people[0].teachers.set(people[1:2])
    then = timezone.now()
    leaf.parent = None
    leaf.save()
    people[0].friends.clear()
    people[0].teachers.set(people[2:])
    past = koherent.as_of(root, then)
    assert (past.parent, list(past.children)) == (None, [leaf])
    assert past.children.first().parent.name == "root"
    person = koherent.as_of(people[0], then)
    assert (list(person.friends), list(person.teachers)) == (people[1:], people[1:2])
    assert list(koherent.as_of(people[1], then).pupils) == people[:1]
    assert list(koherent.as_of(people[2], then).pupils) == []


def test_a_key_that_is_a_foreign_key_and_one_to_one_backwards() -> None:
    instrument = Instrument.objects.create(code="x", name="scope")
    calibration = Calibration.objects.create(instrument=instrument, name="first")
    reagent = Reagent.objects.create(name="acid")
    instrument.reagents.add(reagent)
    then = timezone.now()
    calibration.name = "second"
    calibration.save()
    instrument.name = "microscope"
    instrument.save()
    reagent.delete()
    past = koherent.as_of(calibration, then)
    assert (past.name, past.instrument.name, past.instrument.calibration.name) == ("first", "scope", "first")
    assert [reagent.name for reagent in past.instrument.reagents] == ["acid"]
    [then_reagent] = koherent.as_of(Reagent, then)
    assert [found.name for found in then_reagent.instruments] == ["scope"]
    other = Instrument.objects.create(code="y", name="other")
    with pytest.raises(Calibration.DoesNotExist):
        koherent.as_of(other, timezone.now()).calibration  # noqa: B018


def test_links_through_a_model_of_its_own() -> None:
    person, team = Person.objects.create(name="a"), Team.objects.create(name="red")
    person.teams.add(team, through_defaults={"role": "lead"})
    then = timezone.now()
    team.name = "blue"
    team.save()
    past = koherent.as_of(person, then)
    assert [found.name for found in past.teams] == ["red"]
    assert list(koherent.as_of(team, then).people) == [person]
    with pytest.raises(AttributeError, match="Membership is not tracked"):
        past.membership_set  # noqa: B018
    assert Membership.objects.count() == 1


def test_what_is_not_known_says_so() -> None:
    instrument = Instrument.objects.create(code="x", name="scope", cache="excluded")
    comment = Comment.objects.create(target=instrument, text="good")
    now = timezone.now()
    past = koherent.as_of(instrument, now)
    for name in ("cache", "comments", "sticker_set"):
        assert not hasattr(past, name)
    assert not hasattr(koherent.as_of(comment, now), "target")
    # The other side of this one is not tracked: it is the row of today.
    assert koherent.as_of(comment, now).content_type.model == "instrument"


def test_text_keys_and_children_of_an_abstract_model() -> None:
    unit = Unit.objects.create(code="kg", name="kilogram")
    alarm = Alarm.notices.create(name="fire", level=1)
    then = timezone.now()
    Unit.objects.update(name="kilo")
    Alarm.notices.update(level=2)
    assert koherent.as_of(unit, then).name == "kilogram"
    assert [past.level for past in koherent.as_of(Alarm.notices.all(), then)] == [1]
    assert koherent.as_of(alarm, timezone.now()).level == 2
