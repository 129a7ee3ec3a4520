"""Which entries of one object may go: pure rules, without a database."""

import datetime as dt
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from koherent.models import Origin


class Row(NamedTuple):
    """What the rules look at in an entry, and what others must be told when it goes.

    ``position`` is the feed's, 0 for what no feed delivers.
    """

    pk: Any
    history_id: int
    date: dt.datetime
    action: str
    origin: str
    position: int
    assignation_id: str | None = None


@dataclass
class ObjectHistory:
    """One object's entries, told in the order of their ids; ``add()`` gives back those that may go by now.

    Old enough are the entries before the first one dated at ``cutoff`` or later, except the newest ``keep`` of all. The
    newest of them stays as the object's baseline, so that every entry that is kept still has the one before it. Where
    the baseline is a creation, the deletion before it stays too: without it, readers would take the object for one
    that had not existed before.
    """

    cutoff: dt.datetime
    keep: int
    _old: deque[Row] = field(default_factory=deque)
    _after: int = 0

    @property
    def settled(self) -> bool:
        """Whether no later entry can change anything."""
        return self._after >= max(self.keep, 1)

    def add(self, row: Row) -> Iterator[Row]:
        """The next entry."""
        if self._after or row.date >= self.cutoff:
            self._after += 1
        else:
            self._old.append(row)
        while len(self._old) > 1 and self._first_may_go():
            yield self._old.popleft()

    def _first_may_go(self) -> bool:
        """Whether an entry behind the first one can be the oldest that stays."""
        for place, row in enumerate(self._old):
            if place and (row.action != "+" or row.origin == Origin.BASELINE):
                return len(self._old) - 1 - place + self._after >= self.keep
        return False
