"""What one assignation did to one object."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from koherent.errors import HistoryPruned
from koherent.registry import TrackedModel
from koherent.revert.values import ABSENT, Name, same
from koherent.revert.versions import Version


@dataclass(eq=False)
class Delta:
    """Per field or link (False: there is none): the value ``before``, and what the assignation ``left``.

    ``source`` is the history row that holds the former. ``broken`` names fields that somebody else changed in between,
    with the history row of that change. ``existed`` and ``exists``: whether the object did before and does after.
    """

    last: int
    existed: bool
    exists: bool
    before: dict[Name, Any] = field(default_factory=dict)
    source: dict[Name, int] = field(default_factory=dict)
    left: dict[Name, Any] = field(default_factory=dict)
    broken: dict[Name, int] = field(default_factory=dict)

    def moved(self, name: Name, old: Any, new: Any, previous: int | None) -> None:
        """Note one change; ``previous`` is the history row that holds ``old``."""
        if name not in self.before:
            self.before[name] = old
            if previous is not None:
                self.source[name] = previous
        elif previous is not None and not same(old, self.left[name]):
            self.broken[name] = previous
        self.left[name] = new


def delta_of(tracked: TrackedModel, own: Sequence[Version], previous: Mapping[int, Version]) -> Delta:
    """Go through an assignation's entries of one object, each against the entry before it, whoever wrote that.

    Raises ``HistoryPruned`` when the entry before a change is gone.
    """
    first = previous.get(own[0].id)
    existed = (first is not None and first.action != "-") or own[0].action != "+"
    delta = Delta(own[-1].id, existed, own[-1].action != "-")
    for row in own:
        prior = previous.get(row.id)
        before = prior if prior is not None and prior.action != "-" else None
        if row.action == "-":
            # The entry of a deletion holds the last values, whatever wrote them.
            for name, value in row.values.items():
                delta.moved(name, value, ABSENT, row.id)
        elif before is not None:
            _compare(delta, before, row)
        elif row.action == "~":
            raise HistoryPruned("The entry before this assignation's first change is gone.", model=tracked.label)
        else:
            for name, value in row.values.items():
                delta.moved(name, ABSENT, value, None if prior is None else prior.id)
    return delta


def _compare(delta: Delta, before: Version, row: Version) -> None:
    old, new = before.values, row.values
    for name, value in new.items():
        then = old.get(name, ABSENT)
        if value is then or same(value, then):
            continue
        if then is not ABSENT:
            delta.moved(name, then, value, before.id)
        elif not isinstance(name, str) and name[0] in before.known:
            delta.moved(name, False, value, before.id)
    for name, value in old.items():
        if not isinstance(name, str) and name not in new and name[0] in row.known:
            delta.moved(name, value, False, before.id)
