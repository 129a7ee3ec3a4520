"""One subscriber's bounded queue."""

import asyncio
import time
from collections import deque

from koherent.conf import settings
from koherent.feed.batch import Shared
from koherent.feed.counters import counted
from koherent.feed.cursor import Position
from koherent.feed.rights import Terms


class Subscription:
    """What waits for one subscriber. All methods run on the hub's loop."""

    def __init__(self) -> None:
        self.lost = False
        self.replaying = True
        self.terms: Terms | None = None
        self.latest: Shared | None = None
        #: Since when rights must have been looked up: what decides on them changed then.
        self.rights_since = 0.0
        self.progressed = time.monotonic()
        self._batches: deque[Shared] = deque()
        self._entries = 0
        self._arrived = asyncio.Event()

    @property
    def tail(self) -> Position | None:
        """Where the hub is, when the subscriber has taken all up to there; None when something waits for it."""
        return None if self.latest is None or self._batches or self.lost else self.latest.position

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
        elif batch.items or batch.recheck:
            if not self._batches:
                self.progress()
            self._batches.append(batch)
            self._entries += len(batch.items)
        self.latest = batch
        if self._batches or self.lost:
            self._arrived.set()

    def restart(self) -> None:
        """Forget what is queued; the caller is about to read it from the database."""
        self.lost, self.latest = False, None
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
