"""A batch of entries, and what its readers found out about it: each thing once, whoever asks first."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Collection, Coroutine, Hashable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol, TypeVar

from django.utils import translation

from koherent.feed.cursor import Item, Position
from koherent.feed.rights import Rights, Terms, examine, granted
from koherent.timeline import Entry, Wanted, load

R = TypeVar("R")


@dataclass(frozen=True)
class FeedItem:
    """An entry, or a checkpoint when ``entry`` is None; ``cursor`` resumes after it.

    Subscribers that see the entry alike get the same item, and may keep in its ``memory`` what they make of it for each
    other; None when nobody else gets it.
    """

    cursor: str
    entry: Entry | None = None
    memory: dict[Hashable, Any] | None = field(default=None, compare=False, repr=False)


Shown = dict[tuple[str, int], FeedItem]


class Caller(Protocol):
    """What runs synchronous code in a thread with a database connection."""

    async def call(self, function: Callable[..., R], *args: Any) -> R:
        """The function's result."""


class Shared:
    """One batch for any number of subscribers, on one event loop.

    ``everybody()`` are those it goes to. ``recheck``: it also asks each of them whether its stream may go on.
    """

    def __init__(
        self,
        items: Sequence[Item],
        position: Position,
        caller: Caller,
        everybody: Callable[[], Collection[Terms]],
        *,
        recheck: bool = False,
    ) -> None:
        self.items, self.position, self.recheck = items, position, recheck
        self.born = time.monotonic()
        self._caller, self._everybody = caller, everybody
        self._found: dict[Hashable, asyncio.Task[Any]] = {}
        self._wanted: Wanted | None = None

    async def rights(self, terms: Terms) -> Rights:
        """What the reader may see now. Raises why its stream must end."""
        answers = await self._once("rights", lambda: self._caller.call(examine, self._everybody()))
        if terms not in answers:
            # It came after the others had been looked up.
            answers = await self._once(terms, lambda: self._caller.call(examine, [terms]))
        return granted(answers[terms])

    async def view(self, terms: Terms, labels: Collection[str]) -> Shown:
        """The entries of some models that the reader may see, by label and history id; filters are not looked at."""
        rights = await self.rights(terms)
        wanted = self._enough_for(terms.wanted)
        shown: Shown = {}
        for tracked in rights.scope.models:
            if tracked.label not in labels:
                continue
            key = rights.key(tracked)
            items = [item for item in self.items if item.key.label == tracked.label]

            def load_them(items: list[Item] = items, alone: bool = key is None) -> Coroutine[Any, Any, Shown]:
                return self._caller.call(_load, rights, items, wanted, terms.language, alone)

            if key is None:
                shown.update(await load_them())
            else:
                shown.update(await self._once((tracked, key, terms.language, wanted), load_them))
        return shown

    def _enough_for(self, wanted: Wanted) -> Wanted:
        """What to read of the entries: enough for all readers, so that they share it."""
        if self._wanted is None:
            self._wanted = _together([terms.wanted for terms in self._everybody()])
        together = _together([self._wanted, wanted])
        return self._wanted if together == self._wanted else together

    async def _once(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        task = self._found.get(key)
        if task is None:
            # Of its own, in an empty context: whoever asked first may go away, and is not the others.
            task = asyncio.get_running_loop().create_task(make(), context=contextvars.Context())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._found[key] = task
        if not task.done():
            await asyncio.wait([task])
        if (task.cancelled() or task.exception() is not None) and self._found.get(key) is task:
            # The next one tries again.
            del self._found[key]
        found: R = task.result()
        return found


def _together(several: Sequence[Wanted]) -> Wanted:
    names = [each.name for each in fields(Wanted) if each.name not in ("previous", "next")]
    asked = {name: any(getattr(wanted, name) for wanted in several) for name in names}
    return Wanted(**asked, previous=False, next=False)


def _load(rights: Rights, items: Sequence[Item], wanted: Wanted, language: str | None, alone: bool) -> Shown:
    if language is None:
        entries = load(rights.scope, [item.pair for item in items], wanted)
    else:
        with translation.override(language):
            entries = load(rights.scope, [item.pair for item in items], wanted)
    cursors = {item.pair: item.position.cursor for item in items}
    return {entry.key: FeedItem(cursors[entry.key], entry, None if alone else {}) for entry in entries}
