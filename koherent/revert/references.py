"""Foreign keys and links: what a step refers to must be there, and what it deletes must not be referred to."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, models, router

from koherent import registry
from koherent.revert.links import coming
from koherent.revert.steps import Planned
from koherent.revert.types import Conflict, ConflictCode
from koherent.revert.uniques import Pointing
from koherent.revert.values import Model, all_rows, batches, concrete

#: A model and an attribute of it that keys refer to.
Column = tuple[Model, str]


class References:
    """What the steps' foreign keys and links refer to."""

    def __init__(self, steps: Sequence[Planned]) -> None:
        self.there: dict[Column, set[Any]] = {}
        wanted: dict[Column, set[Any]] = defaultdict(set)
        for step in steps:
            for _name, column, value in _needed(step):
                wanted[column].add(value)
        for (model, attname), values in wanted.items():
            found: set[Any] = set()
            for batch in batches(list(values)):
                rows = all_rows(model).filter(**{f"{attname}__in": batch}).order_by()
                found.update(rows.values_list(attname, flat=True))
            self.there[model, attname] = found

    def conflicts(self, active: Sequence[Planned]) -> None:
        """Note on each step which of its fields refer to what will not be there."""
        if not self.there:
            return
        provided: dict[Column, set[Any]] = defaultdict(set)
        removed: dict[Column, set[Any]] = defaultdict(set)
        columns: dict[Model, list[str]] = defaultdict(list)
        for model, attname in self.there:
            columns[model].append(attname)
        for step in active:
            for attname in columns.get(concrete(step.tracked.model), ()):
                for gone, values in ((True, removed), (False, provided)):
                    if gone == (step.action == "-"):
                        values[concrete(step.tracked.model), attname].update(_own_value(step, attname))
        for step in active:
            names = {
                name
                for name, column, value in _needed(step)
                if value not in provided[column] and (value not in self.there[column] or value in removed[column])
            }
            for name in sorted(names):
                message = f"What {name} refers to is gone."
                step.add(Conflict(code=ConflictCode.REFERENCE_MISSING, message=message, fields=(name,)))


def _own_value(step: Planned, attname: str) -> tuple[Any, ...]:
    """The value by which others may refer to the step's object, if the step knows it."""
    if attname == step.tracked.model._meta.pk.attname:
        return (step.pk,)
    if attname not in step.columns.index:
        return ()
    return (step.before(attname) if step.action == "-" else step.after(attname),)


def _needed(step: Planned) -> Iterator[tuple[str, Column, Any]]:
    """The name, the column and the value of each reference that a step writes."""
    if step.then is not None:
        for place, f in step.columns.references:
            value = step.then[place]
            if value is not None:
                yield f.name, _target(f), value
    for m2m in step.m2m:
        link: Any = m2m.through._meta.get_field(m2m.field.m2m_reverse_field_name())
        for value in coming(step, m2m.name):
            yield m2m.name, _target(link), value


@cache
def _target(foreign: Any) -> Column:
    return concrete(foreign.remote_field.model), str(foreign.target_field.attname)


@dataclass(frozen=True, eq=False)
class Relation:
    """A way to refer to a model: rows of ``model`` by ``field``, or, with ``link``, by a many-to-many field.

    ``nulled``: when the object goes, the reference becomes null. ``source``, ``named`` and ``path`` are where to read.
    """

    model: Model
    field: Any
    link: bool
    nulled: bool
    named: str
    path: str
    source: Model


class Referrers:
    """The live rows that refer to objects which steps delete."""

    def __init__(self, steps: Sequence[Planned]) -> None:
        self._found: dict[tuple[Model, Any], list[tuple[Relation, Any]]] = defaultdict(list)
        going: dict[Model, dict[Any, Planned]] = defaultdict(dict)
        for step in steps:
            if step.action == "-":
                going[concrete(step.tracked.model)][step.pk] = step
        for model, own in going.items():
            for relation in relations_to(model):
                for batch in batches(list(own)):
                    rows = all_rows(relation.source).filter(**{f"{relation.path}__in": batch}).order_by()
                    for key, pk in rows.values_list(relation.named, relation.path):
                        self._found[model, pk].append((relation, key))
            for private in model._meta.private_fields:
                if hasattr(private, "bulk_related_objects"):
                    self._read_generic(model, private, own)

    def _read_generic(self, model: Model, generic: Any, steps: Mapping[Any, Planned]) -> None:
        content: Any = generic.remote_field.model._meta.get_field(generic.object_id_field_name)
        referring = concrete(generic.remote_field.model)
        relation = Relation(referring, content, False, False, "pk", content.attname, referring)
        for batch in batches(list(steps)):
            rows = generic.bulk_related_objects([model(pk=pk) for pk in batch], DEFAULT_DB_ALIAS).order_by()
            by_text = {str(pk): pk for pk in batch}
            for key, value in rows.values_list("pk", generic.object_id_field_name):
                self._found[model, by_text[str(value)]].append((relation, key))

    def left(self, step: Planned, by_key: Mapping[Any, Planned]) -> Iterator[tuple[Relation, Any]]:
        """The referrers of a deleted object, with their keys, that the other steps do not take away."""
        for relation, pk in self._found.get(step.key, ()):
            other = by_key.get((relation.model, pk))
            if other is not None and other.action == "-":
                continue
            if other is not None and other.action == "~":
                name = relation.field.name
                if relation.link and step.pk not in other.links_then.get(name, {step.pk}):
                    continue
                if not relation.link and name in other.columns.names:
                    continue
            yield relation, pk

    def conflicts(self, active: Sequence[Planned], by_key: Mapping[Any, Planned], point: Pointing) -> None:
        """Point out what would still refer to a deleted object."""
        for step in active:
            if step.action != "-" or step.key not in self._found:
                continue
            kinds: dict[tuple[str, str, Model], set[Any]] = defaultdict(set)
            for relation, pk in self.left(step, by_key):
                if not (relation.nulled and is_history(relation.model)):
                    kinds[relation.model._meta.label, relation.field.name, relation.model].add(pk)
            for (_label, name, model), pks in sorted(kinds.items(), key=lambda item: item[0][:2]):
                message = f"{model._meta.verbose_name_plural} still refer to it ({name})."
                point(step, Conflict(code=ConflictCode.STILL_REFERENCED, message=message), model, pks)


@cache
def relations_to(model: Model) -> tuple[Relation, ...]:
    """All foreign keys, and links, by which rows refer to a model; not the links that go with the object itself."""
    found = []
    for relation in model._meta.get_fields(include_hidden=True):
        if not relation.auto_created or relation.concrete or not (relation.one_to_many or relation.one_to_one):
            continue
        foreign: Any = relation.field  # type: ignore[union-attr]
        referring = concrete(relation.related_model)  # type: ignore[arg-type]
        if getattr(foreign.remote_field, "parent_link", False):
            continue
        if not router.allow_migrate_model(DEFAULT_DB_ALIAS, referring):
            continue
        if foreign.remote_field.on_delete is models.DO_NOTHING and not foreign.db_constraint:
            continue  # history tables, and others that keep the key of what is gone
        owner = link_owner(referring)
        path = foreign.attname if foreign.target_field.primary_key else f"{foreign.name}__pk"
        if owner is None:
            nulled = foreign.remote_field.on_delete in _NULLING
            found.append(Relation(referring, foreign, False, nulled, "pk", path, referring))
        elif foreign.name != owner.m2m_field_name():
            key: Any = referring._meta.get_field(owner.m2m_field_name())
            found.append(Relation(concrete(owner.model), owner, True, False, key.attname, path, referring))
    return tuple(found)


@cache
def is_history(model: Model) -> bool:
    """Whether it is a table of django-simple-history's kind, which lets go of what its entries refer to."""
    return hasattr(model, "instance_type") and hasattr(model, "history_type")


@cache
def link_owner(through: Model) -> Any:
    """The many-to-many field whose links a table holds: an automatic table, or one that is tracked; else None."""
    for tracked in registry.tracked_models():
        for m2m in tracked.m2m:
            if concrete(m2m.through) is through:
                return m2m.field
    owner: Any = through._meta.auto_created
    if not owner:
        return None
    return next((f for f in owner._meta.local_many_to_many if f.remote_field.through is through), None)


def _nulling() -> frozenset[Any]:
    # The database's own variant came with Django 6.1.
    own = getattr(models, "DB_SET_NULL", None)
    return frozenset({models.SET_NULL, *([] if own is None else [own])})


_NULLING = _nulling()
