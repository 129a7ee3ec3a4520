"""One reader per event loop: its first subscriber starts it, its last one ends it."""

import asyncio
import contextvars
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar
from weakref import WeakKeyDictionary

from django.db import connections

from koherent.conf import settings
from koherent.errors import KoherentError
from koherent.feed import cursor as cursors
from koherent.feed.admission import Admission
from koherent.feed.batch import Shared
from koherent.feed.counters import counted, event
from koherent.feed.cursor import Batch, Position
from koherent.feed.doorbell import GROUP, doorbell, layer_of_feed, reaches_others
from koherent.feed.queue import Subscription
from koherent.feed.rights import Terms

P = ParamSpec("P")
R = TypeVar("R")

READ_LIMIT = 500
PATIENCE_SECONDS = 5.0
MAX_WAIT = 6
BACKOFF_SECONDS = (0.2, 30.0)
REJOIN_SECONDS = 3_600.0
LEAVE_SECONDS = 2.0
RECENT = 1_000
RECHECK_SECONDS = 0.5
logger = logging.getLogger("koherent.feed")


class Hub:
    """Reads the trail once per ring and hands it to the subscribers of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._subscriptions: set[Subscription] = set()
        self._rung = asyncio.Event()
        self._poked = False
        #: When it last read (or began), by the monotonic clock, and whether it hears of other processes' commits.
        self.last_read = time.monotonic()
        self.listening = not reaches_others()
        self.admission = Admission(self)
        self._recheck, self._rechecked = False, -RECHECK_SECONDS
        self._recent: deque[tuple[str, int]] = deque(maxlen=RECENT)
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
            except KoherentError:
                raise
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
            with _changing:
                del _hubs[self._loop]
        self._task.cancel()
        await asyncio.wait([self._task], timeout=2 * LEAVE_SECONDS)

    def everybody(self) -> list[Terms]:
        """What the subscribers of now have agreed on."""
        return [each.terms for each in self._subscriptions if each.terms is not None]

    def poke(self, recheck: bool = False) -> None:
        """Something was committed. Called from any thread; only the first of many before a read costs anything.

        ``recheck``: something that decides on rights has changed, so every subscriber's are looked up again.
        """
        if recheck:  # no ``|=``: it would write back what it read before another thread's True
            self._recheck = True
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
                logger.exception(
                    "the feed cannot read the trail; next try in %.1f s",
                    backoff,
                    extra=event("read_failed", delay=backoff),
                )
                await asyncio.sleep(backoff)
                backoff = min(2 * backoff, BACKOFF_SECONDS[1])
                continue
            backoff = BACKOFF_SECONDS[0]
            position = batch.position
            counted.reads += 1
            counted.entries += len(batch.items)
            counted.last_read, self.last_read = time.time(), time.monotonic()
            await self._hand_out(batch)
            if not batch.more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._rung.wait(), settings().feed_poll_seconds)

    async def _hand_out(self, batch: Batch) -> None:
        self._recent.extend(item.pair for item in batch.items)
        recheck = self._due_recheck()
        shared = Shared(tuple(batch.items), batch.position, self, self.everybody, recheck=recheck)
        if recheck:
            # What waits in their queues was prepared for the rights of before.
            for subscription in self._subscriptions:
                subscription.rights_since = time.monotonic()
        deadline = time.monotonic() + MAX_WAIT * PATIENCE_SECONDS
        while time.monotonic() < deadline and any(self._may_wait(each, shared) for each in self._subscriptions):
            await asyncio.sleep(0.01)
        if shared.items or recheck:
            try:
                await shared.prepare()
            # The subscribers ask themselves then, each for its own, and those of a failing database are patient.
            except Exception:
                logger.exception("the feed cannot prepare a batch for its subscribers", extra=event("prepare_failed"))
        for subscription in self._subscriptions:
            subscription.put(shared)

    def _due_recheck(self) -> bool:
        """Whether rights are to be looked up now: at once, but where accounts are saved all the time, not each time."""
        wait = self._rechecked + RECHECK_SECONDS - time.monotonic()
        if not self._recheck:
            return False
        if wait > 0:
            self._loop.call_later(wait, self._rung.set)
            return False
        self._recheck, self._rechecked = False, time.monotonic()
        return True

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
                self.listening = False
                logger.warning(
                    "the feed lost its channel layer: %r; next try in %.1f s",
                    error,
                    backoff,
                    extra=event("layer_lost", delay=backoff, error=type(error).__name__),
                )
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
            self.listening = True
            # Rings between the last channel's end and now went nowhere.
            self.poke()
            joined = time.monotonic()
            while time.monotonic() - joined < REJOIN_SECONDS:
                with suppress(TimeoutError):
                    message = await asyncio.wait_for(layer.receive(channel), REJOIN_SECONDS)
                    if message.get("from") != doorbell.process:
                        self._hear(message)
        finally:
            with suppress(Exception):
                await asyncio.wait_for(layer.group_discard(GROUP, channel), LEAVE_SECONDS / 2)

    def _hear(self, message: Mapping[str, Any]) -> None:
        """What another process says. Rows that have been read already, with others or by a poll, need no reading."""
        rows, recheck = message.get("rows"), message.get("rights") is True
        known = isinstance(rows, list) and rows and {(label, key) for label, key in rows} <= set(self._recent)
        if recheck or not known:
            self.poke(recheck)


_hubs: "WeakKeyDictionary[asyncio.AbstractEventLoop, Hub]" = WeakKeyDictionary()
_changing = threading.Lock()


def hub() -> Hub:
    """The running loop's hub, started when there is none."""
    loop = asyncio.get_running_loop()
    found = _hubs.get(loop)
    if found is None:
        found = Hub(loop)
        with _changing:
            _hubs[loop] = found
    return found


def hubs() -> list[Hub]:
    """The hubs of all event loops of this process. From any thread."""
    with _changing:
        return list(_hubs.values())
