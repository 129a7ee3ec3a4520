"""A plan's steps as the viewer may see them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, overload

from koherent.conf import settings
from koherent.diff import FieldChange, ForeignKeyLabels, compare, to_json
from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.revert.links import coming
from koherent.revert.steps import Planned
from koherent.revert.types import Conflict, ConflictCode, Key, Step
from koherent.timeline import visible_keys

# Steps that are shown together cost two statements.
PAGE = 500


class ShownSteps(Sequence[Step]):
    """The steps of a plan, shown when they are read; ``applied`` tells whether those not skipped have been done.

    What people call the other objects is asked when a step is shown: of the first page, before anything is written.
    """

    def __init__(self, planned: Sequence[Planned], scope: Scope | None) -> None:
        self._planned, self._scope = planned, scope
        self.applied = False
        self._first = _show(planned[: settings().page_limit], scope)

    def __len__(self) -> int:
        return len(self._planned)

    @overload
    def __getitem__(self, place: int) -> Step: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Step, ...]: ...
    def __getitem__(self, place: int | slice) -> Step | tuple[Step, ...]:
        """One step, or some."""
        if isinstance(place, int):
            start = range(len(self))[place]
            return self[start : start + 1][0]
        start, stop, stride = place.indices(len(self))
        shown = self._first if stop <= len(self._first) else None
        if shown is None or stride < 0:
            planned = self._planned[place]
            shown = _show(planned, self._scope)
        else:
            planned, shown = self._planned[place], shown[place]
        return tuple(
            replace(step, applied=self.applied and not one.skipped) for one, step in zip(planned, shown, strict=True)
        )

    def __iter__(self) -> Iterator[Step]:
        for start in range(0, len(self), PAGE):
            yield from self[start : start + PAGE]

    def __repr__(self) -> str:
        return f"<{len(self)} steps>"


def _show(steps: Sequence[Planned], scope: Scope | None) -> list[Step]:
    """Labels, redaction, and only those entries of conflicts that the viewer may read."""
    labels = ForeignKeyLabels(scope)
    versions = [(step, _before(step), _after(step), _redacted(scope, step.tracked)) for step in steps]
    for step, old, new, redacted in versions:
        labels.want(step.tracked, old, new, redacted)
    labels.load()
    visible = _visible(steps, scope)
    return [
        Step(
            action=step.action,
            tracked=step.tracked,
            object_id=str(step.pk),
            object_label=step.label,
            changes=compare(step.tracked, old, new, redacted=redacted, labels=labels) + _replaced(step, redacted),
            # Kinds of invisible rows, told apart by nothing that may show, are one conflict.
            conflicts=tuple(dict.fromkeys(_conflict(c, scope, redacted, visible) for c in step.conflicts)),
            applied=False,
        )
        for step, old, new, redacted in versions
    ]


def _replaced(step: Planned, redacted: frozenset[str]) -> tuple[FieldChange, ...]:
    """Links that stay, and say something else: they go, and come as they were."""
    changes = []
    for m2m in step.m2m if step.now is not None else ():
        keys = to_json(None, [key for key in coming(step, m2m.name) if key in step.links_now.get(m2m.name, {})])
        if keys and step.links_now[m2m.name].keys() == step.links_then[m2m.name].keys():
            about: dict[str, Any] = {"field": m2m.name, "label": str(m2m.field.verbose_name)}
            values = {"redacted": True} if m2m.name in redacted else {"added": keys, "removed": keys}
            changes.append(FieldChange(**about, **values))
    return tuple(changes)


def _redacted(scope: Scope | None, tracked: TrackedModel) -> frozenset[str]:
    return frozenset() if scope is None else scope.redacted(tracked)


def _before(step: Planned) -> dict[str, Any] | None:
    if step.now is None:
        return None
    names = step.links_now if step.action == "-" else step.links_then
    values = dict(zip(step.columns.index, step.now, strict=True))
    return {**values, **{name: sorted(step.links_now.get(name, ()), key=str) for name in names}}


def _after(step: Planned) -> dict[str, Any] | None:
    if step.then is None:
        return None
    values = dict(zip(step.columns.index, step.then, strict=True))
    return {**values, **{name: sorted(keys, key=str) for name, keys in step.links_then.items()}}


def _visible(steps: Sequence[Planned], scope: Scope | None) -> set[Key]:
    """Which of the conflicts' entries the viewer may read."""
    if scope is None:
        return set()
    return visible_keys(scope, {c.entry for step in steps for c in step.conflicts if c.entry is not None})


def _conflict(conflict: Conflict, scope: Scope | None, redacted: frozenset[str], visible: set[Key]) -> Conflict:
    """Without what the viewer may not know: an invisible row's identity, and words that may quote a hidden value."""
    if scope is None:
        return conflict
    if conflict.entry not in visible:
        conflict = replace(conflict, entry=None)
        if conflict.code is ConflictCode.STILL_REFERENCED:
            conflict = replace(conflict, message="Other rows still refer to it.")
    if conflict.code is ConflictCode.INVALID and (redacted or scope.hides_rows):
        # A validator of one field may quote another, or another object.
        conflict = replace(conflict, message="The values are not valid.")
    if conflict.code is ConflictCode.UNIQUE_TAKEN and redacted.intersection(conflict.fields):
        # Whose value it is would tell the value.
        conflict = replace(conflict, entry=None)
    return conflict
