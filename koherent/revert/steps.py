"""A step of a plan: small, because a plan may have a hundred thousand of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeAlias

from koherent.registry import M2MTracked, TrackedModel
from koherent.revert.types import Conflict, ConflictCode
from koherent.revert.values import Model, concrete

#: What OVERWRITE goes over; ``Planned.stubborn`` marks the exceptions.
OVERRIDABLE = frozenset({ConflictCode.CHANGED_SINCE, ConflictCode.UNTRACKED_FIELDS})

NOTHING: Mapping[Any, Any] = MappingProxyType({})
#: In ``Planned.sources``: the value is null, and no history row says so.
NO_SOURCE = 0

#: Identifies an object among all steps: its concrete model and its key.
ObjectKey: TypeAlias = tuple[Model, Any]


@dataclass(frozen=True, eq=False)
class Columns:
    """The fields of a step, shared by all steps of the same fields."""

    fields: tuple[Any, ...]

    @cached_property
    def index(self) -> dict[str, int]:
        """Where each field's value is: attribute -> place."""
        return {f.attname: place for place, f in enumerate(self.fields)}

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the fields."""
        return frozenset(f.name for f in self.fields)

    @cached_property
    def references(self) -> tuple[tuple[int, Any], ...]:
        """Place and field of each foreign key that the database checks."""
        return tuple(
            (place, f)
            for place, f in enumerate(self.fields)
            if f.remote_field is not None and getattr(f, "db_constraint", True)
        )


@dataclass(eq=False, slots=True)
class Planned:
    """What is to happen to one object: ``"+"`` it comes back, ``"~"`` it changes, ``"-"`` it goes.

    ``now`` and ``then`` are the values of ``columns`` before and after; None: the object does not exist. ``sources``
    are the history rows that hold each value of ``then``. A deletion is about all fields, a change about those that it
    writes. ``links_now`` and ``links_then`` are the ``links.Links`` of the many-to-many fields that are written;
    ``link_sources`` tells which history row holds each link that comes. ``uniques`` are the unique values afterwards,
    for each set of attributes that the step writes. ``causes`` are deletions that need this step, because its object
    refers to what goes; without them it is not done.
    """

    tracked: TrackedModel
    pk: Any
    action: str
    columns: Columns
    now: tuple[Any, ...] | None
    then: tuple[Any, ...] | None
    label: str
    sources: tuple[int, ...] = ()
    links_now: Mapping[str, Mapping[Any, Any]] = field(default_factory=lambda: NOTHING)
    links_then: Mapping[str, Mapping[Any, Any]] = field(default_factory=lambda: NOTHING)
    link_sources: Mapping[tuple[str, Any], int] = field(default_factory=lambda: NOTHING)
    uniques: Mapping[tuple[str, ...], tuple[Any, ...]] = field(default_factory=lambda: NOTHING)
    causes: frozenset[ObjectKey] = frozenset()
    conflicts: tuple[Conflict, ...] = ()
    stubborn: bool = False
    skipped: bool = False

    @property
    def key(self) -> ObjectKey:
        """The object."""
        return concrete(self.tracked.model), self.pk

    @property
    def m2m(self) -> list[M2MTracked]:
        """The many-to-many fields whose links are written."""
        return [m for m in self.tracked.m2m if m.name in self.links_then] if self.links_then else []

    def add(self, conflict: Conflict) -> None:
        """Note what stands in the way."""
        self.conflicts = (*self.conflicts, conflict)

    def blocked(self, overwrite: bool) -> bool:
        """Whether a conflict stands; with ``overwrite`` those that it overrides do not count."""
        if not overwrite:
            return bool(self.conflicts)
        return self.stubborn or any(c.code not in OVERRIDABLE for c in self.conflicts)

    def before(self, attname: str) -> Any:
        """A value now, of a field that the step is about."""
        return None if self.now is None else self.now[self.columns.index[attname]]

    def after(self, attname: str) -> Any:
        """A value afterwards, of a field that the step is about."""
        return None if self.then is None else self.then[self.columns.index[attname]]


@dataclass(eq=False)
class ColumnSets:
    """Hands out the same ``Columns`` for the same fields of one model."""

    fields: tuple[Any, ...]
    _made: dict[frozenset[str], Columns] = field(default_factory=dict)

    def of(self, names: frozenset[str]) -> Columns:
        """The fields of these names, in the model's order."""
        found = self._made.get(names)
        if found is None:
            found = self._made[names] = Columns(tuple(f for f in self.fields if f.name in names))
        return found
