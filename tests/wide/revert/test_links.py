"""Undo of many-to-many links: to the model itself, to other keys, through a model with fields of its own."""

import pytest

from koherent import audit
from koherent.revert import ConflictCode, RevertPolicy, revert_to
from tests.wide.models import Instrument, Membership, Person, Reagent, Team
from tests.wide.revert.states import applied, codes, state, there_and_back, undo

pytestmark = pytest.mark.django_db


@pytest.fixture
def people() -> list[Person]:
    return [Person.objects.create(name=name) for name in ("ann", "bob", "cat")]


def test_links_to_another_kind_of_key_go_back() -> None:
    instrument = Instrument.objects.create(code="a", name="scope")
    salt, acid = Reagent.objects.create(name="salt"), Reagent.objects.create(name="acid")
    instrument.reagents.add(salt)
    there_and_back(lambda: instrument.reagents.set([acid]))


def test_an_object_comes_back_with_its_links_and_a_linked_one_with_its_owners() -> None:
    instrument = Instrument.objects.create(code="a", name="scope")
    instrument.reagents.add(Reagent.objects.create(name="salt"))
    there_and_back(lambda: Reagent.objects.get().delete())


def test_links_in_one_direction_within_a_model(people: list[Person]) -> None:
    ann, bob, cat = people
    ann.teachers.set([bob, cat])

    def work() -> None:
        cat.teachers.add(ann)
        ann.teachers.remove(bob)
        bob.pupils.add(cat)

    there_and_back(work)


def test_people_who_are_linked_to_each_other_go_and_come_together(people: list[Person]) -> None:
    ann, bob, cat = people
    ann.friends.add(bob)
    bob.teachers.add(cat)
    there_and_back(Person.objects.all().delete)


def test_links_through_a_model_come_back_with_their_own_fields(people: list[Person]) -> None:
    team = Team.objects.create(name="red")
    other = Team.objects.create(name="blue")
    people[0].teams.add(team, through_defaults={"role": "captain", "since": 1999})
    people[1].teams.add(team, through_defaults={"role": "keeper"})
    before = list(Membership.objects.order_by("pk").values())

    def work() -> None:
        people[0].teams.set([other], through_defaults={"role": "guest"})
        people[1].teams.clear()

    there_and_back(work)
    assert list(Membership.objects.order_by("pk").values()) == before


def test_what_a_link_says_goes_back_too(people: list[Person]) -> None:
    team = Team.objects.create(name="red")
    people[0].teams.add(team, through_defaults={"role": "captain", "since": 1999})
    before = list(Membership.objects.values())
    report = there_and_back(lambda: Membership.objects.update(role="keeper"))
    assert [(c.field, c.added, c.removed) for c in report.steps[0].changes] == [("teams", [team.pk], [team.pk])]
    assert list(Membership.objects.values()) == before


def test_what_a_link_says_and_others_changed_is_a_conflict(people: list[Person]) -> None:
    people[0].teams.add(Team.objects.create(name="red"), through_defaults={"role": "captain"})
    with audit(assignation_id="work"):
        Membership.objects.update(role="keeper")
    Membership.objects.update(role="theirs")
    assert codes(undo()) == {"ann": {ConflictCode.CHANGED_SINCE}}
    assert applied(undo(policy=RevertPolicy.OVERWRITE))
    assert Membership.objects.get().role == "captain"


def test_a_person_with_memberships_goes_and_comes(people: list[Person]) -> None:
    team = Team.objects.create(name="red")
    people[0].teams.add(team, through_defaults={"role": "captain", "since": 1999})

    def work() -> None:
        Person.objects.get(name="ann").delete()
        new = Person.objects.create(name="new")
        new.teams.add(team, through_defaults={"role": "guest"})

    there_and_back(work)


def test_a_team_with_members_goes_and_comes(people: list[Person]) -> None:
    team = Team.objects.create(name="red")
    people[0].teams.add(team, through_defaults={"role": "captain", "since": 1999})
    there_and_back(lambda: Team.objects.get().delete())


def test_an_entry_brings_back_links_through_a_model(people: list[Person]) -> None:
    team = Team.objects.create(name="red")
    people[0].teams.add(team, through_defaults={"role": "captain", "since": 1999})
    before, entry = state(), people[0].history.latest("history_id")
    people[0].teams.clear()
    assert applied(revert_to(None, "wide.person", entry.pk))
    assert state() == before


def test_a_link_that_somebody_gave_back_as_it_was_is_no_conflict(people: list[Person]) -> None:
    team = Team.objects.create(name="red")
    people[0].teams.add(team, through_defaults={"role": "captain"})
    with audit(assignation_id="work"):
        people[0].teams.clear()
        Person.objects.filter(name="ann").update(name="anna")
    people[0].teams.add(team, through_defaults={"role": "captain"})
    report = undo()
    assert applied(report)
    assert [change.field for change in report.steps[0].changes] == ["name"]
    assert (Membership.objects.get().role, Person.objects.filter(name="ann").exists()) == ("captain", True)


def test_links_of_others_stay(people: list[Person]) -> None:
    ann, bob, cat = people
    with audit(assignation_id="work"):
        ann.teachers.add(bob)
    ann.teachers.add(cat)
    assert applied(undo())
    assert list(ann.teachers.all()) == [cat]


def test_a_link_to_what_is_gone_is_a_missing_reference(people: list[Person]) -> None:
    team = Team.objects.create(name="red")
    people[0].teams.add(team, through_defaults={"role": "captain"})
    with audit(assignation_id="work"):
        people[0].teams.clear()
    team.delete()
    report = undo()
    assert codes(report) == {"ann": {ConflictCode.REFERENCE_MISSING}}
    assert report.steps[0].conflicts[0].fields == ("teams",)


def test_what_others_link_to_keeps_its_object(people: list[Person]) -> None:
    with audit(assignation_id="work"):
        team = Team.objects.create(name="red")
    people[0].teams.add(team, through_defaults={"role": "captain"})
    report = undo(policy=RevertPolicy.OVERWRITE)
    assert codes(report) == {"red": {ConflictCode.STILL_REFERENCED}}


def test_a_symmetrical_link_goes_back_on_both_sides(people: list[Person]) -> None:
    ann, bob, cat = people
    ann.friends.add(bob)

    def work() -> None:
        ann.friends.add(cat)
        bob.friends.remove(ann)

    there_and_back(work)
    assert list(ann.friends.all()) == [bob]
    assert list(bob.friends.all()) == [ann]
