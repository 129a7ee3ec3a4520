"""Compares what a write left in the trail with what it should have left: whole rows, of all tracked models at once."""

from collections import defaultdict
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import ANY

from django.apps import apps
from django.contrib.auth.models import User
from django.db import connections, models, router
from django.utils import timezone

import koherent
from koherent import registry
from koherent.models import Assignation
from koherent.registry import M2MTracked, TrackedModel
from koherent.runs import SHARED

Key = tuple[str, str]
State = dict[Key, dict[str, Any]]

#: What every entry of a watched write must carry.
ATTRIBUTION: dict[str, Any] = {
    "app": "cli",
    "assignation_id": "task-1",
    "history_change_reason": "because",
    "origin": "change",
    "metadata": {"ticket": 7},
}


class Entry:
    """One expected entry: its type, its object, and the values that differ from the entry before.

    ``of`` names an attribute of the case, or, for an object that the write makes, ``"Model:label"``. A many-to-many
    field's value is the set of the labels on the other side, or of (label, extra values).
    """

    def __init__(self, type: str, of: str, **changes: Any) -> None:
        self.type, self.of, self.changes = type, of, changes

    def __repr__(self) -> str:
        return f"Entry({self.type!r}, {self.of!r}, {self.changes!r})"


class Case(SimpleNamespace):
    """The objects of one test by name. Their keys are remembered, because a deleted object has none."""

    def __init__(self, **objects: Any) -> None:
        super().__init__(**objects)
        self._keys = {name: key_of(value) for name, value in objects.items() if _is_saved(value)}

    def copy(self) -> "Case":
        """The same case with instances of its own, for a write that may leave them half changed."""
        case = type(self).__new__(type(self))
        vars(case).update(vars(self))
        for name, value in vars(self).items():
            if isinstance(value, models.Model):
                setattr(case, name, deepcopy(value))
        return case

    def key(self, of: str) -> Key:
        """The key of what an ``Entry`` is about."""
        if of in self._keys:
            found: Key = self._keys[of]
            return found
        name, label = of.split(":")
        tracked = registry.for_model(apps.get_model("wide", name))
        assert tracked is not None
        return key_of(live_of(tracked).get(**{str(tracked.field.label): label}))


@cache
def watched() -> tuple[TrackedModel, ...]:
    """The tracked models of the tables of paths: all of them, so that an entry too many anywhere is seen."""
    return tuple(tracked for tracked in registry.tracked_models() if tracked.model.__module__ == "tests.wide.models")


def key_of(instance: models.Model) -> Key:
    """How the tables of this module name an object; a proxy is its concrete model's."""
    tracked = registry.for_model(type(instance))
    assert tracked is not None
    return tracked.label, str(instance.pk)


def _is_saved(value: Any) -> bool:
    return isinstance(value, models.Model) and not value._state.adding and registry.for_model(type(value)) is not None


def live_of(tracked: TrackedModel) -> Any:
    """The rows of a model, whichever database they are in."""
    return tracked.model._base_manager.using(router.db_for_write(tracked.model))


def _by_label(expression: str, table: Callable[[TrackedModel], Any]) -> dict[str, Any]:
    """One value of each model's table, in one statement a database."""
    selects: dict[str, list[str]] = defaultdict(list)
    for tracked in watched():
        sql = f"SELECT '{tracked.label}', {expression} FROM {table(tracked)._meta.db_table}"
        selects[router.db_for_write(tracked.model)].append(sql)
    found: dict[str, Any] = {}
    for alias, parts in selects.items():
        with connections[alias].cursor() as cursor:
            cursor.execute(" UNION ALL ".join(parts))
            found |= dict(cursor.fetchall())
    return found


def newest() -> dict[str, int]:
    """The highest history id of each model, 0 where there is none."""
    return _by_label("COALESCE(MAX(history_id), 0)", lambda tracked: tracked.history_model)


def state() -> State:
    """Every tracked row as the database holds it now: its tracked columns, and its tracked links."""
    found: State = {}
    rows = _by_label("COUNT(*)", lambda tracked: tracked.model)
    for tracked in watched():
        if not rows[tracked.label]:
            continue
        names = [f.attname for f in tracked.fields]
        for row in live_of(tracked).values(*names):
            found[tracked.label, str(row[tracked.pk_attname])] = row
        for m2m in tracked.m2m:
            owners = _by_owner(m2m, m2m.through, m2m.source_attname)
            for (label, _), values in found.items():
                if label == tracked.label:
                    values[m2m.name] = owners(values[tracked.pk_attname])
    return found


def without_auto_now(found: State) -> State:
    """The same without the time stamps that a save without a change moves: by design, they have no entry."""
    moving = {
        t.label: {f.attname for f in t.fields if getattr(f, "auto_now", False)} for t in registry.tracked_models()
    }
    return {
        key: {name: value for name, value in values.items() if name not in moving[key[0]]}
        for key, values in found.items()
    }


def history_of(tracked: TrackedModel) -> Any:
    """The history rows of a model, whichever database they are in."""
    return tracked.history_model._base_manager.using(router.db_for_write(tracked.model))


def link_columns(m2m: M2MTracked) -> list[str]:
    """What a link says besides its owner: the other side's key, then the values of a through model's own fields."""
    plain = {m2m.source_attname, m2m.target_attname}
    extra = [f.attname for f in m2m.through._meta.concrete_fields if f.attname not in plain and not f.primary_key]
    return [m2m.target_attname, *extra]


def _by_owner(m2m: M2MTracked, model: Any, owner: str) -> Callable[[Any], frozenset[Any]]:
    """The links of each owner: the other side's keys, with the values of a through model's own fields if it has any."""
    extra = link_columns(m2m)[1:]
    owners: dict[Any, set[Any]] = defaultdict(set)
    for row in model._base_manager.values():
        target = str(row[m2m.target_attname])
        owners[row[owner]].add((target, *((name, row[name]) for name in extra)) if extra else target)
    return lambda key: frozenset(owners[key])


def _runs_of(tracked: TrackedModel, row: dict[str, Any]) -> int:
    """How many runs an entry is in, as far as they say what it says."""
    if tracked.model._meta.model_name == "elsewhere":
        return 0
    shared = {name: row[name] for name in SHARED}
    within = {"first_id__lte": row["history_id"], "last_id__gte": row["history_id"]}
    return Assignation.objects.filter(model=tracked.label, **within, **shared).count()


@dataclass
class Watch:
    """Remembers the state before a write, and then tells what the trail should hold and what it holds.

    ``waiting`` says that the case's own entries may not be written yet: the trail is not looked at, and only the
    entries with the attribution of the write count.
    """

    case: Case
    user: User
    waiting: bool = False
    before: State = field(default_factory=state)

    def __post_init__(self) -> None:
        self.started = timezone.now()
        self.newest = dict.fromkeys((t.label for t in watched()), 0) if self.waiting else newest()

    def audit(self) -> Any:
        """The attribution that every entry must carry."""
        return koherent.audit(user=self.user, app="cli", assignation_id="task-1", reason="because", ticket=7)

    def found(self) -> list[dict[str, Any]]:
        """The entries since the beginning, whole, by object and then in the order of writing."""
        rows: list[dict[str, Any]] = []
        now, last = timezone.now(), newest()
        for tracked in watched():
            if last[tracked.label] == self.newest[tracked.label]:
                continue
            links = {m2m.name: _by_owner(m2m, m2m.history_model, "history_id") for m2m in tracked.m2m}
            rows_of = history_of(tracked).filter(history_id__gt=self.newest[tracked.label])
            if self.waiting:
                rows_of = rows_of.filter(assignation_id=ATTRIBUTION["assignation_id"])
            for row in rows_of.values():
                assert _runs_of(tracked, row) == int(row.pop("in_run"))
                assert self.started <= row.pop("history_date") <= now
                assert row.pop("position") > 0
                assert row.pop("field_set") == tracked.field_set
                row |= {name: owners(row["history_id"]) for name, owners in links.items()}
                rows.append({"model": tracked.label, "key": str(row[tracked.pk_attname]), **row})
        rows.sort(key=lambda row: (row["model"], row["key"], row.pop("history_id")))
        return rows

    def expected(self, entries: list[Entry], after: State) -> list[dict[str, Any]]:
        """The same, as the table of paths says."""
        now = {key: dict(values) for key, values in self.before.items()}
        last = {self.case.key(entry.of): entry for entry in entries}
        rows: list[dict[str, Any]] = []
        for entry in entries:
            key = self.case.key(entry.of)
            tracked = registry.by_label(key[0])
            assert tracked is not None
            values = dict(after[key]) if entry.type == "+" else now[key]
            if entry.type != "-":
                values = {**values, **{name: self._resolved(tracked, name, v) for name, v in entry.changes.items()}}
                for f in tracked.fields:
                    if getattr(f, "auto_now", False):
                        values[f.attname] = after[key][f.attname] if entry is last[key] else ANY
            now[key] = values
            if entry is last[key]:
                # The table is right about the change itself.
                assert after.get(key) == (None if entry.type == "-" else values)
            rows.append(
                {
                    "model": key[0],
                    "key": key[1],
                    **values,
                    **ATTRIBUTION,
                    "history_type": entry.type,
                    "history_user_id": self.user.pk,
                    "actor_id": str(self.user.pk),
                    "actor_name": self.user.get_username(),
                }
            )
        # What has no entry has not changed, but for time stamps that a save without a change moves.
        untouched, still = without_auto_now(self.before), without_auto_now(after)
        for key in untouched.keys() | still.keys():
            if key not in last:
                assert still.get(key) == untouched.get(key)
        return sorted(rows, key=lambda row: (row["model"], row["key"]))

    def _resolved(self, tracked: TrackedModel, name: str, value: Any) -> Any:
        """Names as keys in many-to-many fields; what only the case knows is asked for."""
        if callable(value):
            return value(self.case)
        if name in {m2m.name for m2m in tracked.m2m}:
            return frozenset(
                (self.case.key(item[0])[1], *item[1:]) if isinstance(item, tuple) else self.case.key(item)[1]
                for item in value
            )
        return value

    def check(self, entries: list[Entry]) -> None:
        """The trail holds exactly these entries, whole, and the assignation began if there is one."""
        assert self.found() == self.expected(entries, state())
        tracked_here = [e for e in entries if self.case.key(e.of)[0] != "wide.elsewhere"]
        began = list(Assignation.objects.filter(assignation_id="task-1"))
        assert bool(began) == bool(tracked_here)
        assert len([row for row in began if row.model is None]) <= 1
