"""Whether the feed of this process works, for a health check."""

import time
from dataclasses import dataclass

from koherent.conf import settings
from koherent.feed.counters import counted
from koherent.feed.doorbell import doorbell
from koherent.feed.hub import hubs

#: A hub that has not read for so many polls has a problem, but it may wait so many seconds for slow subscribers.
POLLS, SECONDS = 3.0, 45.0


@dataclass(frozen=True, kw_only=True)
class Health:
    """How the feed is. ``subscribers`` of this process; ``seconds_since_read`` is None without any.

    ``reading``: the trail can be read, so entries arrive, at the latest with the next poll. ``ringing``: the channel
    layer took this process's latest message; ``listening``: every hub hears of other processes' commits. Where one of
    these is False, entries only come late.
    """

    subscribers: int
    seconds_since_read: float | None
    reading: bool
    ringing: bool
    listening: bool

    @property
    def ok(self) -> bool:
        """Whether all is as it should be."""
        return self.reading and self.ringing and self.listening


def health() -> Health:
    """How the feed of this process is now. Asks nobody: cheap, from any thread."""
    running = hubs()
    waits = [time.monotonic() - each.last_read for each in running]
    patience = max(POLLS * settings().feed_poll_seconds, SECONDS)
    return Health(
        subscribers=counted.subscribers,
        seconds_since_read=max(waits, default=None),
        reading=all(wait < patience for wait in waits),
        ringing=not doorbell.failing,
        listening=all(each.listening for each in running),
    )
