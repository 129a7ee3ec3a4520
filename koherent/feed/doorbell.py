"""Rings after commit, so that hubs need not wait for their next poll. A lost ring delays entries and loses none.

The committing thread only leaves a note: hubs of this process are poked on their own loops, and one background thread
sends one small message to the channel layer for all that was rung since its last. The message says which rows, not
what is in them; of many rows it only says so.
"""

import asyncio
import atexit
import logging
import os
import threading
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from koherent import commits
from koherent.conf import settings
from koherent.feed.counters import counted, event

GROUP = "koherent.feed"
MESSAGE = "koherent.feed"
MANY = "many"
#: A message names so many rows at most.
ROWS = 20
SEND_SECONDS = 5.0
EXIT_SECONDS = 1.0
logger = logging.getLogger("koherent.feed")

IN_MEMORY = "channels.layers.InMemoryChannelLayer"


@cache
def _has_channels() -> bool:
    # Python does not remember what it has not found, and every commit asks.
    return find_spec("channels") is not None


def reaches_others() -> bool:
    """Whether a channel layer is configured that carries rings between processes. Makes none.

    The in-memory layer reaches this process alone, whose hubs are poked anyway, and is not safe across threads.
    """
    if not _has_channels():
        return False
    from channels.layers import InMemoryChannelLayer, channel_layers

    alias = settings().feed_layer
    made = channel_layers.backends.get(alias)
    if made is not None:
        return type(made) is not InMemoryChannelLayer
    configured = channel_layers.configs.get(alias)
    return configured is not None and configured.get("BACKEND") != IN_MEMORY


def layer_of_feed() -> Any | None:
    """The channel layer that carries rings between processes, made when it is first needed; None without one."""
    if not reaches_others():
        return None
    from channels.layers import InMemoryChannelLayer, channel_layers

    layer = channel_layers[settings().feed_layer]
    return None if type(layer) is InMemoryChannelLayer else layer


class Doorbell:
    """One per process: the local hubs to poke, and the thread that sends to the layer."""

    def __init__(self) -> None:
        self.process = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._hubs: dict[Callable[..., None], None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pending = False
        self._rows: set[tuple[str, int]] | None = set()
        self._rights = False
        self._failing = False
        self._idle = threading.Event()
        self._idle.set()

    def add(self, poke: Callable[..., None]) -> None:
        """Poke a local hub at each ring; ``poke`` is called from any thread, with True where rights have changed."""
        with self._lock:
            self._hubs[poke] = None

    def remove(self, poke: Callable[..., None]) -> None:
        """Forget a local hub."""
        with self._lock:
            self._hubs.pop(poke, None)

    def ring(self, rows: Sequence[tuple[str, int]] = (), *, rights: bool = False) -> None:
        """Tell every hub, here and elsewhere, to read. Returns at once and never raises for the layer's sake.

        ``rows`` are the labels and history ids of what was written; ``rights``: what decides on rights has changed.
        """
        with self._lock:
            hubs = tuple(self._hubs)
            counted.rings += 1
        for poke in hubs:
            poke(True) if rights else poke()
        try:
            if not reaches_others():
                return
            with self._lock:
                self._note(rows, rights)
                if self._pending:
                    return
                self._pending = True
                self._idle.clear()
                loop = self._started()
            loop.call_soon_threadsafe(self._begin, loop)
        # The change is committed: a layer that cannot be reached costs a log line, and the poll finds the entry.
        except Exception:
            with self._lock:
                self._pending = False
                self._idle.set()
            logger.exception("the feed's channel layer cannot be used", extra=event("ring_failed"))

    def _note(self, rows: Sequence[tuple[str, int]], rights: bool) -> None:
        self._rights |= rights
        if self._rows is not None:
            if len(self._rows) + len(rows) <= ROWS:
                self._rows.update(rows)
            else:
                self._rows = None

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="koherent-doorbell", daemon=True).start()
        return self._loop

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        # Kept by the loop until it has run; a second one starts only when this one has taken the note.
        self._sending = loop.create_task(self._send())

    def _take(self) -> dict[str, Any]:
        """The message for all that was rung. Later rings need another: this one may leave before their commit."""
        with self._lock:
            self._pending = False
            rows, self._rows = self._rows, set()
            rights, self._rights = self._rights, False
        message: dict[str, Any] = {"type": MESSAGE, "from": self.process}
        message["rows"] = MANY if rows is None else [list(row) for row in sorted(rows)]
        return {**message, "rights": True} if rights else message

    async def _send(self) -> None:
        message = self._take()
        try:
            layer = layer_of_feed()
            if layer is not None:
                await asyncio.wait_for(layer.group_send(GROUP, message), SEND_SECONDS)
            self._failing = False
        # Whatever a layer raises, the entries are in the database and the hubs poll: one line per outage.
        except Exception as error:  # noqa: BLE001
            counted.ring_failures += 1
            if not self._failing:
                logger.warning(
                    "the feed's doorbell did not ring: %r; subscribers elsewhere wait for their poll",
                    error,
                    extra=event("ring_failed", error=type(error).__name__),
                )
            self._failing = True
        finally:
            with self._lock:
                if not self._pending:
                    self._idle.set()

    @property
    def failing(self) -> bool:
        """Whether the latest message found no layer to take it."""
        return self._failing

    def finish(self, timeout: float = EXIT_SECONDS) -> bool:
        """Wait up to ``timeout`` seconds for rings under way; False when some are left. For a process that ends."""
        return self._idle.wait(timeout)


doorbell = Doorbell()


def ring(using: str, keys: Sequence[tuple[str, int]] = ()) -> None:
    """The recorder's hook, called after a commit. Only the default database is fed."""
    if using == DEFAULT_DB_ALIAS:
        doorbell.ring(keys)


def connect() -> None:
    """Hear of commits from now on. Idempotent."""
    if ring not in commits.on_committed:
        commits.on_committed.append(ring)


def _after_fork() -> None:
    # The thread and its loop stayed with the parent, and so did its name.
    doorbell.__init__()  # type: ignore[misc]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: doorbell.finish())
