"""Many-to-many links: the other side's key, and what else a link through a model of its own says."""

from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeAlias

from koherent.registry import M2MTracked
from koherent.revert.steps import Planned

#: Field -> key of the other side -> what the link says: True, or the values of the through model's own fields.
Links: TypeAlias = Mapping[str, Mapping[Any, Any]]


@cache
def own_fields(m2m: M2MTracked) -> tuple[Any, ...]:
    """The fields of a through model besides its key and the two sides."""
    sides = {m2m.source_attname, m2m.target_attname}
    return tuple(f for f in m2m.through._meta.concrete_fields if not f.primary_key and f.attname not in sides)


def read_links(m2m: M2MTracked, rows: Any, key: str) -> dict[Any, dict[Any, Any]]:
    """The links among ``rows``, of the through model or of its history, by their column ``key``."""
    names = [f.attname for f in own_fields(m2m)]
    found: dict[Any, dict[Any, Any]] = defaultdict(dict)
    for one, target, *values in rows.order_by().values_list(key, m2m.target_attname, *names):
        if not names:
            found[one][target] = True
        else:
            # A through model may link two objects more than once.
            found[one][target] = tuple(sorted((*found[one].get(target, ()), tuple(values)), key=repr))
    return found


def going(step: Planned, name: str) -> list[Any]:
    """The keys of the links of a field that a step takes away, to bring some of them back as they were."""
    then = step.links_then[name]
    return [target for target, value in step.links_now.get(name, {}).items() if then.get(target) != value]


def coming(step: Planned, name: str) -> list[Any]:
    """The keys of the links of a field that a step brings."""
    now = step.links_now.get(name, {})
    return [target for target, value in step.links_then[name].items() if now.get(target) != value]
