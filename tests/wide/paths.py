"""Every way to write rows of one model, for each kind of primary key, with the entries that it must leave."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from django.db.models import F, Subquery

from tests.wide.models import Calibration, Instrument, Reagent, Unit
from tests.wide.trail import Case, Entry


@dataclass(frozen=True)
class Path:
    """One way to write: the write, its async twin where Django has one, and the entries it must leave."""

    name: str
    write: Callable[[Any], object]
    twin: Callable[[Any], Awaitable[object]] | None
    entries: list[Entry]
    raises: type[Exception] | None = None


@dataclass(frozen=True)
class KeyKind:
    """A kind of primary key: how to make an object of that model, and what identifies it but its key."""

    name: str
    model: Any
    fresh: Callable[[str], Any]
    unique: str


def _calibration(name: str) -> Calibration:
    return Calibration(instrument=Instrument.objects.create(code=f"for-{name}", name=name), name=name)


KINDS = {
    kind.name: kind
    for kind in (
        KeyKind("integer", Instrument, lambda name: Instrument(code=name, name=name), "code"),
        KeyKind("uuid", Reagent, lambda name: Reagent(name=name), "id"),
        KeyKind("text", Unit, lambda name: Unit(code=name, name=name), "code"),
        KeyKind("foreign key", Calibration, _calibration, "instrument"),
    )
}


class RowsCase(Case):
    """Objects ``first`` (also as ``deferred``) and ``second`` that are there, ``new`` and ``newer`` that are not."""

    def __init__(self, kind: KeyKind) -> None:
        self.kind, self.model, self.objects = kind, kind.model, kind.model.objects
        made = {name: kind.fresh(name) for name in ("first", "second", "new", "newer")}
        made["first"].save()
        made["second"].save()
        super().__init__(**made)
        self.deferred = self.objects.only("pk").get(pk=self.first.pk)

    @property
    def both(self) -> Any:
        """The two that are there."""
        return self.objects.filter(pk__in=[self.first.pk, self.second.pk])

    def key(self, of: str) -> tuple[str, str]:
        """Those that the write makes are found by what identifies them."""
        if of in self._keys:
            return super().key(of)
        found = self.model._base_manager.get(**self.identity(of))
        return self.model._meta.label_lower, str(found.pk)

    def identity(self, of: str) -> dict[str, Any]:
        """The look-up of an object that is or would be there."""
        return {self.kind.unique: getattr(getattr(self, of), self.kind.unique)}

    def set(self, of: str = "first", **values: Any) -> Any:
        """The object with other values in memory."""
        instance = getattr(self, of)
        for name, value in values.items():
            setattr(instance, name, value)
        return instance

    def conflicting(self, of: str = "first", **values: Any) -> Any:
        """A new instance that the database takes for the same object."""
        return self.model(**self.identity(of), **values)


def _taken(case: RowsCase) -> list[Any]:
    return [case.conflicting(name="taken", amount=1), case.new]


NEW = Entry("+", "new", name="new", amount=0)
NEWER = Entry("+", "newer", name="newer", amount=0)
RENAMED = Entry("~", "first", name="renamed")
GONE, SECOND_GONE = Entry("-", "first"), Entry("-", "second")
COUNTED = [Entry("~", "first", amount=1), Entry("~", "second", amount=1)]
UPSERTED = [Entry("~", "first", name="taken", amount=1), NEW]


def _name_of_second(case: RowsCase) -> Subquery:
    return Subquery(case.objects.filter(pk=case.second.pk).values("name"))


def _double(case: RowsCase) -> None:
    case.set(name="once").save()
    case.set(name="twice").save()


async def _adouble(case: RowsCase) -> None:
    await case.set(name="once").asave()
    await case.set(name="twice").asave()


def _again(case: RowsCase) -> None:
    same = {"pk": case.first.pk, **case.identity("first")}
    case.first.delete()
    case.model.objects.create(**same, name="again")


async def _aagain(case: RowsCase) -> None:
    same = {"pk": case.first.pk, **case.identity("first")}
    await case.first.adelete()
    await case.model.objects.acreate(**same, name="again")


def _upsert(case: RowsCase, **options: Any) -> dict[str, Any]:
    return {
        "update_conflicts": True,
        "unique_fields": [case.kind.unique],
        "update_fields": ["name", "amount"],
    } | options


ROW_PATHS = [
    Path("save: new", lambda c: c.new.save(), lambda c: c.new.asave(), [NEW]),
    Path(
        "save: new, forced",
        lambda c: c.new.save(force_insert=True),
        lambda c: c.new.asave(force_insert=True),
        [NEW],
    ),
    Path(
        "save: changed",
        lambda c: c.set(name="renamed", amount=3).save(),
        lambda c: c.set(name="renamed", amount=3).asave(),
        [Entry("~", "first", name="renamed", amount=3)],
    ),
    Path(
        "save: changed, forced",
        lambda c: c.set(name="renamed").save(force_update=True),
        lambda c: c.set(name="renamed").asave(force_update=True),
        [RENAMED],
    ),
    Path(
        "save: update_fields writes and records those alone",
        lambda c: c.set(name="renamed", amount=9).save(update_fields=["name"]),
        lambda c: c.set(name="renamed", amount=9).asave(update_fields=["name"]),
        [RENAMED],
    ),
    Path(
        "save: empty update_fields",
        lambda c: c.set(name="renamed").save(update_fields=[]),
        lambda c: c.set(name="renamed").asave(update_fields=[]),
        [],
    ),
    Path(
        "save: an expression is recorded as computed",
        lambda c: c.set(amount=F("amount") + 4).save(),
        lambda c: c.set(amount=F("amount") + 4).asave(),
        [Entry("~", "first", amount=4)],
    ),
    Path(
        "save: deferred fields are recorded as they are",
        lambda c: c.set("deferred", name="renamed").save(),
        lambda c: c.set("deferred", name="renamed").asave(),
        [RENAMED],
    ),
    Path("save: nothing changed", lambda c: c.first.save(), lambda c: c.first.asave(), []),
    Path(
        "save: twice",
        _double,
        _adouble,
        [Entry("~", "first", name="once"), Entry("~", "first", name="twice")],
    ),
    Path("delete", lambda c: c.first.delete(), lambda c: c.first.adelete(), [GONE]),
    Path(
        "delete, and made again under the same key",
        _again,
        _aagain,
        [GONE, Entry("+", "first", name="again", amount=0)],
    ),
    Path(
        "create",
        lambda c: c.objects.create(**c.identity("new"), name="new"),
        lambda c: c.objects.acreate(**c.identity("new"), name="new"),
        [NEW],
    ),
    Path(
        "get_or_create: made",
        lambda c: c.objects.get_or_create(**c.identity("new"), defaults={"name": "new"}),
        lambda c: c.objects.aget_or_create(**c.identity("new"), defaults={"name": "new"}),
        [NEW],
    ),
    Path(
        "get_or_create: found",
        lambda c: c.objects.get_or_create(**c.identity("first"), defaults={"name": "other"}),
        lambda c: c.objects.aget_or_create(**c.identity("first"), defaults={"name": "other"}),
        [],
    ),
    Path(
        "update_or_create: made",
        lambda c: c.objects.update_or_create(**c.identity("new"), defaults={"name": "new"}),
        lambda c: c.objects.aupdate_or_create(**c.identity("new"), defaults={"name": "new"}),
        [NEW],
    ),
    Path(
        "update_or_create: changed",
        lambda c: c.objects.update_or_create(**c.identity("first"), defaults={"name": "renamed"}),
        lambda c: c.objects.aupdate_or_create(**c.identity("first"), defaults={"name": "renamed"}),
        [RENAMED],
    ),
    Path(
        "update_or_create: nothing changed",
        lambda c: c.objects.update_or_create(**c.identity("first"), defaults={"name": "first"}),
        lambda c: c.objects.aupdate_or_create(**c.identity("first"), defaults={"name": "first"}),
        [],
    ),
    Path("update", lambda c: c.both.update(amount=1), lambda c: c.both.aupdate(amount=1), COUNTED),
    Path(
        "update: an expression is recorded as computed",
        lambda c: c.both.update(amount=F("amount") + 1),
        lambda c: c.both.aupdate(amount=F("amount") + 1),
        COUNTED,
    ),
    Path(
        "update: rows that stop matching are recorded",
        lambda c: c.objects.filter(name="first").update(name="renamed"),
        lambda c: c.objects.filter(name="first").aupdate(name="renamed"),
        [RENAMED],
    ),
    Path(
        "update: only what changes is recorded",
        lambda c: c.both.update(name="first"),
        lambda c: c.both.aupdate(name="first"),
        [Entry("~", "second", name="first")],
    ),
    Path(
        "update: no row", lambda c: c.objects.none().update(amount=1), lambda c: c.objects.none().aupdate(amount=1), []
    ),
    Path(
        "update: found by a subquery of itself",
        lambda c: c.objects.filter(pk__in=c.objects.filter(name="first")).update(name="renamed"),
        lambda c: c.objects.filter(pk__in=c.objects.filter(name="first")).aupdate(name="renamed"),
        [RENAMED],
    ),
    Path(
        "update: a value from a subquery",
        lambda c: c.objects.filter(name="first").update(name=_name_of_second(c)),
        lambda c: c.objects.filter(name="first").aupdate(name=_name_of_second(c)),
        [Entry("~", "first", name="second")],
    ),
    Path(
        "update: of a distinct, annotated queryset",
        lambda c: c.both.annotate(more=F("amount") + 1).filter(more=1).distinct().update(amount=F("more")),
        lambda c: c.both.annotate(more=F("amount") + 1).filter(more=1).distinct().aupdate(amount=F("more")),
        COUNTED,
    ),
    Path(
        "update: of an ordered queryset",
        lambda c: c.both.order_by("name").update(amount=1),
        lambda c: c.both.order_by("name").aupdate(amount=1),
        COUNTED,
    ),
    Path("queryset delete", lambda c: c.both.delete(), lambda c: c.both.adelete(), [GONE, SECOND_GONE]),
    Path(
        "bulk_create",
        lambda c: c.objects.bulk_create([c.new, c.newer]),
        lambda c: c.objects.abulk_create([c.new, c.newer]),
        [NEW, NEWER],
    ),
    Path(
        "bulk_create: in batches",
        lambda c: c.objects.bulk_create([c.new, c.newer], batch_size=1),
        lambda c: c.objects.abulk_create([c.new, c.newer], batch_size=1),
        [NEW, NEWER],
    ),
    Path("bulk_create: nothing", lambda c: c.objects.bulk_create([]), lambda c: c.objects.abulk_create([]), []),
    Path(
        "bulk_create: ignored conflicts are not recorded",
        lambda c: c.objects.bulk_create(_taken(c), ignore_conflicts=True),
        lambda c: c.objects.abulk_create(_taken(c), ignore_conflicts=True),
        [NEW],
    ),
    Path(
        "bulk_create: updated conflicts are changes",
        lambda c: c.objects.bulk_create(_taken(c), **_upsert(c)),
        lambda c: c.objects.abulk_create(_taken(c), **_upsert(c)),
        UPSERTED,
    ),
    Path(
        "bulk_create: updated conflicts, in batches",
        lambda c: c.objects.bulk_create(_taken(c), **_upsert(c, batch_size=1)),
        lambda c: c.objects.abulk_create(_taken(c), **_upsert(c, batch_size=1)),
        UPSERTED,
    ),
    Path(
        "bulk_create: updated conflicts that change nothing are not recorded",
        lambda c: c.objects.bulk_create([c.conflicting(name="first"), c.new], **_upsert(c, update_fields=["name"])),
        lambda c: c.objects.abulk_create([c.conflicting(name="first"), c.new], **_upsert(c, update_fields=["name"])),
        [NEW],
    ),
    Path(
        "bulk_update",
        lambda c: c.objects.bulk_update([c.set(amount=1), c.set("second", amount=1)], ["amount"]),
        lambda c: c.objects.abulk_update([c.set(amount=1), c.set("second", amount=1)], ["amount"]),
        COUNTED,
    ),
    Path(
        "bulk_update: writes and records the named fields alone, in batches",
        lambda c: c.objects.bulk_update(
            [c.set(amount=1, name="unwritten"), c.set("second", amount=1)], ["amount"], batch_size=1
        ),
        lambda c: c.objects.abulk_update(
            [c.set(amount=1, name="unwritten"), c.set("second", amount=1)], ["amount"], batch_size=1
        ),
        COUNTED,
    ),
    Path(
        "bulk_update: an expression is recorded as computed",
        lambda c: c.objects.bulk_update([c.set(amount=F("amount") + 1), c.set("second", amount=1)], ["amount"]),
        lambda c: c.objects.abulk_update([c.set(amount=F("amount") + 1), c.set("second", amount=1)], ["amount"]),
        COUNTED,
    ),
    Path(
        "bulk_update: nothing changed",
        lambda c: c.objects.bulk_update([c.first, c.second], ["amount"]),
        lambda c: c.objects.abulk_update([c.first, c.second], ["amount"]),
        [],
    ),
]
