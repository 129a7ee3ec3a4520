"""The live feed: the channel layer is a doorbell, the entries come from the database.

``connect()`` makes commits ring; ``subscribe()`` is one viewer's stream; ``current_cursor()`` is the position of now.
"""

from koherent.feed.counters import counters
from koherent.feed.cursor import current_cursor
from koherent.feed.doorbell import connect
from koherent.feed.stream import FeedItem, matches, subscribe

__all__ = ["FeedItem", "connect", "counters", "current_cursor", "matches", "subscribe"]
