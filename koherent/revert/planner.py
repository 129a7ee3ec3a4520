"""Plans the steps of one model."""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS

from koherent.registry import TrackedModel
from koherent.revert.delta import Delta
from koherent.revert.links import Links
from koherent.revert.live import Live
from koherent.revert.steps import NOTHING, Columns, ColumnSets, Planned
from koherent.revert.types import Conflict, ConflictCode
from koherent.revert.uniques import unique_values, written_uniques
from koherent.revert.validity import field_errors
from koherent.revert.values import ABSENT, Name, automatic, base_name, concrete, same, stamped, value_of, writable
from koherent.revert.versions import Version


class Planner:
    """Plans steps of one model's objects. ``label`` says what the viewer calls an object, from its row."""

    def __init__(self, tracked: TrackedModel, label: Callable[[TrackedModel, Any], str]) -> None:
        self.tracked, self._label = tracked, label
        self.by_name = _by_name(tracked)
        self._sets = ColumnSets(writable(tracked))
        self._all = _all_columns(tracked)
        self.live = Live({}, {})

    def create(self, pk: Any, values: Mapping[str, Any], sources: Mapping[str, int], links: "_Links") -> Planned:
        """The object comes back with ``values`` (by field name); other fields get their defaults."""
        model = self.tracked.model
        row = model(**{self.by_name[n].attname: v for n, v in values.items()}, **{self.tracked.pk_attname: pk})
        row._state.db = DEFAULT_DB_ALIAS
        columns = self._sets.of(frozenset(values))
        step = Planned(
            self.tracked,
            pk,
            "+",
            columns,
            None,
            tuple(values[f.name] for f in columns.fields),
            self._label(self.tracked, row),
            sources=tuple(sources[f.name] for f in columns.fields),
            links_now=links.none,
            links_then=links.then,
            link_sources=links.sources,
            uniques=unique_values(row, written_uniques(concrete(model), None)),
        )
        self._untracked(step, columns)
        step.conflicts += field_errors(row, columns)
        return step

    def _untracked(self, step: Planned, columns: Columns) -> None:
        model = self.tracked.model
        excluded = set(self.tracked.field.excluded_fields)
        untracked: list[Any] = [
            f
            for f in model._meta.concrete_fields
            if f.name not in columns.names and f is not model._meta.pk and not getattr(f, "generated", False)
        ]
        helpless = [f.name for f in untracked if not (f.null or f.has_default() or f.has_db_default() or stamped(f))]
        names = tuple(sorted(f.name for f in untracked if f.name in excluded or f.name in helpless))
        if names:
            message = f"The history does not hold {', '.join(names)}."
            step.add(Conflict(code=ConflictCode.UNTRACKED_FIELDS, message=message, fields=names))
            step.stubborn = bool(helpless)

    def update(self, pk: Any, values: Mapping[str, Any], sources: Mapping[str, int], links: "_Links") -> Planned | None:
        """The fields among ``values`` that differ go back; None when none does. Takes the live row for itself."""
        row = self.live.rows[pk]
        differing = {n: v for n, v in values.items() if not same(value_of(row, self.by_name[n]), v)}
        moved = {n: keys for n, keys in links.then.items() if keys != self.live.links[pk][n]}
        differing = {n: v for n, v in differing.items() if not automatic(self.by_name[n])}
        if not moved and not differing:
            return None
        columns = self._sets.of(frozenset(differing))
        now = tuple(value_of(row, f) for f in columns.fields)
        label = self._label(self.tracked, row)
        uniques = written_uniques(concrete(self.tracked.model), columns.index)
        for f in columns.fields:
            setattr(row, f.attname, differing[f.name])
        return Planned(
            self.tracked,
            pk,
            "~",
            columns,
            now,
            tuple(differing[f.name] for f in columns.fields),
            label,
            sources=tuple(sources[f.name] for f in columns.fields),
            links_now=self.live.links[pk] if moved else NOTHING,
            links_then=moved or NOTHING,
            link_sources=links.sources if moved else NOTHING,
            uniques=unique_values(row, uniques),
            conflicts=field_errors(row, columns),
        )

    def delete(self, pk: Any) -> Planned:
        """The object goes."""
        row = self.live.rows[pk]
        now = tuple(value_of(row, f) for f in self._all.fields)
        links = self.live.links[pk] or NOTHING
        return Planned(self.tracked, pk, "-", self._all, now, None, self._label(self.tracked, row), links_now=links)

    def to_version(self, pk: Any, version: Version) -> Planned | None:
        """The step that gives an object the values of one of its history rows; None when it has them."""
        here = pk in self.live.rows
        if version.action == "-":
            return self.delete(pk) if here else None
        values = version.fields()
        sources = dict.fromkeys(values, version.id)
        found = version.links()
        then = {m.name: found.get(m.name, {}) for m in self.tracked.m2m if m.name in version.known}
        links = _Links(then, {(name, key): version.id for name, keys in then.items() for key in keys})
        return self.update(pk, values, sources, links) if here else self.create(pk, values, sources, links)

    def undo(self, pk: Any, delta: Delta, last_known: Version | None) -> Planned | None:
        """The step that takes an assignation's delta of one object back; None when there is nothing to do.

        ``last_known`` is the object's newest history row, of an object that is gone though the assignation left it.
        """
        here = pk in self.live.rows
        if not delta.existed:
            return self._undo_creation(pk, delta) if delta.exists and here else None
        if not delta.exists and not here:
            values = {n: v for n, v in delta.before.items() if isinstance(n, str) and v is not ABSENT}
            return self.create(pk, values, delta.source, self._links(delta, {}))  # type: ignore[arg-type]
        # Fields whose net change is nothing are none of this revert's business.
        net = {n for n, v in delta.before.items() if n in delta.broken or not same(v, delta.left[n])}
        net = {n for n in net if not isinstance(n, str) or not automatic(self.by_name[n])}
        if not net:
            return None
        values = {n: delta.before[n] for n in net if isinstance(n, str) and delta.before[n] is not ABSENT}
        sources: dict[str, int] = {n: delta.source[n] for n in values}
        if not here:
            if last_known is None:
                return None
            rest = last_known.fields()
            sources = {**dict.fromkeys(rest, last_known.id), **sources}
            links = self._links(delta, last_known.links(), base=last_known.id)
            return _since(self.create(pk, {**rest, **values}, sources, links), net)
        # Reading comes before update(), which takes the row.
        wrong = {n for n in net if not same(self._current(pk, n), delta.before[n])}
        changed = {n for n in wrong if n in delta.broken or not same(self._current(pk, n), delta.left[n])}
        if not delta.exists:
            # Somebody created it again meanwhile; links beyond the ones it had then are theirs.
            changed |= {n for n in wrong if not isinstance(n, str)}
        step = self.update(pk, values, sources, self._links(delta, self.live.links[pk], net))
        return None if step is None else _since(step, changed)

    def _undo_creation(self, pk: Any, delta: Delta) -> Planned:
        changed = {n for n, left in delta.left.items() if not same(self._current(pk, n), left)}
        for m2m, targets in self.live.links[pk].items():
            changed |= {(m2m, target) for target in targets if (m2m, target) not in delta.left}
        changed |= delta.broken.keys()
        changed = {n for n in changed if not isinstance(n, str) or not automatic(self.by_name[n])}
        return _since(self.delete(pk), changed)

    def _current(self, pk: Any, name: Name) -> Any:
        """The value now of a field or of one link, of an object that is there."""
        if isinstance(name, str):
            return value_of(self.live.rows[pk], self.by_name[name])
        return self.live.links[pk][name[0]].get(name[1], False)

    def _links(self, delta: Delta, now: Links, net: set[Name] | None = None, base: int | None = None) -> "_Links":
        """The links as they will be: those of ``now`` (held by ``base``), but the assignation's own taken back."""
        if not self.tracked.m2m:
            return _NO_LINKS
        then: dict[str, dict[Any, Any]] = {m: dict(links) for m, links in now.items()}
        sources: dict[tuple[str, Any], int] = {}
        if base is not None:
            sources = {(m, key): base for m, keys in now.items() for key in keys}
        for name, before in delta.before.items():
            if isinstance(name, str) or (net is not None and name not in net):
                continue
            links = then.setdefault(name[0], {})
            if before is False or before is ABSENT:
                links.pop(name[1], None)
            else:
                links[name[1]] = before
                sources[name] = delta.source[name]
        return _Links(then, sources)


@cache
def _by_name(tracked: TrackedModel) -> dict[str, Any]:
    return {f.name: f for f in writable(tracked)}


@cache
def _all_columns(tracked: TrackedModel) -> Columns:
    return Columns(tuple(tracked.fields))


class _Links:
    """Links as they will be, and which history row holds each."""

    __slots__ = ("none", "sources", "then")

    def __init__(self, then: Links, sources: Mapping[tuple[str, Any], int]) -> None:
        self.then, self.sources = then or NOTHING, sources or NOTHING
        self.none: Links = dict.fromkeys(then, NOTHING) or NOTHING


_NO_LINKS = _Links({}, {})


def _since(step: Planned, changed: set[Name]) -> Planned:
    """Mark what others changed after the assignation."""
    if changed:
        names = tuple(sorted({base_name(n) for n in changed}))
        message = f"{', '.join(names)} changed since."
        step.add(Conflict(code=ConflictCode.CHANGED_SINCE, message=message, fields=names))
    return step
