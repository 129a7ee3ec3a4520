"""Whether an entry is as expected, and in which respects it is not."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from django.db import models

from koherent import diff
from koherent.diff import FieldChange
from koherent.export import ACTIONS
from koherent.timeline import Entry

_ANY: Any = type("Anything", (), {"__repr__": lambda _: "anything"})()


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What an entry is to be; what is not given may be anything. See ``AuditTrail.assert_recorded()``."""

    action: Any = _ANY
    origin: Any = _ANY
    user: Any = _ANY
    app: Any = _ANY
    assignation_id: Any = _ANY
    reason: Any = _ANY
    metadata: Mapping[str, Any] = _ANY
    changes: Mapping[str, Any] = _ANY

    def __post_init__(self) -> None:
        names = [name.lower() for name in ACTIONS.values()]
        if self.action is not _ANY and self.action not in names:
            raise TypeError(f"action is one of {', '.join(names)}, not {self.action!r}")

    def __str__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self))
        return ", ".join(f"{name}={value!r}" for name, value in given if value is not _ANY) or "any values"

    def mismatches(self, entry: Entry) -> list[str]:
        """In which respects ``entry`` is otherwise; empty when it is as expected."""
        row = entry.row
        actual = {
            "action": ACTIONS[entry.action].lower(),
            "origin": row.origin,
            "app": row.app,
            "assignation_id": row.assignation_id,
            "reason": entry.reason,
        }
        wrong = [
            f"{name} is {value!r}, not {getattr(self, name)!r}"
            for name, value in actual.items()
            if getattr(self, name) not in (_ANY, value)
        ]
        if self.user is not _ANY and row.actor_id != (None if self.user is None else str(self.user.pk)):
            wrong.append(f"user is {row.actor_name!r}, not {self.user!r}")
        if self.metadata is not _ANY:
            there = row.metadata or {}
            wrong += [
                f"metadata[{name!r}] is {there.get(name)!r}, not {value!r}"
                for name, value in self.metadata.items()
                if name not in there or there[name] != value
            ]
        return wrong if self.changes is _ANY else [*wrong, *_other_changes(self.changes, entry)]


def _other_changes(wanted: Mapping[str, Any], entry: Entry) -> Iterator[str]:
    there = {change.field: change for change in entry.changes or ()}
    for name, value in wanted.items():
        field = entry.tracked.model._meta.get_field(name)
        if name not in there:
            yield f"{name} did not change"
        elif not _as_wanted(field, value, there[name]):
            yield f"{name} changed from {_shown(there[name])}, not as {value!r}"
    if entry.action == "~":
        for name in there.keys() - wanted.keys():
            if not getattr(entry.tracked.model._meta.get_field(name), "auto_now", False):
                yield f"{name} changed too, from {_shown(there[name])}"


def _as_wanted(field: Any, value: Any, change: FieldChange) -> bool:
    if change.added is not None and change.removed is not None:
        came, went = value if isinstance(value, tuple) else (value, None)
        return _keys(came) == _keys(change.added) and (went is None or _keys(went) == _keys(change.removed))
    if isinstance(value, tuple):
        return bool(_plain(field, value[0]) == change.old and _plain(field, value[1]) == change.new)
    return bool(_plain(field, value) == change.new)


def _plain(field: Any, value: Any) -> Any:
    """A value as changes hold it; an object stands for its key."""
    if isinstance(value, models.Model):
        value = getattr(value, field.target_field.attname)
    return diff.to_json(field, field.to_python(value))


def _keys(values: Any) -> set[str]:
    return {str(value.pk) if isinstance(value, models.Model) else str(value) for value in values or ()}


def _shown(change: FieldChange) -> str:
    if change.added is not None or change.removed is not None:
        return f"+{change.added} -{change.removed}"
    return f"{change.old!r} to {change.new!r}"


def line(entry: Entry) -> str:
    """An entry in one line, for messages."""
    row = entry.row
    changes = ", ".join(f"{change.field}: {_shown(change)}" for change in entry.changes or ())
    who = f"by {row.actor_name or 'nobody'} with {row.app or 'no app'} in {row.assignation_id or 'no assignation'}"
    return f"{ACTIONS[entry.action].lower()} {entry.tracked.label} {entry.object_id} {who}: {changes or 'no changes'}"
