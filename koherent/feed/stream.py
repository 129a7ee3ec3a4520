"""One subscriber's stream: first a checkpoint, then what it missed, then what comes."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.db.models import Model

from koherent.conf import settings
from koherent.errors import FeedOverflow, Forbidden, KoherentError, Unauthenticated
from koherent.feed import cursor as cursors
from koherent.feed.counters import counted
from koherent.feed.cursor import Item, Position
from koherent.feed.hub import BACKOFF_SECONDS, READ_LIMIT, Hub, Shared, Subscription, hub
from koherent.policy import Scope, Viewer, get_policy, scope_for
from koherent.timeline import Entry, Filters, load
from koherent.timeline.filters import moment, object_key

CHECKPOINT_SECONDS = 25.0
logger = logging.getLogger("koherent.feed")


@dataclass(frozen=True)
class FeedItem:
    """An entry, or a checkpoint when ``entry`` is None; ``cursor`` resumes after it."""

    cursor: str
    entry: Entry | None = None


def matches(entry: Entry, filters: Filters) -> bool:
    """Whether the entry passes the filters: None filters nothing, an empty list lets nothing pass."""
    row: Any = entry.row
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


@dataclass(frozen=True)
class _Terms:
    """Who reads what, as agreed when the stream began: ``labels`` are the models that the reader must keep."""

    viewer: Viewer
    filters: Filters
    labels: frozenset[str]


def _agree(viewer: Viewer, filters: Filters) -> _Terms:
    """Raises ``Unauthenticated``, ``Forbidden``, ``BadFilter``."""
    scope = scope_for(_fresh(viewer))
    chosen = [selected.tracked for selected in filters.resolve(scope)]
    plain = replace(
        filters,
        since=None if filters.since is None else moment(filters.since, "since"),
        until=None if filters.until is None else moment(filters.until, "until"),
        object_id=None if filters.object_id is None else str(object_key(chosen[0], filters.object_id)),
    )
    return _Terms(viewer, plain, frozenset(tracked.label for tracked in chosen))


def _scope(terms: _Terms, viewer: Viewer) -> Scope:
    """What the viewer may read now. Raises ``Forbidden`` also when one of the agreed models is no longer among it."""
    scope = scope_for(viewer)
    if not terms.labels <= {tracked.label for tracked in scope.models}:
        raise Forbidden("You may no longer read all that this subscription is about.")
    return scope


def _authorise(terms: _Terms) -> None:
    _scope(terms, _fresh(terms.viewer))


def _fresh(viewer: Viewer) -> Viewer:
    """The viewer with the account as the database has it now."""
    user = viewer.user
    if not isinstance(user, Model) or user.pk is None:
        return viewer
    # ``__class__`` also looks through a lazy user.
    found = user.__class__._base_manager.filter(pk=user.pk).first()
    if found is None:
        raise Unauthenticated("The account is gone.")
    return replace(viewer, user=found)


def _entries(terms: _Terms, batch: Shared, items: Sequence[Item]) -> dict[tuple[str, int], Entry]:
    """What the viewer may see of a batch now; subscribers with the same rights share the work."""
    viewer = terms.viewer
    user = viewer.user
    if isinstance(user, Model) and user.pk is not None:
        account = batch.once(("account", user.__class__, user.pk), lambda: _fresh(viewer).user)
        viewer = replace(viewer, user=account)
    scope = _scope(terms, viewer)
    rights = get_policy().rights_key(viewer)
    if rights is None:
        loaded = _load(scope, items)
    else:
        loaded = batch.once(("entries", rights), lambda: _load(scope, batch.items))
    return {key: entry for key, entry in loaded.items() if matches(entry, terms.filters)}


def _load(scope: Scope, items: Sequence[Item]) -> dict[tuple[str, int], Entry]:
    entries = load(scope, [item.pair for item in items])
    return {(entry.tracked.label, entry.history_id): entry for entry in entries}


class _Stream:
    def __init__(self, hub: Hub, subscription: Subscription) -> None:
        self.hub, self.subscription = hub, subscription
        self.cursor: str | None = None
        self.said = time.monotonic()

    def say(self, position: Position, entry: Entry | None = None) -> FeedItem:
        self.cursor = position.cursor
        self.said = time.monotonic()
        return FeedItem(self.cursor, entry)

    async def run(self, viewer: Viewer, filters: Filters, after: str | None) -> AsyncGenerator[FeedItem]:
        terms = await self.hub.call(_agree, viewer, filters)
        if after is None:
            position = await self.hub.call(cursors.current_position)
        else:
            position = await self.hub.call(cursors.parse, after)
        yield self.say(position)
        more = after is not None
        while more or self.subscription.lost:
            # What is read below need not wait in the queue; what comes after it will.
            if self.subscription.lost or not more:
                self.subscription.restart()
            read = await self._patiently(cursors.read_kept, position, min(READ_LIMIT, settings().feed_queue))
            async for item in self._deliver(terms, Shared(tuple(read.items), read.position), None):
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
                await self._patiently(_authorise, terms)
                position = self.subscription.tail or position
                yield self.say(position)
                continue
            async for item in self._deliver(terms, batch, start):
                yield item
            position = batch.position
            self.subscription.progress()

    async def _deliver(self, terms: _Terms, batch: Shared, start: Position | None) -> AsyncGenerator[FeedItem]:
        """The entries of a batch that lie after ``start``; a checkpoint when one is due."""
        items = [item for item in batch.items if start is None or not start.covers(item.key)]
        # Models that became visible later are delivered too, unless the filters name others.
        if terms.filters.models is not None:
            items = [item for item in items if item.key.label in terms.labels]
        if items:
            entries = await self._patiently(_entries, terms, batch, items)
            for item in items:
                entry = entries.get(item.pair)
                if entry is not None:
                    counted.deliveries += 1
                    yield self.say(item.position, entry)
                    self.subscription.progress()
                    if self.subscription.lost and start is not None:
                        return
        if time.monotonic() - self.said >= CHECKPOINT_SECONDS:
            await self._patiently(_authorise, terms)
            yield self.say(batch.position)

    async def _patiently(self, function: Any, *args: Any) -> Any:
        """Call in the hub's thread, through failures of the database."""
        backoff = BACKOFF_SECONDS[0]
        while True:
            try:
                return await self.hub.call(function, *args)
            except (DatabaseError, InterfaceError):
                logger.exception("a subscriber's entries cannot be read; next try in %.1f s", backoff)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])


async def subscribe(
    viewer: Viewer, filters: Filters | None = None, after: str | None = None
) -> AsyncGenerator[FeedItem]:
    """The viewer's live trail, in the order of commits; every entry at least once after ``after`` (default: now).

    The first item is a checkpoint, and one comes at least every 30 s. The account and the policy are asked again for
    every batch. Raises ``Unauthenticated``, ``Forbidden``, ``BadCursor``, ``CursorExpired`` and, for a subscriber that
    does not keep up, ``FeedOverflow``; once the stream runs, the error's ``cursor`` field resumes it. Close it with
    ``aclose()``.
    """
    mine = hub()
    subscription = await mine.join()
    stream = _Stream(mine, subscription)
    try:
        async for item in stream.run(viewer, filters or Filters(), after):
            yield item
    except KoherentError as error:
        if stream.cursor is not None:
            error.fields.setdefault("cursor", stream.cursor)
        raise
    finally:
        await mine.leave(subscription)
