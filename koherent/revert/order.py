"""The order in which steps are done."""

from collections.abc import Collection

from koherent.revert.steps import Planned
from koherent.revert.values import Model, concrete

_SIGN = {"-": -1, "~": 0, "+": 1}


def in_order(steps: list[Planned]) -> list[Planned]:
    """Deletions, children first; changes; creations, parents first."""
    rank = depths({concrete(step.tracked.model) for step in steps})

    def place(step: Planned) -> tuple[int, int, str]:
        sign = _SIGN[step.action]
        return sign, sign * rank[concrete(step.tracked.model)], step.tracked.label

    return sorted(steps, key=place)


def depths(models: Collection[Model]) -> dict[Model, int]:
    """How deep each model stands among the others: what refers to another one stands deeper."""
    rank: dict[Model, int] = {}

    def depth(model: Model, seen: frozenset[Model]) -> int:
        if model not in rank:
            parents = {
                concrete(f.remote_field.model)
                for f in model._meta.concrete_fields
                if f.remote_field is not None and concrete(f.remote_field.model) in models
            }
            # A cycle has no order; its constraints are deferred to the end of the transaction.
            found = 1 + max((depth(p, seen | {model}) for p in parents - seen - {model}), default=-1)
            if seen:
                return found
            rank[model] = found
        return rank[model]

    for model in sorted(models, key=lambda m: m._meta.label_lower):
        depth(model, frozenset())
    return rank
