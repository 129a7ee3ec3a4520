"""The token of a plan: exactly what was shown."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.crypto import salted_hmac

from koherent.diff import SAFE_INTEGER, to_json
from koherent.revert.steps import Planned
from koherent.revert.values import automatic

_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode


def token_of(steps: Sequence[Planned]) -> str:
    """Covers objects, actions, values and conflicts, not labels. Keyed, so that it tells nothing about values."""
    found = salted_hmac("koherent.revert.plan", "", algorithm="sha256")
    for step in sorted(steps, key=lambda step: (step.tracked.label, str(step.pk))):
        found.update(_encode(_described(step)).encode())
    return str(found.hexdigest())


def _described(step: Planned) -> list[Any]:
    fields: Sequence[Any] = step.columns.fields
    now, then = step.now, step.then
    if step.action == "-" and now is not None:
        # A deletion is about all fields, but for time stamps that move by themselves.
        kept = [(f, value) for f, value in zip(fields, now, strict=True) if not automatic(f)]
        fields, now = [f for f, _ in kept], tuple(value for _, value in kept)
    links = [[name, _keys(step.links_now.get(name, {})), _keys(keys)] for name, keys in sorted(step.links_then.items())]
    if step.action == "-":
        links = [[name, _keys(keys)] for name, keys in sorted(step.links_now.items())]
    return [
        step.tracked.label,
        str(step.pk),
        step.action,
        [f.name for f in fields],
        [] if now is None else [_json(f, value) for f, value in zip(fields, now, strict=True)],
        [] if then is None else [_json(f, value) for f, value in zip(fields, then, strict=True)],
        links,
        sorted([c.code.value, list(c.fields), list(c.entry or ())] for c in step.conflicts),
    ]


def _json(model_field: Any, value: Any) -> Any:
    kind = type(value)
    if kind is str or value is None or (kind is int and -SAFE_INTEGER <= value <= SAFE_INTEGER):
        return value
    return to_json(model_field, value)


def _keys(links: Mapping[Any, Any]) -> list[Any]:
    """The keys, with what a link says besides."""
    keys = ((_json(None, key), value) for key, value in links.items())
    return sorted((key if value is True else [key, to_json(None, value)] for key, value in keys), key=str)
