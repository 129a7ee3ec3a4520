"""Whether the viewer may do every step of a plan, and how far a revert may go."""

from collections.abc import Collection, Mapping
from typing import Any

from koherent.conf import settings
from koherent.diff import object_label
from koherent.errors import Forbidden, LimitExceeded
from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.revert.steps import NO_SOURCE, Planned
from koherent.revert.versions import Versions
from koherent.timeline import visible_keys


class Guard:
    """Lets steps of one viewer's revert pass, or forbids the whole; without a scope everything passes."""

    def __init__(self, scope: Scope | None) -> None:
        self.scope = scope
        self._asked: dict[tuple[TrackedModel, str], bool] = {}

    def limit(self, objects: int) -> None:
        """Raises ``LimitExceeded``, before anything is planned, when a revert concerns more objects than allowed."""
        limit = settings().revert_limit
        if self.scope is not None and objects > limit:
            raise LimitExceeded(f"This undoes more than {limit} objects.", limit=limit)

    def label(self, tracked: TrackedModel, row: Any) -> str:
        """What the viewer calls an object."""
        redacted: Collection[str] = () if self.scope is None else self.scope.redacted(tracked)
        return object_label(tracked, row, redacted)

    def check(self, tracked: TrackedModel, entries: Mapping[int, Any], steps: Collection[Planned]) -> None:
        """Raises ``Forbidden`` for the whole, without saying for which step.

        ``entries`` are the entries that are undone (history id -> key of the object). Where the policy hides rows, the
        viewer has to see those, those whose values come back, and each object's newest one: a step shows what they say.
        """
        if self.scope is None or not steps:
            return
        if tracked not in self.scope.models or not all(self._may(step) for step in steps):
            raise _refused()
        if self.scope.hides_rows:
            stepping = {step.pk for step in steps}
            newest = Versions(tracked).newest(stepping)
            needed = {history_id for history_id, pk in entries.items() if pk in stepping} | set(newest.values())
            needed.update(source for step in steps for source in (*step.sources, *step.link_sources.values()))
            needed.discard(NO_SOURCE)
            visible = visible_keys(self.scope, ((tracked.label, history_id) for history_id in needed))
            if newest.keys() != stepping or len(visible) < len(needed):
                raise _refused()

    def _may(self, step: Planned) -> bool:
        assert self.scope is not None
        key = step.tracked, step.action
        if key not in self._asked:
            self._asked[key] = self.scope.policy.may_revert(
                self.scope.viewer,
                step.tracked,
                step.action,  # type: ignore[arg-type]
            )
        if not self._asked[key]:
            return False
        redacted = self.scope.redacted(step.tracked) if step.action == "~" else frozenset()
        return not (redacted and redacted & (step.columns.names | step.links_then.keys()))


def _refused() -> Forbidden:
    return Forbidden("You may not undo all of this.")
