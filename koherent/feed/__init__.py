"""The live feed: the channel layer is a doorbell, the entries come from the database.

``connect()`` makes commits ring; ``subscribe()`` is one viewer's stream; ``current_cursor()`` is the position of now.
"""

from koherent.feed import changes, doorbell
from koherent.feed.batch import FeedItem
from koherent.feed.counters import counters
from koherent.feed.cursor import current_cursor
from koherent.feed.health import Health, health
from koherent.feed.stream import matches, subscribe

__all__ = ["FeedItem", "Health", "connect", "counters", "current_cursor", "health", "matches", "subscribe"]


def connect() -> None:
    """Ring after commits, and when rights change, from now on. Idempotent. Needs all models."""
    doorbell.connect()
    changes.connect()
