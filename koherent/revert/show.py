"""A plan's steps as the viewer may see them."""

from collections import defaultdict
from dataclasses import replace
from typing import Any

from koherent import registry
from koherent.diff import ForeignKeyLabels, compare, object_label
from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.revert.plan import Planned, batches, value_of
from koherent.revert.types import Conflict, ConflictCode, Key, Step


def show(steps: list[Planned], scope: Scope | None, done: set[Planned]) -> tuple[Step, ...]:
    """Labels, redaction, and only those entries of conflicts that the viewer may read."""
    labels = ForeignKeyLabels(scope)
    versions = [(step, _before(step), _after(step)) for step in steps]
    for step, old, new in versions:
        labels.want(step.tracked, old, new, _redacted(scope, step.tracked))
    labels.load()
    visible = _visible(steps, scope)
    shown = []
    for step, old, new in versions:
        redacted = _redacted(scope, step.tracked)
        row = step.result if step.live is None else step.live
        shown.append(
            Step(
                action=step.action,
                tracked=step.tracked,
                object_id=str(step.pk),
                object_label=object_label(step.tracked, row, redacted),
                changes=compare(step.tracked, old, new, redacted=redacted, labels=labels),
                conflicts=tuple(_conflict(c, scope, redacted, visible) for c in step.conflicts),
                applied=step in done,
            )
        )
    return tuple(shown)


def _redacted(scope: Scope | None, tracked: TrackedModel) -> frozenset[str]:
    return frozenset() if scope is None else scope.redacted(tracked)


def _before(step: Planned) -> dict[str, Any] | None:
    if step.live is None:
        return None
    fields = step.tracked.fields if step.action == "-" else step.fields
    links = step.links_now if step.action == "-" else step.links_then
    values = {f.attname: value_of(step.live, f) for f in fields}
    return {**values, **{name: sorted(step.links_now[name], key=str) for name in links}}


def _after(step: Planned) -> dict[str, Any] | None:
    if step.result is None:
        return None
    values = {f.attname: value_of(step.result, f) for f in step.fields}
    return {**values, **{name: sorted(keys, key=str) for name, keys in step.links_then.items()}}


def _visible(steps: list[Planned], scope: Scope | None) -> set[Key] | None:
    """Which of the conflicts' entries the viewer may read; None: all."""
    if scope is None:
        return None
    wanted: dict[str, set[int]] = defaultdict(set)
    for step in steps:
        for conflict in step.conflicts:
            if conflict.entry is not None:
                wanted[conflict.entry[0]].add(conflict.entry[1])
    found: set[Key] = set()
    for label, ids in wanted.items():
        tracked = registry.by_label(label)
        if tracked is None or tracked not in scope.models:
            continue
        for batch in batches(ids):
            found.update((label, pk) for pk in scope.entries(tracked).filter(pk__in=batch).values_list("pk", flat=True))
    return found


def _conflict(conflict: Conflict, scope: Scope | None, redacted: frozenset[str], visible: set[Key] | None) -> Conflict:
    """Without what the viewer may not know: an invisible row's identity, and words that may quote a hidden value."""
    if scope is None:
        return conflict
    if conflict.entry is None or (visible is not None and conflict.entry not in visible):
        conflict = replace(conflict, entry=None)
        if conflict.code is ConflictCode.STILL_REFERENCED:
            conflict = replace(conflict, message="Other rows still refer to it.")
    if conflict.code is ConflictCode.INVALID and redacted:
        # A validator of one field may quote another.
        conflict = replace(conflict, message="The values are not valid.")
    return conflict
