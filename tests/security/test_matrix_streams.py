"""The matrix, mid-stream: what a subscription shows to each kind of user, and how it ends when rights are lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import Permission, User

from example_schema.models import Dataset, Image, Project
from tests.security.matrix import KINDS, Kind, Sight, visit, wrong
from tests.security.questions import selection
from tests.security.world import World, context_of, schema

pytestmark = pytest.mark.django_db(transaction=True)

LIVE = f"subscription($filters: HistoryFilter) {{ historyEntries(filters: $filters) {selection('HistoryFeedItem')} }}"
SECONDS = 20.0
OPEN = [kind for kind in KINDS if not kind.refused]


class Stream:
    """A subscription of one user, begun: its first checkpoint has come."""

    def __init__(self, user: Any, filters: Any = None) -> None:
        self.user, self.filters = user, filters
        self.items: list[Any] = []
        self._source: AsyncIterator[Any] | None = None

    async def begin(self) -> list[Any]:
        """The codes of its refusal; none when it runs."""
        context = await sync_to_async(context_of)(self.user)
        self._source = await schema.subscribe(LIVE, {"filters": self.filters}, context_value=context)
        return await self.next()

    async def next(self) -> list[Any]:
        """Take one item; the errors' extensions, when there is none."""
        assert self._source is not None
        result = await asyncio.wait_for(anext(self._source), SECONDS)
        if result.errors:
            return [error.extensions for error in result.errors]
        self.items.append(result.data["historyEntries"])
        return []

    async def until(self, title: str) -> None:
        """Take items up to the entry of this label."""
        while not (self.items[-1]["entry"] and self.items[-1]["entry"]["objectLabel"] == title):
            assert await self.next() == []

    async def end(self) -> None:
        close: Any = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


def change(world: World) -> None:
    """Something of each model, secretly and openly."""
    with world.secretly("live"):
        Project.objects.filter(pk=world.project.pk).update(name="hidden name")
        Dataset.objects.filter(pk=world.dataset.pk).update(title="hidden title")
    with world.openly("live"):
        Project.objects.filter(pk=world.project.pk).update(name="shown")
        world.tag.name = "of-t4gs, shown"
        world.tag.save()
        Image.objects.create(dataset=world.dataset, name="shown", width=1, height=1)
        Dataset.objects.filter(pk=world.dataset.pk).update(title="end", access_notes="s3cret notes")


async def test_each_kind_of_user_is_told_what_it_may_see(world: World) -> None:
    streams = {kind: Stream(await sync_to_async(kind.make)()) for kind in KINDS}
    for kind, stream in streams.items():
        assert await stream.begin() == ([{"code": kind.refused}] if kind.refused else []), kind.name
    await sync_to_async(change)(world)
    for kind in OPEN:
        stream, sight = streams[kind], Sight(kind)
        await stream.until("end")
        await sync_to_async(lambda sight=sight: sight.rows)()
        told = [item["entry"]["objectLabel"] for item in stream.items if item["entry"]]
        assert len(told) == len(kind.reads) + 2 * kind.sees_all, kind.name
        for item in stream.items:
            assert wrong(sight, item) == [], kind.name
        assert {name for name, *_ in visit(stream.items)} >= {"HistoryFeedItem.cursor", "DatasetHistory.record"}
    for stream in streams.values():
        await stream.end()


def deactivated(user: User) -> None:
    User.objects.filter(pk=user.pk).update(is_active=False)


def gone(user: User) -> None:
    User.objects.filter(pk=user.pk).delete()


def without_datasets(user: User) -> None:
    user.user_permissions.remove(Permission.objects.get(codename="view_historicaldataset"))


def without_all(user: User) -> None:
    user.user_permissions.clear()


LOSSES: list[tuple[Callable[[User], None], str]] = [
    (deactivated, "UNAUTHENTICATED"),
    (gone, "UNAUTHENTICATED"),
    (without_datasets, "FORBIDDEN"),
    (without_all, "FORBIDDEN"),
]


async def test_rights_that_are_lost_end_the_stream_before_the_next_entry(world: World) -> None:
    reader = next(kind for kind in OPEN if kind.name == "reads all")
    streams = []
    for lose, code in LOSSES:
        kind = Kind(lose.__name__, reads=reader.reads)
        stream = Stream(await sync_to_async(kind.make)())
        assert await stream.begin() == []
        streams.append((stream, lose, code))
    for stream, lose, _ in streams:
        await sync_to_async(lose)(stream.user)
    await sync_to_async(change)(world)
    for stream, _, code in streams:
        [extensions] = await stream.next()
        assert extensions == {"code": code, "cursor": stream.items[-1]["cursor"]}
        assert [item["entry"] for item in stream.items] == [None]
        await stream.end()


async def test_a_model_that_the_filters_leave_out_may_be_lost(world: World) -> None:
    kind = Kind("of projects", reads=frozenset({"project", "dataset"}))
    stream = Stream(await sync_to_async(kind.make)(), {"models": ["example_schema.project"]})
    assert await stream.begin() == []
    await sync_to_async(without_datasets)(stream.user)
    await sync_to_async(change)(world)
    await stream.until("shown")
    assert [item["entry"]["model"] for item in stream.items[1:]] == ["example_schema.project"]
    await stream.end()
