"""From an entry, or an assignation, to steps and conflicts. Reads only, in sets: the statements depend on models."""

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models.fields.files import FieldFile

from koherent import diff, registry
from koherent.errors import HistoryPruned
from koherent.registry import M2MTracked, TrackedModel
from koherent.revert.checks import Integrity
from koherent.revert.types import Conflict, ConflictCode

BATCH = 5_000


class _Absent:
    """The value of every field of an object that does not exist."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Any = _Absent()
LinkKey = tuple[str, Any]


@dataclass(eq=False)
class Planned:
    """A step while it is being planned.

    ``live`` is the row now (None: it does not exist), ``result`` the row as it will be (None: deleted). ``fields`` are
    the concrete fields that are written, ``sources`` the history row that holds each one's target value.
    """

    tracked: TrackedModel
    pk: Any
    action: str
    live: Any
    result: Any
    fields: tuple[Any, ...] = ()
    sources: dict[str, int] = field(default_factory=dict)
    links_now: dict[str, dict[Any, Any]] = field(default_factory=dict)
    links_then: dict[str, frozenset[Any]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    stubborn: bool = False
    skipped: bool = False

    @property
    def key(self) -> tuple[type[models.Model], Any]:
        """Identifies the object among all steps."""
        return concrete(self.tracked.model), self.pk

    @property
    def m2m(self) -> list[M2MTracked]:
        """The many-to-many fields whose links are written."""
        return [m for m in self.tracked.m2m if m.name in self.links_then]

    def blocked(self, overwrite: bool) -> bool:
        """Whether a conflict stands; with ``overwrite`` those that it overrides do not count."""
        if not overwrite:
            return bool(self.conflicts)
        return self.stubborn or any(c.code not in OVERRIDABLE for c in self.conflicts)


#: What OVERWRITE goes over; ``Planned.stubborn`` marks the exceptions.
OVERRIDABLE = frozenset({ConflictCode.CHANGED_SINCE, ConflictCode.UNTRACKED_FIELDS})


@dataclass(eq=False)
class Plan:
    """The steps, deletions first, and what the checks know about them."""

    steps: list[Planned]
    integrity: Integrity
    entries: dict[TrackedModel, set[int]]

    def settle(self) -> None:
        """Leave out the conflicting steps, and with them those that depend on them, until the rest stands."""
        while True:
            fresh = [step for step in self.steps if step.conflicts and not step.skipped]
            if not fresh:
                return
            for step in fresh:
                step.skipped = True
            for step, conflict in self.integrity.conflicts([s for s in self.steps if not s.skipped]):
                step.conflicts.append(conflict)


def concrete(model: type[models.Model]) -> type[models.Model]:
    """The model whose table it is."""
    found = model._meta.concrete_model
    return model if found is None else found


def value_of(row: Any, model_field: Any) -> Any:
    """A field's stored value; a file is its path."""
    value = getattr(row, model_field.attname)
    return (value.name or "") if isinstance(value, FieldFile) else value


def batches(keys: Iterable[Any]) -> Iterator[list[Any]]:
    """Lists of at most ``BATCH``."""
    items = list(keys)
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def writable(tracked: TrackedModel) -> tuple[Any, ...]:
    """The tracked fields that a revert may write."""
    pk = tracked.model._meta.pk
    return tuple(f for f in tracked.fields if f is not pk and not getattr(f, "generated", False))


def _automatic(model_field: Any) -> bool:
    return bool(getattr(model_field, "auto_now", False))


def _stamped(model_field: Any) -> bool:
    return _automatic(model_field) or bool(getattr(model_field, "auto_now_add", False))


def _all(model: type[models.Model]) -> Any:
    return model._base_manager.using(DEFAULT_DB_ALIAS)


def _rows(tracked: TrackedModel, ids: Iterable[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for batch in batches(ids):
        found.update({row.pk: row for row in _all(tracked.history_model).filter(pk__in=batch)})
    return found


def _links(tracked: TrackedModel, ids: Iterable[int]) -> dict[int, dict[str, set[Any]]]:
    """The many-to-many keys of history rows: id -> field -> keys."""
    wanted = list(ids)
    found: dict[int, dict[str, set[Any]]] = {i: {m.name: set() for m in tracked.m2m} for i in wanted}
    for m2m in tracked.m2m:
        for batch in batches(wanted):
            rows = _all(m2m.history_model).filter(history_id__in=batch).values_list("history_id", m2m.target_attname)
            for history_id, target in rows:
                found[history_id][m2m.name].add(target)
    return found


@dataclass(eq=False)
class _Live:
    rows: dict[Any, Any]
    links: dict[Any, dict[str, dict[Any, Any]]]


def _live(tracked: TrackedModel, pks: Sequence[Any], lock: bool) -> _Live:
    """The rows and links as they are now: pk -> instance, pk -> field -> target -> key of the link."""
    rows: dict[Any, Any] = {}
    links: dict[Any, dict[str, dict[Any, Any]]] = {pk: {m.name: {} for m in tracked.m2m} for pk in pks}
    for batch in batches(pks):
        queryset = _all(tracked.model).filter(pk__in=batch).order_by("pk")
        if lock and connections[DEFAULT_DB_ALIAS].features.has_select_for_update:
            queryset = queryset.select_for_update(of=("self",))
        rows.update({row.pk: row for row in queryset})
        for m2m in tracked.m2m:
            found = _all(m2m.through).filter(**{f"{m2m.source_attname}__in": batch})
            for key, source, target in found.values_list("pk", m2m.source_attname, m2m.target_attname):
                links[source][m2m.name][target] = key
    return _Live(rows, links)


def latest_entries(tracked: TrackedModel, pks: Iterable[Any]) -> dict[Any, int]:
    """The newest history id of each object."""
    found: dict[Any, int] = {}
    for batch in batches(pks):
        rows = _all(tracked.history_model).filter(**{f"{tracked.pk_attname}__in": batch}).order_by()
        found.update(dict(rows.values_list(tracked.pk_attname).annotate(models.Max("history_id"))))
    return found


@dataclass(eq=False)
class _Track:
    """What one assignation did to one object: per field the value before, where it is stored, and what it left."""

    before: dict[Any, Any] = field(default_factory=dict)
    source: dict[Any, int] = field(default_factory=dict)
    left: dict[Any, Any] = field(default_factory=dict)
    broken: dict[Any, int] = field(default_factory=dict)
    existed: bool = True
    exists: bool = True
    first: Any = None
    last: Any = None

    def moved(self, name: Any, old: Any, new: Any, previous: int | None) -> None:
        if same(old, new):
            return
        if name not in self.before:
            self.before[name] = old
            if previous is not None:
                self.source[name] = previous
        elif previous is not None and not same(old, self.left[name]):
            self.broken[name] = previous
        self.left[name] = new


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal; ABSENT equals nothing else."""
    if one is ABSENT or other is ABSENT:
        return one is other
    return diff.same(one, other)


def known_names(tracked: TrackedModel, row: Any) -> frozenset[str]:
    """The fields whose values a history row still holds: the model had them, and they were not erased."""
    return tracked.field_names(row) - diff.erased_fields(row)


def _values(tracked: TrackedModel, row: Any, links: dict[str, set[Any]]) -> dict[Any, Any]:
    names = known_names(tracked, row)
    values: dict[Any, Any] = {f.name: value_of(row, f) for f in writable(tracked) if f.name in names}
    for m2m in tracked.m2m:
        if m2m.name in names:
            values.update({(m2m.name, target): True for target in links[m2m.name]})
    return values


def _walk(tracked: TrackedModel, own: list[Any], previous: dict[int, Any], links: dict[int, Any]) -> _Track:
    """Go through the assignation's entries of one object, each against the entry before it, whoever wrote that."""
    track = _Track(first=own[0], last=own[-1])
    for row in own:
        prior = previous.get(row.pk)
        was_there = prior is not None and prior.history_type != "-"
        before = prior if was_there else None
        if row is own[0]:
            track.existed = was_there or row.history_type != "+"
        track.exists = row.history_type != "-"
        if row.history_type == "~" and not was_there:
            raise HistoryPruned("The entry before this assignation's first change is gone.", model=tracked.label)
        new = _values(tracked, row, links[row.pk])
        if row.history_type == "-":
            # The entry of a deletion holds the last values, whatever wrote them.
            for name, value in new.items():
                track.moved(name, value, ABSENT, row.pk)
            continue
        old = {} if before is None else _values(tracked, before, links[before.pk])
        known = tracked.names if before is None else known_names(tracked, before)
        for name in {*old, *new}:
            link = isinstance(name, tuple)
            if (name[0] if link else name) not in known & known_names(tracked, row):
                continue
            nothing = False if link and was_there else ABSENT
            gone = False if link else ABSENT
            track.moved(name, old.get(name, nothing), new.get(name, gone), prior.pk if prior is not None else None)
    return track


class _Planner:
    """Plans the steps of one model."""

    def __init__(self, tracked: TrackedModel, live: _Live) -> None:
        self.tracked, self.live = tracked, live
        self.by_name = {f.name: f for f in writable(tracked)}

    def create(
        self, pk: Any, values: dict[Any, Any], sources: dict[str, int], links: dict[str, frozenset[Any]]
    ) -> Planned:
        """The object comes back with ``values`` (by field name); other fields get their defaults."""
        model = self.tracked.model
        result = model(**{self.by_name[n].attname: v for n, v in values.items()}, **{self.tracked.pk_attname: pk})
        result._state.db = DEFAULT_DB_ALIAS
        fields = tuple(f for n, f in self.by_name.items() if n in values)
        now = {m.name: dict[Any, Any]() for m in self.tracked.m2m}
        step = Planned(self.tracked, pk, "+", None, result, fields, sources, now, links)
        excluded = set(self.tracked.field.excluded_fields)
        untracked = [
            f
            for f in model._meta.concrete_fields
            if f.name not in values and f is not model._meta.pk and not getattr(f, "generated", False)
        ]
        helpless = [f.name for f in untracked if not (f.null or f.has_default() or f.has_db_default() or _stamped(f))]
        names = [f.name for f in untracked if f.name in excluded or f.name in helpless]
        if names:
            message = f"The history does not hold {', '.join(sorted(names))}."
            step.conflicts.append(
                Conflict(code=ConflictCode.UNTRACKED_FIELDS, message=message, fields=tuple(sorted(names)))
            )
            step.stubborn = bool(helpless)
        return step

    def update(
        self, pk: Any, values: dict[str, Any], sources: dict[str, int], links: dict[str, frozenset[Any]]
    ) -> Planned | None:
        """The fields among ``values`` that differ go back; None when none does."""
        row = self.live.rows[pk]
        differing = {n: v for n, v in values.items() if not same(value_of(row, self.by_name[n]), v)}
        moved = {n: keys for n, keys in links.items() if keys != frozenset(self.live.links[pk][n])}
        if not moved and all(_automatic(self.by_name[n]) for n in differing):
            return None
        differing = {n: v for n, v in differing.items() if not _automatic(self.by_name[n])}
        result = copy.copy(row)
        for name, value in differing.items():
            setattr(result, self.by_name[name].attname, value)
        fields = tuple(f for n, f in self.by_name.items() if n in differing)
        return Planned(
            self.tracked, pk, "~", row, result, fields, {n: sources[n] for n in differing}, self.live.links[pk], moved
        )

    def delete(self, pk: Any) -> Planned:
        """The object goes."""
        return Planned(self.tracked, pk, "-", self.live.rows[pk], None, links_now=self.live.links[pk])

    def current(self, pk: Any, name: Any) -> Any:
        """The value now of a field or of one link; ABSENT when the object is."""
        if pk not in self.live.rows:
            return ABSENT
        if isinstance(name, tuple):
            return name[1] in self.live.links[pk][name[0]]
        return value_of(self.live.rows[pk], self.by_name[name])

    def undo(self, pk: Any, track: _Track, last_known: tuple[Any, dict[str, set[Any]]] | None) -> Planned | None:
        """The step that takes an assignation's delta of one object back; None when there is nothing to do."""
        here = pk in self.live.rows
        if not track.existed:
            if not track.exists or not here:
                return None
            step = self.delete(pk)
            changed = {n for n, left in track.left.items() if not same(self.current(pk, n), left)}
            changed |= {
                (m, target)
                for m, targets in self.live.links[pk].items()
                for target in targets
                if (m, target) not in track.left
            }
            return self.since(step, track, changed | set(track.broken))
        if not track.exists and not here:
            values = {n: v for n, v in track.before.items() if not isinstance(n, tuple) and v is not ABSENT}
            return self.create(pk, values, dict(track.source), self.link_sets(track, {}))
        # Fields whose net change is nothing are none of this revert's business.
        net = {n for n, v in track.before.items() if not same(v, track.left[n]) or n in track.broken}
        net = {n for n in net if isinstance(n, tuple) or not _automatic(self.by_name[n])}
        if not net:
            return None
        values = {n: track.before[n] for n in net if not isinstance(n, tuple) and track.before[n] is not ABSENT}
        sources = {n: track.source[n] for n in values}
        if not here:
            if last_known is None:
                return None
            row, links = last_known
            rest = {f.name: value_of(row, f) for f in self.by_name.values() if f.name in known_names(self.tracked, row)}
            sources = {**dict.fromkeys(rest, row.pk), **sources}
            then = self.link_sets(track, {m: set(keys) for m, keys in links.items()})
            return self.since(self.create(pk, {**rest, **values}, sources, then), track, net)
        now = {m: set(targets) for m, targets in self.live.links[pk].items()}
        found = self.update(pk, values, sources, self.link_sets(track, now, net))
        if found is None:
            return None
        changed = {
            n
            for n in net
            if not same(self.current(pk, n), track.before[n])
            and (n in track.broken or not same(self.current(pk, n), track.left[n]))
        }
        if not track.exists:
            # Somebody created it again meanwhile; links beyond the ones it had then are theirs.
            changed |= {n for n in net if isinstance(n, tuple) and not same(self.current(pk, n), track.before[n])}
        return self.since(found, track, changed)

    def link_sets(
        self, track: _Track, now: dict[str, set[Any]], net: set[Any] | None = None
    ) -> dict[str, frozenset[Any]]:
        """The links as they will be: those of ``now``, but the assignation's own taken back."""
        sets: dict[str, set[Any]] = {m: set(keys) for m, keys in now.items()}
        for name, before in track.before.items():
            if not isinstance(name, tuple) or (net is not None and name not in net):
                continue
            keys = sets.setdefault(name[0], set())
            if before is True:
                keys.add(name[1])
            else:
                keys.discard(name[1])
        return {m: frozenset(keys) for m, keys in sets.items()}

    def since(self, step: Planned, track: _Track, changed: set[Any]) -> Planned:
        """Mark what others changed after the assignation."""
        names = {n[0] if isinstance(n, tuple) else n for n in changed}
        names = {n for n in names if n not in self.by_name or not _automatic(self.by_name[n])}
        if names:
            message = f"{', '.join(sorted(names))} changed since."
            step.conflicts.append(
                Conflict(code=ConflictCode.CHANGED_SINCE, message=message, fields=tuple(sorted(names)))
            )
        return step


def entry_plan(tracked: TrackedModel, row: Any, *, lock: bool = False) -> tuple[Plan, int]:
    """The plan to give an object the values of one of its entries, and the object's latest history id."""
    pk = getattr(row, tracked.pk_attname)
    planner = _Planner(tracked, _live(tracked, [pk], lock))
    here = pk in planner.live.rows
    step: Planned | None = None
    if row.history_type == "-" and here:
        step = planner.delete(pk)
    elif row.history_type != "-":
        names = known_names(tracked, row)
        values = {f.name: value_of(row, f) for f in writable(tracked) if f.name in names}
        sources = dict.fromkeys(values, row.pk)
        links = {m: frozenset(keys) for m, keys in _links(tracked, [row.pk])[row.pk].items() if m in names}
        step = planner.update(pk, values, sources, links) if here else planner.create(pk, values, sources, links)
    return _checked([] if step is None else [step], {tracked: {row.pk}}), latest_entries(tracked, [pk])[pk]


def assignation_plan(assignation_id: str, *, lock: bool = False) -> Plan | None:
    """The plan to undo an assignation; None when it wrote nothing. Raises ``HistoryPruned``."""
    steps: list[Planned] = []
    entries: dict[TrackedModel, set[int]] = {}
    for tracked in registry.tracked_models():
        history = tracked.history_model
        before = _all(history).filter(
            **{tracked.pk_attname: models.OuterRef(tracked.pk_attname)}, history_id__lt=models.OuterRef("history_id")
        )
        own = list(
            _all(history)
            .filter(assignation_id=assignation_id)
            .annotate(koherent_before=models.Subquery(before.order_by("-history_id").values("history_id")[:1]))
            .order_by("history_id")
        )
        if not own:
            continue
        entries[tracked] = {row.pk for row in own}
        prior = {row.pk: row for row in own}
        prior.update(_rows(tracked, {row.koherent_before for row in own} - {None, *prior}))
        previous = {row.pk: prior[row.koherent_before] for row in own if row.koherent_before is not None}
        links = _links(tracked, prior)
        objects: dict[Any, list[Any]] = defaultdict(list)
        for row in own:
            objects[getattr(row, tracked.pk_attname)].append(row)
        planner = _Planner(tracked, _live(tracked, sorted(objects, key=str), lock))
        tracks = {pk: _walk(tracked, rows, previous, links) for pk, rows in objects.items()}
        gone = [pk for pk, track in tracks.items() if track.existed and track.exists and pk not in planner.live.rows]
        newest = latest_entries(tracked, gone)
        final = _rows(tracked, newest.values())
        final_links = _links(tracked, newest.values())
        last_known = {pk: (final[newest_id], final_links[newest_id]) for pk, newest_id in newest.items()}
        planned: dict[Any, Planned] = {}
        for pk, track in tracks.items():
            step = planner.undo(pk, track, last_known.get(pk))
            if step is not None:
                planned[pk] = step
        _name_later_entries(tracked, planned, tracks)
        steps += planned.values()
    return _checked(steps, entries) if entries else None


def _name_later_entries(tracked: TrackedModel, planned: dict[Any, Planned], tracks: dict[Any, _Track]) -> None:
    """Put the entry that is in the way on each CHANGED_SINCE: the newest that moved one of its fields."""
    conflicting = {
        pk: step for pk, step in planned.items() if any(c.code is ConflictCode.CHANGED_SINCE for c in step.conflicts)
    }
    if not conflicting:
        return
    later: dict[Any, list[Any]] = defaultdict(list)
    floor = min(tracks[pk].last.pk for pk in conflicting)
    for batch in batches(conflicting):
        rows = _all(tracked.history_model).filter(**{f"{tracked.pk_attname}__in": batch}, history_id__gt=floor)
        for row in rows.order_by("history_id"):
            pk = getattr(row, tracked.pk_attname)
            if row.pk > tracks[pk].last.pk:
                later[pk].append(row)
    links = _links(
        tracked, [r.pk for rows in later.values() for r in rows] + [tracks[pk].last.pk for pk in conflicting]
    )
    for pk, step in conflicting.items():
        track = tracks[pk]
        for number, conflict in enumerate(step.conflicts):
            if conflict.code is not ConflictCode.CHANGED_SINCE:
                continue
            culprit = max((i for n, i in track.broken.items() if _base(n) in conflict.fields), default=None)
            prior = track.last
            for row in later[pk]:
                old, new = _values(tracked, prior, links[prior.pk]), _values(tracked, row, links[row.pk])
                moved = {_base(n) for n in {*old, *new} if old.get(n, ABSENT) != new.get(n, ABSENT)}
                if moved & set(conflict.fields) or row.history_type != "~":
                    culprit = row.pk
                prior = row
            entry = None if culprit is None else (tracked.label, culprit)
            step.conflicts[number] = Conflict(
                code=conflict.code, message=conflict.message, fields=conflict.fields, entry=entry
            )


def _base(name: Any) -> str:
    return str(name[0] if isinstance(name, tuple) else name)


def _checked(steps: list[Planned], entries: dict[TrackedModel, set[int]]) -> Plan:
    ordered = _ordered(steps)
    integrity = Integrity(ordered)
    for step, conflict in integrity.conflicts(ordered):
        step.conflicts.append(conflict)
    _validate(ordered)
    return Plan(ordered, integrity, entries)


def _ordered(steps: list[Planned]) -> list[Planned]:
    """Deletions, children first; changes; creations, parents first."""
    involved = {concrete(step.tracked.model): step.tracked for step in steps}
    rank: dict[type[models.Model], int] = {}

    def depth(model: type[models.Model], seen: frozenset[type[models.Model]]) -> int:
        if model not in rank:
            parents = {
                concrete(f.remote_field.model)
                for f in model._meta.concrete_fields
                if f.remote_field is not None and concrete(f.remote_field.model) in involved
            }
            # A cycle has no order; its constraints are deferred to the end of the transaction.
            found = 1 + max((depth(p, seen | {model}) for p in parents - seen - {model}), default=-1)
            if seen:
                return found
            rank[model] = found
        return rank[model]

    for model in sorted(involved, key=lambda m: m._meta.label_lower):
        depth(model, frozenset())
    sign = {"-": -1, "~": 0, "+": 1}

    def order(step: Planned) -> tuple[int, int, str]:
        level = sign[step.action]
        return level, level * rank[concrete(step.tracked.model)], step.tracked.label

    return sorted(steps, key=order)


def _validate(steps: list[Planned]) -> None:
    """``clean_fields()`` on what changes and ``clean()``; the database's part of validation is checked in sets."""
    results = {step.key: step.result for step in steps if step.result is not None}
    for step in steps:
        if step.result is None:
            continue
        own_clean = type(step.result).clean is not models.Model.clean
        written = {f.name for f in step.fields if f.remote_field is None}
        exclude = {f.name for f in step.tracked.model._meta.concrete_fields} - written
        checked = copy.copy(step.result)
        errors: dict[str, list[str]] = {}
        try:
            checked.clean_fields(exclude=exclude)
        except ValidationError as error:
            errors.update(error.message_dict)
        if own_clean:
            # What the same plan creates is not in the database yet, where clean() would look for it.
            foreign: list[Any] = [f for f in step.tracked.fields if f.remote_field is not None]
            for key in foreign:
                target = results.get((concrete(key.remote_field.model), getattr(checked, key.attname)))
                if target is not None and key.target_field.primary_key:
                    key.set_cached_value(checked, target)
            try:
                checked.clean()
            except ValidationError as error:
                for name, messages in error.update_error_dict({}).items():
                    errors.setdefault(name, []).extend(str(m) for e in messages for m in e.messages)
        if errors:
            names = tuple(sorted(name for name in errors if name != "__all__"))
            message = " ".join(message for messages in errors.values() for message in messages)
            step.conflicts.append(Conflict(code=ConflictCode.INVALID, message=message, fields=names))
