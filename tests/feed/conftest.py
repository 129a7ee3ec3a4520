"""What the feed's tests share."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any, TypeVar

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from koherent.conf import settings
from koherent.feed import FeedItem
from koherent.feed import hub as hubs
from koherent.policy import Viewer

R = TypeVar("R")
SECONDS = 20.0


async def do(function: Callable[..., R], *args: Any) -> R:
    """Run synchronous code in asgiref's thread, whose connection would otherwise outlive the tests."""

    def work() -> R:
        try:
            return function(*args)
        finally:
            connections.close_all()

    return await sync_to_async(work)()


async def following(stream: AsyncGenerator[FeedItem, None]) -> FeedItem:
    """The stream's next item, within a time that no healthy run needs."""
    return await asyncio.wait_for(anext(stream), SECONDS)


async def entries(stream: AsyncGenerator[FeedItem, None], count: int) -> list[FeedItem]:
    """The stream's next ``count`` items that are entries."""
    found: list[FeedItem] = []
    while len(found) < count:
        item = await following(stream)
        if item.entry is not None:
            found.append(item)
    return found


def names(items: list[FeedItem]) -> list[str]:
    """The objects' names in the items' entries."""
    return [item.entry.row.name for item in items if item.entry is not None]


@pytest.fixture(autouse=True)
def _prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failing reads are tried again soon."""
    monkeypatch.setattr(hubs, "BACKOFF_SECONDS", (0.02, 0.1))


@pytest.fixture
def root(transactional_db: None) -> Viewer:
    """A superuser who watches."""
    from django.contrib.auth.models import User

    return Viewer(user=User.objects.create_superuser("watcher", password="not-used"))


@pytest.fixture
def _without_doorbell(monkeypatch: pytest.MonkeyPatch) -> None:
    """No ring ever arrives: only the poll is left."""
    monkeypatch.setattr("koherent.commits.on_committed", [])
    assert settings().feed_poll_seconds > 0
