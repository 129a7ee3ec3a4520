"""Every kind of manager, and the models that share a row: proxies, multi-table children; and another database."""

from typing import Any

from tests.wide.models import Alarm, Article, Elsewhere, Headline, Notice, Truck, Vehicle
from tests.wide.paths import Path
from tests.wide.trail import Case, Entry


def articles() -> Case:
    """``draft`` is not public, ``news`` is; both are headlines, too."""
    draft, news = Article.objects.create(name="draft"), Article.objects.create(name="news", public=True)
    return Case(draft=draft, news=news, headline=Headline.lines.get(pk=draft.pk))


def _rename(c: Any) -> None:
    c.headline.name = "renamed"
    c.headline.save()


async def _arename(c: Any) -> None:
    c.headline.name = "renamed"
    await c.headline.asave()


RENAMED = [Entry("~", "draft", name="renamed")]
MANAGERS = [
    Path(
        "own: a method that creates",
        lambda c: Article.published.announce("new"),
        None,
        [Entry("+", "Article:new", public=True)],
    ),
    Path(
        "own: a queryset's method that updates",
        lambda c: c.draft.__class__.objects.filter(name="draft").publish(),
        None,
        [Entry("~", "draft", public=True)],
    ),
    Path(
        "own: a filtering manager updates what it sees",
        lambda c: Article.published.update(name="old"),
        lambda c: Article.published.aupdate(name="old"),
        [Entry("~", "news", name="old")],
    ),
    Path(
        "own: what a filtering manager no longer sees afterwards is recorded",
        lambda c: Article.published.update(public=False),
        lambda c: Article.published.aupdate(public=False),
        [Entry("~", "news", public=False)],
    ),
    Path(
        "own: a filtering manager deletes what it sees",
        lambda c: Article.published.all().delete(),
        lambda c: Article.published.all().adelete(),
        [Entry("-", "news")],
    ),
    Path(
        "default manager",
        lambda c: Article._default_manager.bulk_create([Article(name="new")]),
        lambda c: Article._default_manager.abulk_create([Article(name="new")]),
        [Entry("+", "Article:new", public=False)],
    ),
    Path(
        "base manager",
        lambda c: Article._base_manager.filter(name="draft").update(name="renamed"),
        lambda c: Article._base_manager.filter(name="draft").aupdate(name="renamed"),
        RENAMED,
    ),
    Path("proxy: save", _rename, _arename, RENAMED),
    Path("proxy: delete", lambda c: c.headline.delete(), lambda c: c.headline.adelete(), [Entry("-", "draft")]),
    Path(
        "proxy: create",
        lambda c: Headline.lines.create(name="new"),
        lambda c: Headline.lines.acreate(name="new"),
        [Entry("+", "Article:new", public=False)],
    ),
    Path(
        "proxy: bulk_create",
        lambda c: Headline.lines.bulk_create([Headline(name="new")]),
        lambda c: Headline.lines.abulk_create([Headline(name="new")]),
        [Entry("+", "Article:new", public=False)],
    ),
    Path(
        "proxy: update",
        lambda c: Headline.lines.filter(name="draft").update(name="renamed"),
        lambda c: Headline.lines.filter(name="draft").aupdate(name="renamed"),
        RENAMED,
    ),
    Path(
        "proxy: queryset delete",
        lambda c: Headline.lines.all().delete(),
        lambda c: Headline.lines.all().adelete(),
        [Entry("-", "draft"), Entry("-", "news")],
    ),
]


def notices() -> Case:
    """One of each concrete child of an abstract model."""
    return Case(notice=Notice.notices.post("notice"), alarm=Alarm.notices.post("alarm"))


INHERITED = [
    Path(
        "a method of the inherited manager",
        lambda c: (Notice.notices.post("new"), Alarm.notices.post("loud")),
        None,
        [Entry("+", "Notice:new"), Entry("+", "Alarm:loud", level=0)],
    ),
    Path(
        "update",
        lambda c: Alarm.notices.update(level=3),
        lambda c: Alarm.notices.aupdate(level=3),
        [Entry("~", "alarm", level=3)],
    ),
    Path("delete", lambda c: c.notice.delete(), lambda c: c.notice.adelete(), [Entry("-", "notice")]),
]


def trucks() -> Case:
    """A row of a multi-table child, and its parent row."""
    truck = Truck.objects.create(name="truck", load=1)
    return Case(truck=truck, vehicle=Vehicle.objects.get())


def _repaint(c: Any) -> None:
    c.truck.name = "red truck"
    c.truck.save()


def _load(c: Any) -> None:
    c.truck.load = 2
    c.truck.save()


MULTI_TABLE = [
    Path(
        "create",
        lambda c: Truck.objects.create(name="new", load=7),
        lambda c: Truck.objects.acreate(name="new", load=7),
        [Entry("+", "Truck:new", load=7), Entry("+", "Vehicle:new")],
    ),
    Path(
        "save: a column of the parent",
        _repaint,
        None,
        [Entry("~", "truck", name="red truck"), Entry("~", "vehicle", name="red truck")],
    ),
    Path("save: a column of the child", _load, None, [Entry("~", "truck", load=2)]),
    Path(
        "update: columns of both",
        lambda c: Truck.objects.update(name="red truck", load=2),
        lambda c: Truck.objects.aupdate(name="red truck", load=2),
        [Entry("~", "truck", name="red truck", load=2), Entry("~", "vehicle", name="red truck")],
    ),
    Path(
        "update: through the parent",
        lambda c: Vehicle.objects.update(name="red truck"),
        lambda c: Vehicle.objects.aupdate(name="red truck"),
        [Entry("~", "truck", name="red truck"), Entry("~", "vehicle", name="red truck")],
    ),
    Path(
        "delete", lambda c: c.truck.delete(), lambda c: c.truck.adelete(), [Entry("-", "truck"), Entry("-", "vehicle")]
    ),
    Path(
        "delete: through the parent",
        lambda c: c.vehicle.delete(),
        lambda c: c.vehicle.adelete(),
        [Entry("-", "truck"), Entry("-", "vehicle")],
    ),
]


def elsewhere() -> Case:
    """A row on the second database."""
    return Case(there=Elsewhere.objects.create(name="there"))


def _recount(c: Any) -> None:
    c.there.amount = 4
    c.there.save()


OTHER_DATABASE = [
    Path(
        "create",
        lambda c: Elsewhere.objects.create(name="new"),
        lambda c: Elsewhere.objects.acreate(name="new"),
        [Entry("+", "Elsewhere:new", amount=0)],
    ),
    Path("save", _recount, None, [Entry("~", "there", amount=4)]),
    Path(
        "update",
        lambda c: Elsewhere.objects.update(amount=4),
        lambda c: Elsewhere.objects.aupdate(amount=4),
        [Entry("~", "there", amount=4)],
    ),
    Path(
        "bulk_create",
        lambda c: Elsewhere.objects.using("other").bulk_create([Elsewhere(name="new")]),
        lambda c: Elsewhere.objects.using("other").abulk_create([Elsewhere(name="new")]),
        [Entry("+", "Elsewhere:new", amount=0)],
    ),
    Path("delete", lambda c: c.there.delete(), lambda c: c.there.adelete(), [Entry("-", "there")]),
    Path(
        "queryset delete",
        lambda c: Elsewhere.objects.all().delete(),
        lambda c: Elsewhere.objects.all().adelete(),
        [Entry("-", "there")],
    ),
]


MANAGER_TABLES = {
    "managers": (articles, MANAGERS),
    "inherited": (notices, INHERITED),
    "multi-table": (trucks, MULTI_TABLE),
    "other database": (elsewhere, OTHER_DATABASE),
}
