"""One reader per event loop: its first subscriber starts it, its last one ends it."""

import asyncio
import contextvars
import logging
import time
from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import connections

from koherent.conf import settings
from koherent.feed import cursor as cursors
from koherent.feed.counters import counted
from koherent.feed.cursor import Batch, Item, Position
from koherent.feed.doorbell import GROUP, doorbell, layer_of_feed

P = ParamSpec("P")
R = TypeVar("R")

READ_LIMIT = 500
PATIENCE_SECONDS = 5.0
MAX_WAIT = 6
BACKOFF_SECONDS = (0.2, 30.0)
REJOIN_SECONDS = 3_600.0
LEAVE_SECONDS = 2.0
logger = logging.getLogger("koherent.feed")


@dataclass(eq=False)
class Shared:
    """A batch, and what its subscribers worked out about it, for the next one. Used in the hub's thread."""

    items: tuple[Item, ...]
    position: Position
    memory: dict[Hashable, Any] = field(default_factory=dict)

    def once(self, key: Hashable, make: Callable[[], R]) -> R:
        """What ``make`` returned the first time that ``key`` was asked for."""
        if key not in self.memory:
            self.memory[key] = make()
        found: R = self.memory[key]
        return found


class Subscription:
    """One subscriber's bounded queue. All methods run on the hub's loop."""

    def __init__(self) -> None:
        self.lost = False
        self.replaying = True
        self.tail: Position | None = None
        self.progressed = time.monotonic()
        self._batches: deque[Shared] = deque()
        self._entries = 0
        self._arrived = asyncio.Event()

    def fits(self, batch: Shared) -> bool:
        """Whether the queue has room for the batch; an empty queue always has."""
        return not self._batches or self._entries + len(batch.items) <= settings().feed_queue

    def put(self, batch: Shared) -> None:
        """Queue a batch, or mark the subscription as lost."""
        if self.lost:
            return
        if batch.items and not self.fits(batch):
            self.lost = True
            if not self.replaying:
                counted.overflows += 1
        elif batch.items:
            if not self._batches:
                self.progress()
            self._batches.append(batch)
            self._entries += len(batch.items)
        self.tail = batch.position
        self._arrived.set()

    def restart(self) -> None:
        """Forget what is queued; the caller is about to read it from the database."""
        self.lost, self.tail = False, None
        self._batches.clear()
        self._entries = 0

    def progress(self) -> None:
        """The subscriber took something."""
        self.progressed = time.monotonic()

    async def get(self, timeout: float) -> Shared | None:
        """The next batch, or None when ``timeout`` seconds passed or the subscription is lost."""
        deadline = time.monotonic() + timeout
        while not self._batches and not self.lost:
            self._arrived.clear()
            try:
                await asyncio.wait_for(self._arrived.wait(), max(deadline - time.monotonic(), 0))
            except TimeoutError:
                return None
        if self.lost:
            return None
        batch = self._batches.popleft()
        self._entries -= len(batch.items)
        return batch


class Hub:
    """Reads the trail once per ring and hands it to the subscribers of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._subscriptions: set[Subscription] = set()
        self._rung = asyncio.Event()
        self._poked = False
        self._ready: asyncio.Future[None] = loop.create_future()
        # One thread with one connection, kept while there are subscribers.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="koherent-feed")
        # An empty context: the first subscriber's identity is not the hub's.
        self._task = loop.create_task(self._run(), context=contextvars.Context(), name="koherent-feed")

    def __len__(self) -> int:
        return len(self._subscriptions)

    async def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run synchronous code in the hub's thread, which has its own database connection and an empty context."""

        def work() -> R:
            try:
                return function(*args, **kwargs)
            except BaseException:
                # A connection that failed may be broken; the next call opens another.
                connections.close_all()
                raise

        return await self._loop.run_in_executor(self._thread, work)

    async def join(self) -> Subscription:
        """Queue everything that is committed from now on. Waits until the hub knows where it stands."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        counted.subscribers += 1
        try:
            await asyncio.shield(self._ready)
        except BaseException:
            await self.leave(subscription)
            raise
        return subscription

    async def leave(self, subscription: Subscription) -> None:
        """End a subscription; the last one ends the hub and closes its connection."""
        self._subscriptions.remove(subscription)
        counted.subscribers -= 1
        if self._subscriptions:
            return
        if _hubs.get(self._loop) is self:
            del _hubs[self._loop]
        self._task.cancel()
        await asyncio.wait([self._task], timeout=2 * LEAVE_SECONDS)

    def poke(self) -> None:
        """Something was committed. Called from any thread; only the first of many before a read costs anything."""
        if self._poked:
            return
        self._poked = True
        try:
            self._loop.call_soon_threadsafe(self._rung.set)
        except RuntimeError:
            # The loop is closed: its subscribers are gone, whoever ended it.
            doorbell.remove(self.poke)

    async def _run(self) -> None:
        doorbell.add(self.poke)
        listener = self._loop.create_task(self._listen(), name="koherent-feed-doorbell")
        try:
            await self._follow()
        finally:
            doorbell.remove(self.poke)
            listener.cancel()
            await asyncio.wait([listener], timeout=LEAVE_SECONDS)
            self._thread.submit(connections.close_all)
            # Waits for the thread without blocking the loop.
            await asyncio.to_thread(self._thread.shutdown)

    async def _follow(self) -> None:
        position: Position | None = None
        backoff = BACKOFF_SECONDS[0]
        while True:
            self._poked = False
            self._rung.clear()
            try:
                if position is None:
                    position = await self.call(cursors.current_position)
                    if not self._ready.done():
                        self._ready.set_result(None)
                batch = await self.call(cursors.read_since, position, min(READ_LIMIT, settings().feed_queue))
            # The hub must outlive any failure of the database: its subscribers see a delay, never a gap.
            except Exception:
                counted.read_failures += 1
                logger.exception("the feed cannot read the trail; next try in %.1f s", backoff)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])
                continue
            backoff = BACKOFF_SECONDS[0]
            position = batch.position
            counted.reads += 1
            counted.entries += len(batch.items)
            counted.last_read = time.time()
            await self._hand_out(batch)
            if not batch.more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._rung.wait(), settings().feed_poll_seconds)

    async def _hand_out(self, batch: Batch) -> None:
        shared = Shared(tuple(batch.items), batch.position)
        deadline = time.monotonic() + MAX_WAIT * PATIENCE_SECONDS
        while time.monotonic() < deadline and any(self._may_wait(each, shared) for each in self._subscriptions):
            await asyncio.sleep(0.01)
        for subscription in self._subscriptions:
            subscription.put(shared)

    @staticmethod
    def _may_wait(subscription: Subscription, batch: Shared) -> bool:
        """Whether a full queue belongs to a subscriber that still takes entries: a burst is no reason to end it."""
        if subscription.lost or subscription.replaying or subscription.fits(batch):
            return False
        return time.monotonic() - subscription.progressed < PATIENCE_SECONDS

    async def _listen(self) -> None:
        backoff = BACKOFF_SECONDS[0]
        while True:
            try:
                await self._listen_once()
                backoff = BACKOFF_SECONDS[0]
            # Whatever a layer raises, the poll goes on: log, wait, join again.
            except Exception as error:  # noqa: BLE001
                logger.warning("the feed lost its channel layer: %r; next try in %.1f s", error, backoff)
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])

    async def _listen_once(self) -> None:
        layer = layer_of_feed()
        if layer is None:
            await self._loop.create_future()
            return
        channel = await layer.new_channel()
        await layer.group_add(GROUP, channel)
        try:
            # Rings between the last channel's end and now went nowhere.
            self.poke()
            joined = time.monotonic()
            while time.monotonic() - joined < REJOIN_SECONDS:
                with suppress(TimeoutError):
                    message = await asyncio.wait_for(layer.receive(channel), REJOIN_SECONDS)
                    if message.get("from") != doorbell.process:
                        self.poke()
        finally:
            with suppress(Exception):
                await asyncio.wait_for(layer.group_discard(GROUP, channel), LEAVE_SECONDS / 2)


_hubs: "WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]" = WeakKeyDictionary()


def hub() -> Hub:
    """The running loop's hub, started when there is none."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        found = _hubs[loop] = Hub(loop)
    return found
