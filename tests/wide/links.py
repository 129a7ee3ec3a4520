"""Every way to write a many-to-many, with the entries that it must leave.

One entry for each affected object and each logical change: ``set()`` that adds and removes is one change, a link that
two objects own (a symmetrical many-to-many) is a change of both.
"""

from typing import Any

from tests.wide.models import Instrument, Membership, Person, Reagent, Team
from tests.wide.paths import Path
from tests.wide.trail import Case, Entry


def linked() -> Case:
    """Instruments with reagents: ``full`` has ``acid`` and ``base``, ``empty`` has none, nobody has ``salt``."""
    acid, base, salt = (Reagent.objects.create(name=name) for name in ("acid", "base", "salt"))
    full, empty = (Instrument.objects.create(code=name, name=name) for name in ("full", "empty"))
    full.reagents.set([acid, base])
    return Case(acid=acid, base=base, salt=salt, full=full, empty=empty)


FORWARD = [
    Path(
        "add",
        lambda c: c.full.reagents.add(c.salt),
        lambda c: c.full.reagents.aadd(c.salt),
        [Entry("~", "full", reagents=["acid", "base", "salt"])],
    ),
    Path(
        "add: several, by key, one of them there",
        lambda c: c.full.reagents.add(c.salt.pk, c.acid.pk),
        lambda c: c.full.reagents.aadd(c.salt.pk, c.acid.pk),
        [Entry("~", "full", reagents=["acid", "base", "salt"])],
    ),
    Path("add: there already", lambda c: c.full.reagents.add(c.acid), lambda c: c.full.reagents.aadd(c.acid), []),
    Path(
        "remove",
        lambda c: c.full.reagents.remove(c.acid),
        lambda c: c.full.reagents.aremove(c.acid),
        [Entry("~", "full", reagents=["base"])],
    ),
    Path("remove: not there", lambda c: c.full.reagents.remove(c.salt), lambda c: c.full.reagents.aremove(c.salt), []),
    Path(
        "set: adds and removes",
        lambda c: c.full.reagents.set([c.acid, c.salt]),
        lambda c: c.full.reagents.aset([c.acid, c.salt]),
        [Entry("~", "full", reagents=["acid", "salt"])],
    ),
    Path(
        "set: clears first",
        lambda c: c.full.reagents.set([c.acid, c.salt], clear=True),
        lambda c: c.full.reagents.aset([c.acid, c.salt], clear=True),
        [Entry("~", "full", reagents=["acid", "salt"])],
    ),
    Path(
        "set: the same",
        lambda c: c.full.reagents.set([c.acid, c.base]),
        lambda c: c.full.reagents.aset([c.acid, c.base]),
        [],
    ),
    Path(
        "set: the same, clears first",
        lambda c: c.full.reagents.set([c.acid, c.base], clear=True),
        lambda c: c.full.reagents.aset([c.acid, c.base], clear=True),
        [],
    ),
    Path(
        "clear",
        lambda c: c.full.reagents.clear(),
        lambda c: c.full.reagents.aclear(),
        [Entry("~", "full", reagents=[])],
    ),
    Path("clear: nothing there", lambda c: c.empty.reagents.clear(), lambda c: c.empty.reagents.aclear(), []),
    Path(
        "create",
        lambda c: c.empty.reagents.create(name="new"),
        lambda c: c.empty.reagents.acreate(name="new"),
        [Entry("+", "Reagent:new", name="new"), Entry("~", "empty", reagents=["Reagent:new"])],
    ),
    Path(
        "get_or_create",
        lambda c: c.empty.reagents.get_or_create(name="new"),
        lambda c: c.empty.reagents.aget_or_create(name="new"),
        [Entry("+", "Reagent:new", name="new"), Entry("~", "empty", reagents=["Reagent:new"])],
    ),
    Path(
        "update_or_create",
        lambda c: c.full.reagents.update_or_create(name="acid", defaults={"amount": 3}),
        lambda c: c.full.reagents.aupdate_or_create(name="acid", defaults={"amount": 3}),
        [Entry("~", "acid", amount=3)],
    ),
    Path(
        "update of the other side",
        lambda c: c.full.reagents.filter(name="acid").update(amount=3),
        lambda c: c.full.reagents.filter(name="acid").aupdate(amount=3),
        [Entry("~", "acid", amount=3)],
    ),
    Path(
        "the owner goes",
        lambda c: c.full.delete(),
        lambda c: c.full.adelete(),
        [Entry("-", "full")],
    ),
]
REVERSE = [
    Path(
        "add",
        lambda c: c.acid.instruments.add(c.empty, c.full),
        lambda c: c.acid.instruments.aadd(c.empty, c.full),
        [Entry("~", "empty", reagents=["acid"])],
    ),
    Path(
        "add: to several",
        lambda c: c.salt.instruments.add(c.empty, c.full),
        lambda c: c.salt.instruments.aadd(c.empty, c.full),
        [Entry("~", "empty", reagents=["salt"]), Entry("~", "full", reagents=["acid", "base", "salt"])],
    ),
    Path(
        "remove",
        lambda c: c.acid.instruments.remove(c.full, c.empty),
        lambda c: c.acid.instruments.aremove(c.full, c.empty),
        [Entry("~", "full", reagents=["base"])],
    ),
    Path(
        "set: one gains, one loses",
        lambda c: c.acid.instruments.set([c.empty]),
        lambda c: c.acid.instruments.aset([c.empty]),
        [Entry("~", "empty", reagents=["acid"]), Entry("~", "full", reagents=["base"])],
    ),
    Path(
        "set: clears first",
        lambda c: c.acid.instruments.set([c.empty, c.full], clear=True),
        lambda c: c.acid.instruments.aset([c.empty, c.full], clear=True),
        [Entry("~", "empty", reagents=["acid"])],
    ),
    Path(
        "clear",
        lambda c: c.acid.instruments.clear(),
        lambda c: c.acid.instruments.aclear(),
        [Entry("~", "full", reagents=["base"])],
    ),
    Path("clear: nothing there", lambda c: c.salt.instruments.clear(), lambda c: c.salt.instruments.aclear(), []),
    Path(
        "create",
        lambda c: c.salt.instruments.create(code="new", name="new"),
        lambda c: c.salt.instruments.acreate(code="new", name="new"),
        [Entry("+", "Instrument:new", reagents=[]), Entry("~", "Instrument:new", reagents=["salt"])],
    ),
    Path(
        "the other side goes",
        lambda c: c.acid.delete(),
        lambda c: c.acid.adelete(),
        [Entry("-", "acid"), Entry("~", "full", reagents=["base"])],
    ),
    Path(
        "several of the other side go",
        lambda c: Reagent.objects.all().delete(),
        lambda c: Reagent.objects.all().adelete(),
        [Entry("-", "acid"), Entry("-", "base"), Entry("-", "salt"), Entry("~", "full", reagents=[])],
    ),
    Path(
        "both sides go",
        lambda c: (c.acid.delete(), c.full.delete()),
        None,
        [Entry("-", "acid"), Entry("~", "full", reagents=["base"]), Entry("-", "full")],
    ),
]
THROUGH_ROWS = [
    Path(
        "a row of an automatic through model is made",
        lambda c: Instrument.reagents.through.objects.create(instrument=c.empty, reagent=c.salt),
        lambda c: Instrument.reagents.through.objects.acreate(instrument=c.empty, reagent=c.salt),
        [Entry("~", "empty", reagents=["salt"])],
    ),
    Path(
        "rows of an automatic through model are made in bulk",
        lambda c: Instrument.reagents.through.objects.bulk_create(
            Instrument.reagents.through(instrument=one, reagent=c.salt) for one in (c.empty, c.full)
        ),
        None,
        [Entry("~", "empty", reagents=["salt"]), Entry("~", "full", reagents=["acid", "base", "salt"])],
    ),
    Path(
        "rows of an automatic through model go",
        lambda c: Instrument.reagents.through.objects.filter(reagent=c.acid).delete(),
        lambda c: Instrument.reagents.through.objects.filter(reagent=c.acid).adelete(),
        [Entry("~", "full", reagents=["base"])],
    ),
]


def people() -> Case:
    """``ann`` and ``bob`` are friends, ``cat`` has none; ``ann`` teaches ``bob``."""
    ann, bob, cat = (Person.objects.create(name=name) for name in ("ann", "bob", "cat"))
    ann.friends.add(bob)
    bob.teachers.add(ann)
    return Case(ann=ann, bob=bob, cat=cat)


TO_ITSELF = [
    Path(
        "add: symmetrical",
        lambda c: c.ann.friends.add(c.cat),
        lambda c: c.ann.friends.aadd(c.cat),
        [Entry("~", "ann", friends=["bob", "cat"]), Entry("~", "cat", friends=["ann"])],
    ),
    Path("add: there already", lambda c: c.bob.friends.add(c.ann), lambda c: c.bob.friends.aadd(c.ann), []),
    Path(
        "remove: symmetrical",
        lambda c: c.bob.friends.remove(c.ann),
        lambda c: c.bob.friends.aremove(c.ann),
        [Entry("~", "ann", friends=[]), Entry("~", "bob", friends=[])],
    ),
    Path(
        "set: symmetrical",
        lambda c: c.ann.friends.set([c.cat]),
        lambda c: c.ann.friends.aset([c.cat]),
        [Entry("~", "ann", friends=["cat"]), Entry("~", "bob", friends=[]), Entry("~", "cat", friends=["ann"])],
    ),
    Path(
        "clear: symmetrical",
        lambda c: c.ann.friends.clear(),
        lambda c: c.ann.friends.aclear(),
        [Entry("~", "ann", friends=[]), Entry("~", "bob", friends=[])],
    ),
    Path(
        "add: not symmetrical",
        lambda c: c.cat.teachers.add(c.ann),
        lambda c: c.cat.teachers.aadd(c.ann),
        [Entry("~", "cat", teachers=["ann"])],
    ),
    Path(
        "add: not symmetrical, from the other side",
        lambda c: c.ann.pupils.add(c.cat),
        lambda c: c.ann.pupils.aadd(c.cat),
        [Entry("~", "cat", teachers=["ann"])],
    ),
    Path(
        "set: not symmetrical, from the other side",
        lambda c: c.ann.pupils.set([c.cat]),
        lambda c: c.ann.pupils.aset([c.cat]),
        [Entry("~", "bob", teachers=[]), Entry("~", "cat", teachers=["ann"])],
    ),
    Path(
        "clear: not symmetrical, from the other side",
        lambda c: c.ann.pupils.clear(),
        lambda c: c.ann.pupils.aclear(),
        [Entry("~", "bob", teachers=[])],
    ),
    Path(
        "one goes: two fields of one owner are one change",
        lambda c: c.ann.delete(),
        lambda c: c.ann.adelete(),
        [Entry("-", "ann"), Entry("~", "bob", friends=[], teachers=[])],
    ),
]


def member(person: str, role: str, since: int = 2026) -> tuple[Any, ...]:
    """A link through ``Membership``, as ``trail.state()`` tells it."""
    return person, ("role", role), ("since", since)


def members() -> Case:
    """``ann`` leads ``red``; ``bob`` is in no team; ``blue`` is empty."""
    ann, bob = (Person.objects.create(name=name) for name in ("ann", "bob"))
    red, blue = (Team.objects.create(name=name) for name in ("red", "blue"))
    ann.teams.add(red, through_defaults={"role": "lead"})
    return Case(ann=ann, bob=bob, red=red, blue=blue, link=Membership.objects.get())


def _move(c: Any) -> None:
    c.link.person = c.bob
    c.link.save()


async def _amove(c: Any) -> None:
    c.link.person = c.bob
    await c.link.asave()


def _promote(c: Any) -> None:
    c.link.role = "chair"
    c.link.save()


async def _apromote(c: Any) -> None:
    c.link.role = "chair"
    await c.link.asave()


JOINED = [Entry("~", "bob", teams=[member("blue", "crew")])]
LEFT = [Entry("~", "ann", teams=[])]
PROMOTED = [Entry("~", "ann", teams=[member("red", "chair")])]
THROUGH = [
    Path(
        "add",
        lambda c: c.bob.teams.add(c.blue, through_defaults={"role": "crew"}),
        lambda c: c.bob.teams.aadd(c.blue, through_defaults={"role": "crew"}),
        JOINED,
    ),
    Path(
        "add: from the other side",
        lambda c: c.blue.people.add(c.bob, through_defaults={"role": "crew"}),
        lambda c: c.blue.people.aadd(c.bob, through_defaults={"role": "crew"}),
        JOINED,
    ),
    Path("remove", lambda c: c.ann.teams.remove(c.red), lambda c: c.ann.teams.aremove(c.red), LEFT),
    Path(
        "remove: from the other side",
        lambda c: c.red.people.remove(c.ann),
        lambda c: c.red.people.aremove(c.ann),
        LEFT,
    ),
    Path(
        "set",
        lambda c: c.ann.teams.set([c.blue], through_defaults={"role": "crew"}),
        lambda c: c.ann.teams.aset([c.blue], through_defaults={"role": "crew"}),
        [Entry("~", "ann", teams=[member("blue", "crew")])],
    ),
    Path(
        "set: from the other side",
        lambda c: c.red.people.set([c.bob], through_defaults={"role": "crew"}),
        lambda c: c.red.people.aset([c.bob], through_defaults={"role": "crew"}),
        [*LEFT, Entry("~", "bob", teams=[member("red", "crew")])],
    ),
    Path(
        "set: the same people in other roles",
        lambda c: c.ann.teams.set([c.red], clear=True, through_defaults={"role": "chair"}),
        lambda c: c.ann.teams.aset([c.red], clear=True, through_defaults={"role": "chair"}),
        PROMOTED,
    ),
    Path("clear", lambda c: c.ann.teams.clear(), lambda c: c.ann.teams.aclear(), LEFT),
    Path("clear: from the other side", lambda c: c.red.people.clear(), lambda c: c.red.people.aclear(), LEFT),
    Path(
        "create",
        lambda c: c.bob.teams.create(name="new", through_defaults={"role": "crew"}),
        lambda c: c.bob.teams.acreate(name="new", through_defaults={"role": "crew"}),
        [Entry("+", "Team:new", name="new"), Entry("~", "bob", teams=[member("Team:new", "crew")])],
    ),
    Path("the other side goes", lambda c: c.red.delete(), lambda c: c.red.adelete(), [Entry("-", "red"), *LEFT]),
    Path(
        "a row of the through model is made",
        lambda c: Membership.objects.create(person=c.bob, team=c.blue, role="crew"),
        lambda c: Membership.objects.acreate(person=c.bob, team=c.blue, role="crew"),
        JOINED,
    ),
    Path(
        "a row of the through model is made by a related manager",
        lambda c: c.bob.membership_set.create(team=c.blue, role="crew"),
        lambda c: c.bob.membership_set.acreate(team=c.blue, role="crew"),
        JOINED,
    ),
    Path(
        "rows of the through model are made in bulk",
        lambda c: Membership.objects.bulk_create([Membership(person=c.bob, team=c.blue, role="crew")]),
        lambda c: Membership.objects.abulk_create([Membership(person=c.bob, team=c.blue, role="crew")]),
        JOINED,
    ),
    Path("a row of the through model is saved", _promote, _apromote, PROMOTED),
    Path("a row of the through model is saved without a change", lambda c: c.link.save(), lambda c: c.link.asave(), []),
    Path(
        "rows of the through model are updated",
        lambda c: Membership.objects.filter(role="lead").update(role="chair"),
        lambda c: Membership.objects.filter(role="lead").aupdate(role="chair"),
        PROMOTED,
    ),
    Path(
        "a row of the through model moves to another owner",
        _move,
        _amove,
        [*LEFT, Entry("~", "bob", teams=[member("red", "lead")])],
    ),
    Path(
        "rows of the through model move to another owner",
        lambda c: Membership.objects.update(person=c.bob),
        lambda c: Membership.objects.aupdate(person=c.bob),
        [*LEFT, Entry("~", "bob", teams=[member("red", "lead")])],
    ),
    Path("a row of the through model goes", lambda c: c.link.delete(), lambda c: c.link.adelete(), LEFT),
    Path(
        "rows of the through model go",
        lambda c: Membership.objects.all().delete(),
        lambda c: Membership.objects.all().adelete(),
        LEFT,
    ),
]


LINK_TABLES = {
    "forward": (linked, FORWARD),
    "reverse": (linked, REVERSE),
    "through rows": (linked, THROUGH_ROWS),
    "to itself": (people, TO_ITSELF),
    "through a model": (members, THROUGH),
}
