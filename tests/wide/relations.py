"""Every way to write across a foreign key or a generic relation, and what a deletion does to others."""

from collections.abc import Callable
from typing import Any

from django.db.models import ProtectedError, RestrictedError

from tests.wide.models import (
    Book,
    Chapter,
    Chicken,
    Comment,
    Dependent,
    Egg,
    Folder,
    Instrument,
    Reagent,
    Sticker,
    Unit,
)
from tests.wide.paths import Path
from tests.wide.trail import Case, Entry


def pk(of: str) -> Callable[[Any], Any]:
    """The key of an object of the case, for a foreign key's expected value."""
    return lambda case: getattr(case, of).pk


def text(of: str) -> Callable[[Any], str]:
    """The same as text, as generic relations store it."""
    return lambda case: str(getattr(case, of).pk)


def folders() -> Case:
    """``top`` holds ``left`` and ``right``, ``left`` holds ``deep``; ``loose`` is nowhere."""
    top, loose = Folder.objects.create(name="top"), Folder.objects.create(name="loose")
    left, right = (Folder.objects.create(name=name, parent=top) for name in ("left", "right"))
    deep = Folder.objects.create(name="deep", parent=left)
    return Case(top=top, loose=loose, left=left, right=right, deep=deep)


def moved(of: str, to: str | None) -> Entry:
    """An entry of a folder with another parent."""
    return Entry("~", of, parent_id=None if to is None else pk(to))


FOREIGN_KEYS = [
    Path(
        "add",
        lambda c: c.top.children.add(c.loose, c.deep),
        lambda c: c.top.children.aadd(c.loose, c.deep),
        [moved("loose", "top"), moved("deep", "top")],
    ),
    Path(
        "add: one by one",
        lambda c: c.top.children.add(c.loose, c.deep, bulk=False),
        lambda c: c.top.children.aadd(c.loose, c.deep, bulk=False),
        [moved("loose", "top"), moved("deep", "top")],
    ),
    Path("add: there already", lambda c: c.top.children.add(c.left), lambda c: c.top.children.aadd(c.left), []),
    Path(
        "remove",
        lambda c: c.top.children.remove(c.left),
        lambda c: c.top.children.aremove(c.left),
        [moved("left", None)],
    ),
    Path(
        "remove: one by one",
        lambda c: c.top.children.remove(c.left, bulk=False),
        lambda c: c.top.children.aremove(c.left, bulk=False),
        [moved("left", None)],
    ),
    Path(
        "set",
        lambda c: c.top.children.set([c.left, c.loose]),
        lambda c: c.top.children.aset([c.left, c.loose]),
        [moved("right", None), moved("loose", "top")],
    ),
    Path(
        "clear",
        lambda c: c.top.children.clear(),
        lambda c: c.top.children.aclear(),
        [moved("left", None), moved("right", None)],
    ),
    Path(
        "create",
        lambda c: c.top.children.create(name="new"),
        lambda c: c.top.children.acreate(name="new"),
        [Entry("+", "Folder:new", parent_id=pk("top"))],
    ),
    Path(
        "get_or_create",
        lambda c: c.top.children.get_or_create(name="new"),
        lambda c: c.top.children.aget_or_create(name="new"),
        [Entry("+", "Folder:new", parent_id=pk("top"))],
    ),
    Path(
        "update_or_create",
        lambda c: c.top.children.update_or_create(name="left", defaults={"name": "west"}),
        lambda c: c.top.children.aupdate_or_create(name="left", defaults={"name": "west"}),
        [Entry("~", "left", name="west")],
    ),
    Path(
        "update",
        lambda c: c.top.children.filter(name="left").update(name="west"),
        lambda c: c.top.children.filter(name="left").aupdate(name="west"),
        [Entry("~", "left", name="west")],
    ),
    Path(
        "update: found across the relation",
        lambda c: Folder.objects.filter(parent__name="top").update(name="inside"),
        lambda c: Folder.objects.filter(parent__name="top").aupdate(name="inside"),
        [Entry("~", "left", name="inside"), Entry("~", "right", name="inside")],
    ),
    Path(
        "delete: found across the relation",
        lambda c: Folder.objects.filter(parent__name="left").delete(),
        lambda c: Folder.objects.filter(parent__name="left").adelete(),
        [Entry("-", "deep")],
    ),
    Path(
        "a tree goes",
        lambda c: c.top.delete(),
        lambda c: c.top.adelete(),
        [Entry("-", "top"), Entry("-", "left"), Entry("-", "right"), Entry("-", "deep")],
    ),
    Path(
        "parts of a tree go in one queryset",
        lambda c: Folder.objects.filter(name__in=["left", "loose"]).delete(),
        lambda c: Folder.objects.filter(name__in=["left", "loose"]).adelete(),
        [Entry("-", "left"), Entry("-", "loose"), Entry("-", "deep")],
    ),
]


def commented() -> Case:
    """``full`` has the comment ``good``; ``empty`` has none; ``loose`` is about a reagent."""
    full, empty = (Instrument.objects.create(code=name, name=name) for name in ("full", "empty"))
    good = Comment.objects.create(target=full, text="good")
    loose = Comment.objects.create(target=Reagent.objects.create(name="acid"), text="loose")
    return Case(full=full, empty=empty, good=good, loose=loose, spare=Comment(text="spare"))


GENERIC = [
    Path(
        "add",
        lambda c: c.empty.comments.add(c.good),
        lambda c: c.empty.comments.aadd(c.good),
        [Entry("~", "good", object_key=text("empty"))],
    ),
    Path(
        "add: one by one, a new one",
        lambda c: c.empty.comments.add(c.good, c.spare, bulk=False),
        lambda c: c.empty.comments.aadd(c.good, c.spare, bulk=False),
        [Entry("~", "good", object_key=text("empty")), Entry("+", "Comment:spare", object_key=text("empty"))],
    ),
    Path(
        "remove",
        lambda c: c.full.comments.remove(c.good),
        lambda c: c.full.comments.aremove(c.good),
        [Entry("-", "good")],
    ),
    Path(
        "remove: one by one",
        lambda c: c.full.comments.remove(c.good, bulk=False),
        lambda c: c.full.comments.aremove(c.good, bulk=False),
        [Entry("-", "good")],
    ),
    Path(
        "set",
        lambda c: c.full.comments.set([]),
        lambda c: c.full.comments.aset([]),
        [Entry("-", "good")],
    ),
    Path("clear", lambda c: c.full.comments.clear(), lambda c: c.full.comments.aclear(), [Entry("-", "good")]),
    Path(
        "create",
        lambda c: c.empty.comments.create(text="new"),
        lambda c: c.empty.comments.acreate(text="new"),
        [Entry("+", "Comment:new", object_key=text("empty"))],
    ),
    Path(
        "update_or_create",
        lambda c: c.full.comments.update_or_create(text="good", defaults={"text": "better"}),
        lambda c: c.full.comments.aupdate_or_create(text="good", defaults={"text": "better"}),
        [Entry("~", "good", text="better")],
    ),
    Path(
        "update",
        lambda c: c.full.comments.update(text="better"),
        lambda c: c.full.comments.aupdate(text="better"),
        [Entry("~", "good", text="better")],
    ),
    Path(
        "the target goes",
        lambda c: c.full.delete(),
        lambda c: c.full.adelete(),
        [Entry("-", "full"), Entry("-", "good")],
    ),
]


def dependents() -> Case:
    """For each rule of ``on_delete`` a dependent of ``gone``, named after it; ``kept`` and ``limited`` have to stay."""
    codes = ("default", "stand-in", "gone", "kept", "limited")
    units = {code: Unit.objects.create(code=code, name=code) for code in codes}
    rules = ("cascading", "nulled", "defaulting", "falling_back", "calling", "dangling")
    made = {rule: Dependent.objects.create(name=rule, **{rule: units["gone"]}) for rule in rules}
    Dependent.objects.create(name="protecting", protecting=units["kept"], nulled=units["kept"])
    Dependent.objects.create(name="restricting", restricting=units["limited"], nulled=units["limited"])
    both = Dependent.objects.create(name="both", cascading=units["gone"], nulled=units["gone"])
    return Case(gone=units["gone"], kept=units["kept"], limited=units["limited"], both=both, **made)


SIDE_EFFECTS = [
    Entry("-", "gone"),
    Entry("-", "cascading"),
    Entry("-", "both"),
    Entry("~", "nulled", nulled_id=None),
    Entry("~", "defaulting", defaulting_id=None),
    Entry("~", "falling_back", falling_back_id="default"),
    Entry("~", "calling", calling_id="stand-in"),
]
ON_DELETE = [
    Path("delete", lambda c: c.gone.delete(), lambda c: c.gone.adelete(), SIDE_EFFECTS),
    Path(
        "queryset delete",
        lambda c: Unit.objects.filter(code="gone").delete(),
        lambda c: Unit.objects.filter(code="gone").adelete(),
        SIDE_EFFECTS,
    ),
    Path("protected", lambda c: c.kept.delete(), lambda c: c.kept.adelete(), [], raises=ProtectedError),
    Path("restricted", lambda c: c.limited.delete(), lambda c: c.limited.adelete(), [], raises=RestrictedError),
]


def cycle() -> Case:
    """``hen`` came out of ``egg``, which ``hen`` laid; ``other`` came out of it, too."""
    hen = Chicken.objects.create(name="hen")
    egg = Egg.objects.create(name="egg", chicken=hen)
    hen.egg = egg
    hen.save()
    return Case(hen=hen, egg=egg, other=Chicken.objects.create(name="other", egg=egg))


CYCLE = [
    Path(
        "delete: both go, and a third is changed",
        lambda c: c.hen.delete(),
        lambda c: c.hen.adelete(),
        [Entry("-", "hen"), Entry("-", "egg"), Entry("~", "other", egg_id=None)],
    ),
    Path(
        "delete: one goes, the others are changed",
        lambda c: c.egg.delete(),
        lambda c: c.egg.adelete(),
        [Entry("-", "egg"), Entry("~", "hen", egg_id=None), Entry("~", "other", egg_id=None)],
    ),
    Path(
        "queryset delete: all of them",
        lambda c: Chicken.objects.all().delete(),
        lambda c: Chicken.objects.all().adelete(),
        [Entry("-", "hen"), Entry("-", "egg"), Entry("-", "other")],
    ),
]


def stickers() -> Case:
    """An untracked row refers to a tracked one."""
    instrument = Instrument.objects.create(code="i", name="i")
    sticker = Sticker.objects.create(instrument=instrument, text="s")
    return Case(instrument=instrument, sticker=sticker)


UNTRACKED = [
    Path("save", lambda c: c.sticker.save(), lambda c: c.sticker.asave(), []),
    Path("update", lambda c: Sticker.objects.update(text="t"), lambda c: Sticker.objects.aupdate(text="t"), []),
    Path(
        "delete of what it refers to",
        lambda c: c.instrument.delete(),
        lambda c: c.instrument.adelete(),
        [Entry("-", "instrument")],
    ),
]


def chapters() -> Case:
    """A book with two chapters in order."""
    book = Book.objects.create(name="book")
    one, two = (Chapter.objects.create(book=book, name=name) for name in ("one", "two"))
    return Case(book=book, one=one, two=two)


ORDERED = [
    Path(
        "a new one comes last",
        lambda c: Chapter.objects.create(book=c.book, name="new"),
        lambda c: Chapter.objects.acreate(book=c.book, name="new"),
        [Entry("+", "Chapter:new", _order=2)],
    ),
    Path(
        "set the order",
        lambda c: c.book.set_chapter_order([c.two.pk, c.one.pk]),
        None,
        [Entry("~", "one", _order=1), Entry("~", "two", _order=0)],
    ),
]

RELATION_TABLES = {
    "foreign key": (folders, FOREIGN_KEYS),
    "generic": (commented, GENERIC),
    "on_delete": (dependents, ON_DELETE),
    "cycle": (cycle, CYCLE),
    "untracked": (stickers, UNTRACKED),
    "ordered": (chapters, ORDERED),
}
