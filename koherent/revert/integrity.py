"""What the database would refuse, found beforehand: facts are read once in sets, then weighed in memory."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from koherent import registry
from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.revert.constraints import Constraints
from koherent.revert.references import References, Referrers
from koherent.revert.steps import Planned
from koherent.revert.types import Conflict, Key
from koherent.revert.uniques import Uniques
from koherent.revert.values import Model
from koherent.revert.versions import Versions
from koherent.timeline import visible_keys


class Integrity:
    """References, referrers and unique values around a list of steps; conflicts name entries that ``scope`` shows."""

    def __init__(self, steps: Sequence[Planned], referrers: Referrers, scope: Scope | None) -> None:
        self._scope = scope
        self.references = References(steps)
        self.referrers = referrers
        self.uniques = Uniques(steps)
        self.constraints = Constraints(steps)
        self._newest: dict[tuple[Model, Any], int] = {}

    def check(self, active: Sequence[Planned]) -> None:
        """Note what stands in the way when exactly the ``active`` steps are done; other rows stay as they are."""
        by_key = {step.key: step for step in active}
        pending: list[tuple[Planned, Conflict, Model, set[Any]]] = []

        def point(step: Planned, conflict: Conflict, model: Model, pks: set[Any]) -> None:
            pending.append((step, conflict, model, pks))

        self.references.conflicts(active)
        self.referrers.conflicts(active, by_key, point)
        self.uniques.conflicts(active, by_key, point)
        self.constraints.conflicts(active, by_key, point)
        wanted: dict[Model, set[Any]] = defaultdict(set)
        for _step, _conflict, model, pks in pending:
            wanted[model].update(pk for pk in pks if (model, pk) not in self._newest)
        for model, pks in wanted.items():
            tracked = registry.for_model(model)
            if tracked is not None:
                newest = self._visible(tracked, Versions(tracked).newest(pks))
                self._newest.update({(model, pk): history_id for pk, history_id in newest.items()})
        for step, conflict, model, pks in pending:
            step.add(replace(conflict, entry=self._entry(model, pks)))

    def _visible(self, tracked: TrackedModel, newest: dict[Any, int]) -> dict[Any, int]:
        """Those entries that may be named: what the viewer does not see must not change what the plan is."""
        if self._scope is None:
            return newest
        seen = visible_keys(self._scope, [(tracked.label, history_id) for history_id in newest.values()])
        return {pk: history_id for pk, history_id in newest.items() if (tracked.label, history_id) in seen}

    def _entry(self, model: Model, pks: set[Any]) -> Key | None:
        """The newest entry of the rows in the way, among those that may be named."""
        tracked = registry.for_model(model)
        if tracked is None:
            return None
        newest = max((self._newest[model, pk] for pk in pks if (model, pk) in self._newest), default=None)
        return None if newest is None else (tracked.label, newest)
