"""One subscriber's stream: first a checkpoint, then what it missed, then what comes."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from django.db import DatabaseError, InterfaceError

from koherent.conf import settings
from koherent.errors import FeedOverflow, Forbidden, KoherentError, Unauthenticated
from koherent.feed import cursor as cursors
from koherent.feed.batch import FeedItem, Shared
from koherent.feed.counters import counted, event
from koherent.feed.cursor import Item, Position
from koherent.feed.hub import BACKOFF_SECONDS, READ_LIMIT, Hub, hub
from koherent.feed.queue import Subscription
from koherent.feed.rights import Terms, Wish
from koherent.policy import Viewer
from koherent.timeline import EVERYTHING, Entry, Filters, Wanted

R = TypeVar("R")

CHECKPOINT_SECONDS = 25.0
logger = logging.getLogger("koherent.feed")


def matches(entry: Entry, filters: Filters) -> bool:
    """Whether the entry passes the filters: None filters nothing, an empty list lets nothing pass."""
    row: Any = entry.columns
    return (
        (filters.models is None or entry.tracked.label in {label.lower() for label in filters.models})
        and (filters.object_id is None or entry.object_id == filters.object_id)
        and (filters.users is None or row.actor_id in {str(user) for user in filters.users})
        and (filters.apps is None or row.app in filters.apps)
        and (filters.assignation_id is None or row.assignation_id == filters.assignation_id)
        and (filters.assigned is None or (row.assignation_id is not None) == filters.assigned)
        and (filters.actions is None or entry.action in filters.actions)
        and (filters.since is None or entry.date >= filters.since)
        and (filters.until is None or entry.date < filters.until)
    )


class _Stream:
    def __init__(self, hub: Hub, subscription: Subscription) -> None:
        self.hub, self.subscription = hub, subscription
        self.cursor: str | None = None
        self.said = time.monotonic()

    def say(self, item: FeedItem) -> FeedItem:
        self.cursor = item.cursor
        self.said = time.monotonic()
        return item

    def checkpoint(self, position: Position) -> FeedItem:
        return self.say(FeedItem(position.cursor))

    async def run(self, terms: Terms, after: str | None) -> AsyncGenerator[FeedItem]:
        self.subscription.terms = terms
        if after is None:
            position = await self.hub.call(cursors.current_position)
        else:
            position = await self.hub.call(cursors.parse, after)
        yield self.checkpoint(position)
        more = after is not None
        while more or self.subscription.lost:
            # What is read below need not wait in the queue; what comes after it will.
            if self.subscription.lost or not more:
                self.subscription.restart()
            limit = min(READ_LIMIT, settings().feed_queue)
            read = await self._patiently(self.hub.call, cursors.read_kept, position, limit)
            async for item in self._deliver(terms, self._own(read.items, read.position, terms), None):
                yield item
            position, more = read.position, read.more
        self.subscription.replaying = False
        start = position
        while True:
            wait = CHECKPOINT_SECONDS - (time.monotonic() - self.said)
            batch = await self.subscription.get(max(wait, 0))
            if self.subscription.lost:
                raise FeedOverflow("The subscriber did not keep up. Subscribe again with the cursor.")
            if batch is None:
                await self._authorise(terms, position)
                # The queue may have filled meanwhile: a checkpoint never lies beyond what waits in it.
                position = self.subscription.tail or position
                yield self.checkpoint(position)
                continue
            async for item in self._deliver(terms, batch, start):
                yield item
            position = batch.position
            self.subscription.progress()

    def _own(self, items: Sequence[Item], position: Position, terms: Terms) -> Shared:
        """A batch that nobody else reads."""
        return Shared(items, position, self.hub, lambda: [terms])

    async def _authorise(self, terms: Terms, position: Position) -> None:
        """Raises why the stream must end. Idle subscribers look it up together."""
        latest = self.subscription.latest or self._own((), position, terms)
        await self._patiently(latest.rights, terms, self.subscription.rights_since)

    async def _deliver(self, terms: Terms, batch: Shared, start: Position | None) -> AsyncGenerator[FeedItem]:
        """The entries of a batch that lie after ``start``; a checkpoint when one is due."""
        items = [item for item in batch.items if start is None or not start.covers(item.key)]
        if terms.chosen:
            items = [item for item in items if item.key.label in terms.labels]
        if items:
            labels = {item.key.label for item in items}
            shown = await self._patiently(batch.view, terms, labels, self.subscription.rights_since)
            for item in items:
                if batch.is_stale(self.subscription.rights_since):
                    # It takes its time, or something has changed meanwhile.
                    shown = await self._patiently(batch.view, terms, labels, self.subscription.rights_since)
                found = shown.get(item.pair)
                if found is not None and found.entry is not None and matches(found.entry, terms.filters):
                    counted.deliveries += 1
                    if start is not None:
                        counted.lag = max(time.time() - found.entry.date.timestamp(), 0.0)
                    yield self.say(found)
                    self.subscription.progress()
                    if self.subscription.lost and start is not None:
                        return
        elif batch.recheck:
            await self._patiently(batch.rights, terms, self.subscription.rights_since)
        if time.monotonic() - self.said >= CHECKPOINT_SECONDS:
            await self._authorise(terms, batch.position)
            yield self.checkpoint(batch.position)

    async def _patiently(self, work: Callable[..., Awaitable[R]], *args: Any) -> R:
        """What ``work`` gives, through failures of the database."""
        backoff = BACKOFF_SECONDS[0]
        while True:
            try:
                return await work(*args)
            except (DatabaseError, InterfaceError):
                logger.exception(
                    "a subscriber's entries cannot be read; next try in %.1f s",
                    backoff,
                    extra=event("subscriber_read_failed", delay=backoff),
                )
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])


async def subscribe(
    viewer: Viewer,
    filters: Filters | None = None,
    after: str | None = None,
    *,
    wanted: Wanted = EVERYTHING,
    language: str | None = None,
) -> AsyncGenerator[FeedItem]:
    """The viewer's live trail, in the order of commits; every entry at least once after ``after`` (default: now).

    The first item is a checkpoint, and one comes at least every 30 s. ``wanted`` are the parts of entries that are
    needed, ``language`` is that of their labels (default: the project's). The account, its session and the policy are
    asked again for every batch. Raises ``Unauthenticated``, ``Forbidden``, ``BadCursor``, ``CursorExpired`` and, for a
    subscriber that does not keep up, ``FeedOverflow``; once the stream runs, the error's ``cursor`` field resumes it.
    Close it with ``aclose()``.
    """
    mine = hub()
    subscription = await mine.join()
    stream = _Stream(mine, subscription)
    try:
        wish = Wish(viewer=viewer, filters=filters or Filters(), wanted=wanted, language=language)
        terms = await mine.admission.agree(wish)
        async for item in stream.run(terms, after):
            yield item
    except KoherentError as error:
        if stream.cursor is not None:
            error.fields.setdefault("cursor", stream.cursor)
            counted.refusals += isinstance(error, Unauthenticated | Forbidden)
            logger.info("a stream ended: %s", error.message, extra=event("stream_ended", code=error.code))
        raise
    finally:
        await mine.leave(subscription)
