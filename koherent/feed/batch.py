"""A batch of entries, and what its readers found out about it: each thing once, whoever asks first."""

import asyncio
import contextvars
import time
from collections.abc import Callable, Collection, Coroutine, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar

from django.utils import translation

from koherent.feed.cursor import Item, Position
from koherent.feed.rights import Rights, Terms, examine, granted
from koherent.registry import TrackedModel
from koherent.timeline import Entry, Wanted, load

R = TypeVar("R")

#: Rights that were looked up so long ago are looked up again before anything is shown.
RIGHTS_SECONDS = 30.0


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
        self._caller, self._everybody = caller, everybody
        self._known: dict[Hashable, Any] = {}
        #: When everybody's rights were looked up, and how often.
        self._examined, self._examinations = -RIGHTS_SECONDS, 0
        self._asked: dict[Hashable, asyncio.Task[Any]] = {}
        self._wanted: Wanted | None = None

    async def prepare(self) -> None:
        """Find out at once what most readers will ask, so that none of them waits. Raises what the database raises."""
        everybody, self._examined = self._everybody(), time.monotonic()
        self._wanted = _together([terms.wanted for terms in everybody])
        answers, views = await self._caller.call(_prepare, everybody, self.items, self._wanted)
        self._known.update({self._examinations: answers, **views})

    def is_stale(self, since: float) -> bool:
        """Whether the rights that are known here are older than ``since`` (monotonic seconds), or too old anyway."""
        return self._examined < max(since, time.monotonic() - RIGHTS_SECONDS)

    async def rights(self, terms: Terms, since: float = 0.0) -> Rights:
        """What the reader may see now, looked up not before ``since``. Raises why its stream must end."""
        if self.is_stale(since):
            self._known.pop(self._examinations, None)
            self._examined, self._examinations = time.monotonic(), self._examinations + 1
        answers = await self._once(self._examinations, lambda: self._caller.call(examine, self._everybody()))
        if terms not in answers:
            # It came after the others had been looked up.
            key = (self._examinations, terms)
            answers = await self._once(key, lambda: self._caller.call(examine, [terms]))
        return granted(answers[terms])

    async def view(self, terms: Terms, labels: Collection[str], since: float = 0.0) -> Shown:
        """The entries of some models that the reader may see, by label and history id; filters are not looked at."""
        rights = await self.rights(terms, since)
        wanted = self._enough_for(terms.wanted)
        shown: Shown = {}
        for tracked in rights.scope.models:
            if tracked.label not in labels:
                continue
            key = _view_key(rights, tracked, wanted, terms)
            load_them = partial(self._caller.call, _load, rights, tracked, self.items, wanted, terms.language)
            found = await (load_them() if key is None else self._once(key, load_them))
            shown = {**shown, **found} if shown else found
        return shown

    def _enough_for(self, wanted: Wanted) -> Wanted:
        """What to read of the entries: enough for all readers, so that they share it."""
        if self._wanted is None:
            self._wanted = _together([terms.wanted for terms in self._everybody()])
        return self._wanted if _covers(self._wanted, wanted) else _together([self._wanted, wanted])

    async def _once(self, key: Hashable, make: Callable[[], Coroutine[Any, Any, R]]) -> R:
        if key in self._known:
            known: R = self._known[key]
            return known
        task = self._asked.get(key)
        if task is None:
            # Of its own, in an empty context: whoever asked first may go away, and is not the others.
            task = asyncio.get_running_loop().create_task(make(), context=contextvars.Context())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._asked[key] = task
        if not task.done():
            await asyncio.wait([task])
        if self._asked.get(key) is task:
            # When it failed, the next one tries again.
            del self._asked[key]
            if not task.cancelled() and task.exception() is None:
                self._known[key] = task.result()
        found: R = task.result()
        return found


def _view_key(rights: Rights, tracked: TrackedModel, wanted: Wanted, terms: Terms) -> Hashable | None:
    """Equal for readers to whom the model's entries look the same; None: to nobody else."""
    key = rights.key(tracked)
    return None if key is None else (tracked, key, terms.language, wanted)


def _prepare(
    everybody: Collection[Terms], items: Sequence[Item], wanted: Wanted
) -> tuple[dict[Terms, Rights | Exception], dict[Hashable, Shown]]:
    """What ``rights()`` and ``view()`` of the readers will ask, in one turn of the thread."""
    answers = examine(everybody)
    known: dict[Hashable, Shown] = {}
    labels = {item.key.label for item in items}
    looked_at: set[Hashable] = set()
    for terms, rights in answers.items():
        kind = (rights, terms.language, terms.labels if terms.chosen else None)
        if not isinstance(rights, Rights) or kind in looked_at:
            continue
        looked_at.add(kind)
        for tracked in rights.scope.models:
            key = _view_key(rights, tracked, wanted, terms)
            read = tracked.label in labels and (not terms.chosen or tracked.label in terms.labels)
            if read and key is not None and key not in known:
                known[key] = _load(rights, tracked, items, wanted, terms.language)
    return answers, known


_PARTS = ("changes", "labels", "links", "accounts")


def _together(several: Collection[Wanted]) -> Wanted:
    asked = {part: any(getattr(wanted, part) for wanted in several) for part in _PARTS}
    return Wanted(**asked, previous=False, next=False)


def _covers(wanted: Wanted, other: Wanted) -> bool:
    return all(getattr(wanted, part) or not getattr(other, part) for part in _PARTS)


def _load(rights: Rights, tracked: TrackedModel, items: Sequence[Item], wanted: Wanted, language: str | None) -> Shown:
    """A model's entries as readers of such rights see them."""
    cursors = {item.pair: item.position.cursor for item in items if item.key.label == tracked.label}
    with nullcontext() if language is None else translation.override(language):
        entries = load(rights.scope, list(cursors), wanted)
    shared = rights.key(tracked) is not None
    return {entry.key: FeedItem(cursors[entry.key], entry, {} if shared else None) for entry in entries}
