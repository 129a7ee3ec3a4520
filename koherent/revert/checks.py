"""What the database would refuse, found beforehand: facts are read once in sets, then weighed in memory."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, models

from koherent import registry
from koherent.revert.types import Conflict, ConflictCode, Key

if TYPE_CHECKING:
    from koherent.revert.plan import Planned

Model = type[models.Model]
BATCH = 5_000


@dataclass(frozen=True, eq=False)
class Referrer:
    """A live row, or link, that refers to an object which a step deletes. ``field`` is the key or the m2m field."""

    model: Model
    pk: Any
    field: Any
    link: bool
    nullable: bool


@dataclass(frozen=True, eq=False)
class Reference:
    """A key that a step writes, and the column where it has to be found."""

    name: str
    model: Model
    attname: str
    value: Any


@dataclass(eq=False)
class Integrity:
    """References, referrers and unique values around a list of steps."""

    steps: list["Planned"]
    references: dict["Planned", list[Reference]] = field(default_factory=dict)
    found: dict[tuple[Model, str], set[Any]] = field(default_factory=dict)
    referrers: dict["Planned", list[Referrer]] = field(default_factory=dict)
    holders: dict[tuple[Model, tuple[str, ...]], dict[Any, set[Any]]] = field(default_factory=dict)
    latest: dict[tuple[Model, Any], Key] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._read_references()
        self._read_referrers()
        self._read_holders()
        self._read_latest()

    # --- facts

    def _read_references(self) -> None:
        wanted: dict[tuple[Model, str], set[Any]] = defaultdict(set)
        for step in self.steps:
            if step.result is None:
                continue
            needed: list[Reference] = []
            for f in step.fields:
                value = getattr(step.result, f.attname) if f.remote_field is not None else None
                if value is not None and getattr(f, "db_constraint", True):
                    target = f.target_field
                    needed.append(Reference(f.name, _concrete(f.remote_field.model), target.attname, value))
            for m2m in step.m2m:
                target_model = _concrete(m2m.field.remote_field.model)
                link: Any = m2m.through._meta.get_field(m2m.field.m2m_reverse_field_name())
                target = link.target_field
                for value in step.links_then[m2m.name] - set(step.links_now[m2m.name]):
                    needed.append(Reference(m2m.name, target_model, target.attname, value))
            self.references[step] = needed
            for reference in needed:
                wanted[reference.model, reference.attname].add(reference.value)
        for (model, attname), values in wanted.items():
            found: set[Any] = set()
            for batch in _batches(values):
                rows = _all(model).filter(**{f"{attname}__in": batch})
                found.update(rows.values_list(attname, flat=True))
            self.found[model, attname] = found

    def _read_referrers(self) -> None:
        going: dict[Model, dict[Any, Planned]] = defaultdict(dict)
        for step in self.steps:
            if step.action == "-":
                going[_concrete(step.tracked.model)][step.pk] = step
                self.referrers[step] = []
        for model, steps in going.items():
            for relation in model._meta.get_fields(include_hidden=True):
                if relation.auto_created and not relation.concrete and (relation.one_to_many or relation.one_to_one):
                    self._read_relation(relation, steps)
            for private in model._meta.private_fields:
                if hasattr(private, "bulk_related_objects"):
                    self._read_generic(private, steps)

    def _read_relation(self, relation: Any, steps: dict[Any, "Planned"]) -> None:
        foreign: Any = relation.field
        referring = _concrete(relation.related_model)
        if getattr(foreign.remote_field, "parent_link", False):
            return
        if foreign.remote_field.on_delete is models.DO_NOTHING and not foreign.db_constraint:
            return  # history tables, and others that keep the key of what is gone
        owner = _m2m_of(referring)
        if owner is not None and foreign.name == owner.m2m_field_name():
            return  # the object's own links go with it
        target = foreign.target_field.attname
        by_value = {getattr(step.live, target): step for step in steps.values()}
        nullable = foreign.remote_field.on_delete in _NULLING
        attname = foreign.attname
        named = "pk" if owner is None else f"{owner.m2m_field_name()}_id"
        for batch in _batches(by_value):
            rows = _all(referring).filter(**{f"{attname}__in": batch}).order_by()
            for key, value in rows.values_list(named, attname):
                if owner is not None:
                    referrer = Referrer(_concrete(owner.model), key, owner, True, False)
                else:
                    referrer = Referrer(referring, key, foreign, False, nullable)
                self.referrers[by_value[value]].append(referrer)

    def _read_generic(self, relation: Any, steps: dict[Any, "Planned"]) -> None:
        rows = relation.bulk_related_objects([step.live for step in steps.values()], DEFAULT_DB_ALIAS)
        by_text = {str(pk): step for pk, step in steps.items()}
        for key, value in rows.values_list("pk", relation.object_id_field_name):
            content = relation.remote_field.model._meta.get_field(relation.object_id_field_name)
            self.referrers[by_text[str(value)]].append(
                Referrer(_concrete(relation.remote_field.model), key, content, False, False)
            )

    def _read_holders(self) -> None:
        wanted: dict[tuple[Model, tuple[str, ...]], set[Any]] = defaultdict(set)
        for step in self.steps:
            for unique in self._uniques(step):
                wanted[_concrete(step.tracked.model), unique].add(_tuple(step.result, unique))
        for (model, unique), values in wanted.items():
            held: dict[Any, set[Any]] = defaultdict(set)
            for batch in _batches(values):
                among = {f"{name}__in": {value[i] for value in batch} for i, name in enumerate(unique)}
                for pk, *value in _all(model).filter(**among).order_by().values_list("pk", *unique):
                    held[_hashable(value)].add(pk)
            self.holders[model, unique] = held

    def _read_latest(self) -> None:
        """The newest entries of the rows in the way, to point at them."""
        pks: dict[Model, set[Any]] = defaultdict(set)
        for referrers in self.referrers.values():
            for referrer in referrers:
                pks[referrer.model].add(referrer.pk)
        for (model, _unique), held in self.holders.items():
            for keys in held.values():
                pks[model].update(keys)
        for model, keys in pks.items():
            tracked = registry.for_model(model)
            if tracked is None:
                continue
            for batch in _batches(keys):
                rows = _all(tracked.history_model).filter(**{f"{tracked.pk_attname}__in": batch}).order_by()
                for pk, newest in rows.values_list(tracked.pk_attname).annotate(models.Max("history_id")):
                    self.latest[model, pk] = (tracked.label, newest)

    @staticmethod
    def _uniques(step: "Planned") -> Iterator[tuple[str, ...]]:
        """The unique sets of attributes that the step writes and that hold no null."""
        if step.result is None:
            return
        written = {f.attname for f in step.fields}
        for unique in unique_sets(step.tracked.model):
            if (step.action == "+" or written & set(unique)) and None not in _tuple(step.result, unique):
                yield unique

    # --- weighing

    def conflicts(self, active: Sequence["Planned"]) -> list[tuple["Planned", Conflict]]:
        """What stands in the way when exactly the ``active`` steps are done; the others' rows stay as they are."""
        by_key = {step.key: step for step in active}
        found: list[tuple[Planned, Conflict]] = []
        provided: dict[tuple[Model, str], set[Any]] = defaultdict(set)
        removed: dict[tuple[Model, str], set[Any]] = defaultdict(set)
        columns = set(self.found)
        for step in active:
            for model, attname in columns:
                if model is _concrete(step.tracked.model):
                    if step.action == "-":
                        removed[model, attname].add(getattr(step.live, attname))
                    else:
                        provided[model, attname].add(getattr(step.result, attname))
        taken = self._results(active)
        for step in active:
            found += ((step, c) for c in self._missing(step, provided, removed))
            found += ((step, c) for c in self._referenced(step, by_key))
            found += ((step, c) for c in self._taken(step, by_key, taken))
            found += ((step, c) for c in _constraints(step))
        return found

    def _missing(
        self,
        step: "Planned",
        provided: dict[tuple[Model, str], set[Any]],
        removed: dict[tuple[Model, str], set[Any]],
    ) -> Iterator[Conflict]:
        names = set()
        for reference in self.references.get(step, ()):
            column = reference.model, reference.attname
            if reference.value in provided[column]:
                continue
            if reference.value not in self.found[column] or reference.value in removed[column]:
                names.add(reference.name)
        for name in sorted(names):
            yield Conflict(
                code=ConflictCode.REFERENCE_MISSING, message=f"What {name} refers to is gone.", fields=(name,)
            )

    def still_referring(self, step: "Planned", by_key: dict[tuple[Model, Any], "Planned"]) -> Iterator[Referrer]:
        """The referrers of a deleted object that the other steps do not take away."""
        for referrer in self.referrers.get(step, ()):
            other = by_key.get((referrer.model, referrer.pk))
            if other is not None and other.action == "-":
                continue
            if other is not None and other.action == "~":
                if referrer.link and step.pk not in other.links_then.get(referrer.field.name, {step.pk}):
                    continue
                if not referrer.link and any(f.name == referrer.field.name for f in other.fields):
                    continue
            yield referrer

    def _referenced(self, step: "Planned", by_key: dict[tuple[Model, Any], "Planned"]) -> Iterator[Conflict]:
        kinds: dict[tuple[Model, str], list[Referrer]] = defaultdict(list)
        for referrer in self.still_referring(step, by_key):
            if not referrer.nullable:
                kinds[referrer.model, referrer.field.name].append(referrer)
        for (model, name), referrers in sorted(kinds.items(), key=lambda item: (item[0][0]._meta.label, item[0][1])):
            yield Conflict(
                code=ConflictCode.STILL_REFERENCED,
                message=f"{model._meta.verbose_name_plural} still refer to it ({name}).",
                entry=self._entry(model, (r.pk for r in referrers)),
            )

    def _entry(self, model: Model, pks: Iterable[Any]) -> Key | None:
        """The newest entry of the rows in the way."""
        return max((self.latest[model, pk] for pk in pks if (model, pk) in self.latest), default=None)

    def _results(self, active: Sequence["Planned"]) -> dict[tuple[Model, tuple[str, ...]], dict[Any, int]]:
        counts: dict[tuple[Model, tuple[str, ...]], dict[Any, int]] = defaultdict(lambda: defaultdict(int))
        for step in active:
            for unique in self._uniques(step):
                counts[_concrete(step.tracked.model), unique][_tuple(step.result, unique)] += 1
        return counts

    def _taken(
        self,
        step: "Planned",
        by_key: dict[tuple[Model, Any], "Planned"],
        results: dict[tuple[Model, tuple[str, ...]], dict[Any, int]],
    ) -> Iterator[Conflict]:
        model = _concrete(step.tracked.model)
        for unique in self._uniques(step):
            value = _tuple(step.result, unique)
            holders = set()
            for pk in self.holders[model, unique].get(value, ()):
                other = by_key.get((model, pk))
                leaves = other is not None and (other.result is None or _tuple(other.result, unique) != value)
                if pk != step.pk and not leaves:
                    holders.add(pk)
            if not holders and results[model, unique][value] < 2:
                continue
            names = tuple(f.name for f in model._meta.concrete_fields if f.attname in unique)
            yield Conflict(
                code=ConflictCode.UNIQUE_TAKEN,
                message=f"The value of {', '.join(names)} is taken by another {model._meta.verbose_name}.",
                fields=names,
                entry=self._entry(model, holders),
            )


def unique_sets(model: Model) -> list[tuple[str, ...]]:
    """The attributes of each plain unique field, ``unique_together`` and unconditional ``UniqueConstraint``."""
    meta: Any = model._meta
    sets: list[tuple[str, ...]] = [(f.attname,) for f in meta.concrete_fields if f.unique and not f.primary_key]
    names = [*meta.unique_together, *(c.fields for c in meta.constraints if _plain(c))]
    return sets + [tuple(str(meta.get_field(name).attname) for name in group) for group in names]


def _plain(constraint: Any) -> bool:
    return isinstance(constraint, models.UniqueConstraint) and bool(constraint.fields) and constraint.condition is None


def _constraints(step: "Planned") -> Iterator[Conflict]:
    """Constraints that only the database can weigh: checks, and unique ones with conditions or expressions."""
    if step.result is None:
        return
    for constraint in step.tracked.model._meta.constraints:
        if _plain(constraint):
            continue
        try:
            constraint.validate(step.tracked.model, step.result, using=DEFAULT_DB_ALIAS)
        except ValidationError as error:
            taken = isinstance(constraint, models.UniqueConstraint)
            code = ConflictCode.UNIQUE_TAKEN if taken else ConflictCode.INVALID
            yield Conflict(code=code, message=" ".join(error.messages))


def _nulling() -> frozenset[Any]:
    # The database's own variant came with Django 6.1.
    own = getattr(models, "DB_SET_NULL", None)
    return frozenset({models.SET_NULL, *([] if own is None else [own])})


_NULLING = _nulling()


def _m2m_of(through: Model) -> Any:
    """The many-to-many field of an automatic table of links, else None."""
    owner: Any = through._meta.auto_created
    if not owner:
        return None
    return next((f for f in owner._meta.local_many_to_many if f.remote_field.through is through), None)


def _concrete(model: Model) -> Model:
    found = model._meta.concrete_model
    return model if found is None else found


def _hashable(values: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(repr(v) if isinstance(v, (dict, list)) else v for v in values)


def _tuple(row: Any, attnames: tuple[str, ...]) -> tuple[Any, ...]:
    return _hashable(getattr(row, name) for name in attnames)


def _all(model: Model) -> Any:
    return model._base_manager.using(DEFAULT_DB_ALIAS)


def _batches(values: Iterable[Any]) -> Iterator[list[Any]]:
    items = list(values)
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]
