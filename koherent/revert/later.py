"""Which later entry stands in the way of a step."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from koherent.revert.delta import Delta
from koherent.revert.steps import Planned
from koherent.revert.types import ConflictCode
from koherent.revert.values import ABSENT, base_name, same
from koherent.revert.versions import Version, Versions


def name_later_entries(versions: Versions, planned: Mapping[Any, Planned], deltas: Mapping[Any, Delta]) -> None:
    """Put the entry that is in the way on each CHANGED_SINCE: the newest that moved one of its fields."""
    conflicting = {
        pk: step for pk, step in planned.items() if any(c.code is ConflictCode.CHANGED_SINCE for c in step.conflicts)
    }
    if not conflicting:
        return
    floor = min(deltas[pk].last for pk in conflicting)
    own = versions.read(deltas[pk].last for pk in conflicting)
    later: dict[Any, list[Version]] = defaultdict(list)
    for row in versions.after(list(conflicting), floor):
        if row.id > deltas[row.pk].last:
            later[row.pk].append(row)
    for pk, step in conflicting.items():
        delta = deltas[pk]
        conflicts = []
        for conflict in step.conflicts:
            if conflict.code is ConflictCode.CHANGED_SINCE:
                culprit = max((i for n, i in delta.broken.items() if base_name(n) in conflict.fields), default=None)
                found = _newest_moving(own[delta.last], later[pk], conflict.fields)
                culprit = culprit if found is None else found
                entry = None if culprit is None else (step.tracked.label, culprit)
                conflict = replace(conflict, entry=entry)
            conflicts.append(conflict)
        step.conflicts = tuple(conflicts)


def _newest_moving(prior: Version, later: list[Version], names: tuple[str, ...]) -> int | None:
    found = None
    for row in later:
        moved = {
            base_name(n)
            for n in {*prior.values, *row.values}
            if not same(prior.values.get(n, ABSENT), row.values.get(n, ABSENT))
        }
        if row.action != "~" or moved.intersection(names):
            found = row.id
        prior = row
    return found
