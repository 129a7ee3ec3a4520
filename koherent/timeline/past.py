"""Objects as they were: ``as_of()``, and the entries in force that it is made of. Runs without authorisation."""

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, overload

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models import Exists, OuterRef, Q
from django.db.models.expressions import RawSQL

from koherent import registry
from koherent.errors import HistoryPruned
from koherent.models import Origin
from koherent.registry import M2MTracked, TrackedModel
from koherent.timeline.filters import moment
from koherent.timeline.search import compiled, parents_of


@overload
def as_of(source: models.QuerySet[Any], at: dt.datetime) -> list[Any]: ...


@overload
def as_of(source: type[models.Model], at: dt.datetime) -> list[Any]: ...


@overload
def as_of(source: models.Model, at: dt.datetime) -> Any: ...


def as_of(source: Any, at: dt.datetime) -> Any:
    """An object, or a list of objects, as the trail says they were at a time.

    ``source`` is an object; or a queryset, of a tracked model or of its history (``Dataset.history.filter(...)``, which
    finds deleted objects too), for those of its objects that existed then, in its order; or a tracked model, for all
    that existed then, by key. Of the entries dated at or before ``at`` the one with the highest history id is in force.

    What comes out are instances of the model that cannot be saved. Their foreign keys, reverse foreign keys and
    many-to-many fields lead to objects of the same time, in a constant number of statements a hop for all objects that
    came together. A foreign key to a model that is not tracked leads to the object of today. A field that was not
    recorded, and a relation whose other side is not, is an AttributeError.

    Raises ``DoesNotExist`` of the model for an object that did not exist then, ``HistoryPruned`` where the history that
    is kept begins later, and TypeError for what is not tracked.
    """
    if isinstance(source, models.Model):
        model: Any = source._meta.model
        tracked, using = _tracked(model), source._state.db or DEFAULT_DB_ALIAS
        [found] = _Moment(at, using).instances(tracked, [source.pk]) or [None]
        if found is None:
            raise model.DoesNotExist(f"{tracked.label} {source.pk} did not exist then.")
        return found
    if isinstance(source, models.QuerySet):
        by_history = registry.for_history_model(source.model)
        tracked = by_history or _tracked(source.model)
        name = tracked.pk_attname if by_history else "pk"
        return _Moment(at, source.db).instances(tracked, list(dict.fromkeys(source.values_list(name, flat=True))))
    tracked = _tracked(source)
    everything = tracked.history_model._default_manager.using(DEFAULT_DB_ALIAS).order_by(tracked.pk_attname)
    keys = everything.values_list(tracked.pk_attname, flat=True).distinct()
    return _Moment(at, DEFAULT_DB_ALIAS).instances(tracked, list(keys))


def _tracked(model: Any) -> TrackedModel:
    found = registry.for_model(model) if isinstance(model, type) and issubclass(model, models.Model) else None
    if found is None:
        raise TypeError(f"{model!r} is not tracked: it has no HistoryField.")
    return found


def is_creation(history_type: str, origin: str) -> bool:
    """Whether nothing lies before an object's oldest entry; what lies before another one is unknown."""
    return history_type == "+" and origin != Origin.BASELINE


class _Moment:
    """A time, and the entries in force at it in one database."""

    def __init__(self, at: dt.datetime, using: str) -> None:
        self.at, self.using = moment(at, "at"), using

    def entries(self, tracked: TrackedModel) -> Any:
        """All entries of a model, unordered."""
        return tracked.history_model._default_manager.using(self.using).order_by()

    def instances(self, tracked: TrackedModel, keys: Sequence[Any]) -> list[Any]:
        """The objects with these primary keys that existed, in this order. Two statements."""
        rows = self.in_force(tracked, keys)
        if len(rows) < len(keys):
            self.refuse_pruned(tracked, Q(**{f"{tracked.pk_attname}__in": [key for key in keys if key not in rows]}))
        return self.built(tracked, [rows[key] for key in keys if key in rows and rows[key].history_type != "-"])

    def in_force(self, tracked: TrackedModel, keys: Sequence[Any]) -> dict[Any, Any]:
        """Key -> the entry in force, for objects that have one."""
        if not keys:
            return {}
        connection = connections[self.using]
        own = self.entries(tracked).filter(
            history_date__lte=self.at, **{tracked.pk_attname: RawSQL("koherent_parent.pk", ())}
        )
        latest, params = compiled(own.order_by("-history_id").values("history_id")[:1], self.using)
        fields: Any = tracked.history_model._meta.concrete_fields
        field = next(f for f in fields if f.attname == tracked.pk_attname)
        source, values = parents_of(keys, connection, field)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT ({latest}) FROM {source}", [*params, *values])
            ids = [id for (id,) in cursor.fetchall() if id is not None]
        return {getattr(row, tracked.pk_attname): row for row in self.entries(tracked).filter(history_id__in=ids)}

    def where(self, tracked: TrackedModel, condition: Q) -> list[Any]:
        """The entries in force of objects that existed, among those that match. Two statements."""
        later = self.entries(tracked).filter(
            history_date__lte=self.at, history_id__gt=OuterRef("history_id"), **_same_object(tracked)
        )
        past = self.entries(tracked).filter(condition, ~Exists(later), history_date__lte=self.at)
        rows = list(past.exclude(history_type="-").order_by(tracked.pk_attname))
        self.refuse_pruned(tracked, condition)
        return rows

    def refuse_pruned(self, tracked: TrackedModel, condition: Q) -> None:
        """Raise ``HistoryPruned`` if an object among those that match has older history that is not kept."""
        before = self.entries(tracked).filter(history_id__lt=OuterRef("history_id"), **_same_object(tracked))
        dated = self.entries(tracked).filter(history_date__lte=self.at, **_same_object(tracked))
        oldest = self.entries(tracked).filter(condition, ~Exists(before), ~Exists(dated), history_date__gt=self.at)
        baselines = oldest.exclude(Q(history_type="+") & ~Q(origin=Origin.BASELINE))
        first = baselines.order_by("history_id").values_list("history_date", flat=True).first()
        if first is not None:
            raise HistoryPruned("The history that is kept begins later.", oldest=first.isoformat())

    def built(self, tracked: TrackedModel, rows: Iterable[Any]) -> list[Any]:
        """Entries as objects that came together."""
        batch = _Batch(self, tracked)
        for row in rows:
            known = tracked.field_names(row)
            fields = [f for f in tracked.model._meta.concrete_fields if f.name in known]
            instance: Any = past_class(tracked.model).from_db(
                self.using, [f.attname for f in fields], [getattr(row, f.attname) for f in fields]
            )
            instance.__dict__["_history"], instance.__dict__["_koherent_batch"] = row, batch
            batch.members.append(instance)
        return batch.members


def _same_object(tracked: TrackedModel) -> dict[str, Any]:
    return {tracked.pk_attname: OuterRef(tracked.pk_attname)}


class _Batch:
    """Objects that came together: what one of them is asked for is read for all."""

    def __init__(self, moment: _Moment, tracked: TrackedModel) -> None:
        self.moment, self.tracked = moment, tracked
        self.members: list[Any] = []
        self._related: dict[str, dict[Any, list[Any]]] = {}

    def related(self, name: str, attname: str, load: Callable[[list[Any]], dict[Any, list[Any]]]) -> dict[Any, Any]:
        """``load(values of the attribute)``, once."""
        if name not in self._related:
            values = (member.__dict__.get(attname) for member in self.members)
            self._related[name] = load(list(dict.fromkeys(value for value in values if value is not None)))
        return self._related[name]

    def of_values(self, model: type[models.Model], attname: str, values: list[Any]) -> dict[Any, list[Any]]:
        """The objects of a model whose attribute had one of the values: value -> objects."""
        tracked = registry.for_model(model)
        if tracked is None:
            live = model._base_manager.using(self.moment.using).filter(**{f"{attname}__in": values})
            return _grouped(live, attname)
        if attname == tracked.pk_attname:
            return _grouped(self.moment.instances(tracked, values), attname)
        rows = self.moment.where(tracked, Q(**{f"{attname}__in": values}))
        return _grouped(self.moment.built(tracked, rows), attname)

    def links(self, m2m: M2MTracked, rows: Q) -> list[tuple[int, Any]]:
        """(history id of the owner's entry, key of the other side)."""
        found = m2m.history_model._default_manager.using(self.moment.using).filter(rows)
        return list(found.order_by(m2m.target_attname).values_list("history_id", m2m.target_attname))


def _grouped(instances: Iterable[Any], attname: str) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for instance in instances:
        groups.setdefault(getattr(instance, attname), []).append(instance)
    return groups


class PastObjects(Sequence[Any]):
    """Objects of one time: a sequence, with the reading methods of a manager that need no query."""

    def __init__(self, instances: Iterable[Any]) -> None:
        self._instances = tuple(instances)

    def __getitem__(self, index: Any) -> Any:
        return self._instances[index]

    def __len__(self) -> int:
        return len(self._instances)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._instances)

    def __repr__(self) -> str:
        return f"<PastObjects {list(self._instances)!r}>"

    def all(self) -> "PastObjects":
        """These."""
        return self

    def count(self, value: Any = None) -> int:
        """How many there are."""
        return len(self) if value is None else self._instances.count(value)

    def exists(self) -> bool:
        """Whether there is any."""
        return bool(self._instances)

    def first(self) -> Any:
        """The one with the lowest key, or None."""
        return self._instances[0] if self._instances else None


class _Relation:
    """A relation of a past object; read-only."""

    def __init__(self, name: str, read: Callable[[Any], Any]) -> None:
        self.name, self.read = name, read

    def __get__(self, instance: Any, owner: type[Any]) -> Any:
        return self if instance is None else self.read(instance)

    def __set__(self, instance: Any, value: Any) -> None:
        raise AttributeError(f"{self.name} of an object of the past cannot be set.")


def _foreign(field: Any) -> Callable[[Any], Any]:
    model, target = field.remote_field.model, field.target_field.attname

    def read(instance: Any) -> Any:
        key = getattr(instance, field.attname)
        if key is None:
            return None
        batch: _Batch = instance._koherent_batch
        found = batch.related(field.name, field.attname, lambda keys: batch.of_values(model, target, keys))
        if key not in found:
            raise model.DoesNotExist(f"{model._meta.label} {key} did not exist then.")
        return found[key][0]

    return read


def _reverse(relation: Any, name: str) -> Callable[[Any], Any]:
    field, model = relation.field, relation.related_model

    def read(instance: Any) -> Any:
        if registry.for_model(model) is None:
            raise AttributeError(f"{name}: {model._meta.label} is not tracked.")
        batch: _Batch = instance._koherent_batch
        attname = field.target_field.attname
        found = batch.related(name, attname, lambda values: batch.of_values(model, field.attname, values))
        related = found.get(getattr(instance, attname), [])
        if relation.one_to_one:
            if not related:
                raise model.DoesNotExist(f"{instance._meta.label} {instance.pk} had no {name} then.")
            return related[0]
        return PastObjects(related)

    return read


def _links(field: Any) -> Callable[[Any], Any]:
    def read(instance: Any) -> Any:
        batch: _Batch = instance._koherent_batch
        m2m = next((m for m in batch.tracked.m2m if m.name == field.name), None)
        if m2m is None or field.name not in batch.tracked.field_names(instance._history):
            raise AttributeError(f"{field.name} was not recorded.")

        def load(_: Any) -> dict[Any, list[Any]]:
            pairs = batch.links(m2m, Q(history_id__in=[member._history.history_id for member in batch.members]))
            model = field.remote_field.model
            keys = list(dict.fromkeys(key for _, key in pairs))
            objects = batch.of_values(model, model._meta.pk.attname, keys)
            linked: dict[Any, list[Any]] = {}
            for history_id, key in pairs:
                linked.setdefault(history_id, []).extend(objects.get(key, ()))
            return linked

        found = batch.related(field.name, instance._meta.pk.attname, load)
        return PastObjects(found.get(instance._history.history_id, ()))

    return read


def _reverse_links(relation: Any, name: str) -> Callable[[Any], Any]:
    def read(instance: Any) -> Any:
        owner = registry.for_model(relation.related_model)
        m2m = None if owner is None else next((m for m in owner.m2m if m.name == relation.field.name), None)
        if owner is None or m2m is None:
            raise AttributeError(f"{name} was not recorded.")
        batch: _Batch = instance._koherent_batch

        def load(keys: list[Any]) -> dict[Any, list[Any]]:
            to_these = Q(**{f"{m2m.target_attname}__in": keys})
            entries = m2m.history_model._default_manager.using(batch.moment.using).filter(to_these)
            rows = batch.moment.where(owner, Q(history_id__in=entries.values("history_id")))
            owners = {row.history_id: past for row, past in zip(rows, batch.moment.built(owner, rows), strict=True)}
            linked: dict[Any, list[Any]] = {}
            for history_id, key in batch.links(m2m, to_these & Q(history_id__in=list(owners))):
                linked.setdefault(key, []).append(owners[history_id])
            return linked

        found = batch.related(name, instance._meta.pk.attname, load)
        return PastObjects(sorted(found.get(instance.pk, ()), key=lambda past: past.pk))

    return read


def _unknown(name: str) -> Callable[[Any], Any]:
    def read(instance: Any) -> Any:
        raise AttributeError(f"{name}: generic relations are not known as of a time.")

    return read


@cache
def past_class(model: type[models.Model]) -> type[Any]:
    """A class of the model's past objects. Django's registry does not learn of it: for all else it is the model."""
    namespace: dict[str, Any] = {"__module__": model.__module__, "__doc__": model.__doc__}
    meta: Any = model._meta
    for field in meta.concrete_fields:
        if field.is_relation:
            namespace[field.name] = _Relation(field.name, _foreign(field))
    for field in meta.many_to_many:
        namespace[field.name] = _Relation(field.name, _links(field))
    for relation in meta.related_objects:
        name = relation.get_accessor_name()
        if name is not None:
            made = _reverse_links if relation.many_to_many else _reverse
            namespace[name] = _Relation(name, made(relation, name))
    for field in meta.private_fields:
        namespace[field.name] = _Relation(field.name, _unknown(field.name))

    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("An object of the past cannot be written; revert the object of today.")

    def refresh_from_db(self: Any, using: Any = None, fields: Any = None, from_queryset: Any = None) -> None:
        raise AttributeError(f"{', '.join(fields or ['It'])} was not recorded.")

    namespace.update(save=refuse, save_base=refuse, delete=refuse, refresh_from_db=refresh_from_db)
    # Past the metaclass's own constructor, which would make a table of it.
    made_class: type[Any] = type.__new__(type(model), model.__name__, (model,), namespace)
    return made_class
