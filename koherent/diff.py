"""What changed between two versions of an object, in values that JSON can carry."""

import base64
import copy
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from django.db import DEFAULT_DB_ALIAS, models
from django.db.models import Max
from django.utils.duration import duration_iso_string

from koherent import registry
from koherent.policy import Scope
from koherent.registry import AnyField, TrackedModel

#: One version of an object: attribute name -> value, and many-to-many field's name -> sorted list of keys.
#: Fields that the model did not have at the time are absent.
Values: TypeAlias = Mapping[str, Any]

#: The key in a row's ``metadata`` that lists the fields whose values were erased from it.
ERASED = "koherent:erased"

#: The key that lists those of them that the entry had changed, which can no longer be told from the values.
ERASED_CHANGES = "koherent:erased-changes"

SAFE_INTEGER = 2**53

_NOTHING: frozenset[str] = frozenset()

# Values of one of these types are equal when Python says so.
_COMPARABLE = frozenset(
    {bool, str, int, float, bytes, decimal.Decimal, dt.datetime, dt.date, dt.time, dt.timedelta, uuid.UUID}
)


class FieldChange(NamedTuple):
    """One field's change; all values are JSON-ready.

    ``label`` is the field's verbose name; ``old_label`` and ``new_label`` say what a foreign key or a choice means.
    Many-to-many fields have ``added`` and ``removed`` (lists of keys) instead of ``old`` and ``new``. ``redacted``:
    the values are hidden from the viewer; ``erased``: they were erased from one of the two versions.
    """

    field: str
    label: str
    old: Any = None
    new: Any = None
    old_label: str | None = None
    new_label: str | None = None
    added: list[Any] | None = None
    removed: list[Any] | None = None
    redacted: bool = False
    erased: bool = False


def to_json(field: Any, value: Any) -> Any:
    """``value`` as JSON carries it without loss.

    Decimals, durations (ISO 8601), integers beyond 2**53 and what JSON has no form for become text; binary is base64.
    ``field`` is the model field, or None for a value inside another one.
    """
    if value is None or type(value) is str or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return to_json(field, value.value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return str(value) if abs(value) > SAFE_INTEGER else int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): to_json(None, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(None, inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted((to_json(None, inner) for inner in value), key=str)
    return _text(field, value)


def _text(field: Any, value: Any) -> str:
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else str(value)
    if isinstance(value, dt.timedelta):
        return duration_iso_string(value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode("ascii")
    # A type of somebody's own field: its field knows best how it is written.
    prepared = value if field is None else field.get_prep_value(value)
    return prepared if isinstance(prepared, str) else str(value)


def same(old: Any, new: Any) -> bool:
    """Whether two values of a field are equal; unlike Python, ``True`` is not ``1``, at any depth."""
    if old is new or old is None or new is None:
        return old is new
    if type(old) is type(new) and (type(old) in _COMPARABLE or isinstance(old, str | int)):
        return bool(old == new)
    if isinstance(old, bool | Mapping | list) or isinstance(new, bool | Mapping | list):
        return json.dumps(to_json(None, old), sort_keys=True) == json.dumps(to_json(None, new), sort_keys=True)
    if isinstance(old, memoryview | bytearray):
        old = bytes(old)
    if isinstance(new, memoryview | bytearray):
        new = bytes(new)
    return bool(old == new)


def erased_fields(row: Any) -> frozenset[str]:
    """The fields whose values were erased from a history row."""
    return _listed(row, ERASED)


def erased_changes(row: Any) -> frozenset[str]:
    """Those of the erased fields that a history row had changed."""
    return _listed(row, ERASED_CHANGES)


def _listed(row: Any, key: str) -> frozenset[str]:
    names = row.metadata.get(key) if isinstance(row.metadata, dict) else None
    return frozenset(names) if isinstance(names, list) else _NOTHING


class ForeignKeyLabels:
    """What people call the objects that foreign keys point to: ``want()`` them all, ``load()`` once, then ``get()``.

    One statement for each model pointed to. Without a ``scope`` everything may be named; with one, objects of visible
    models, and of models without history as the policy says. Where the policy hides rows, an object has the name that
    its newest visible entry gives it, whatever happened to it since.
    """

    def __init__(self, scope: Scope | None) -> None:
        self._scope = scope
        self._wanted: dict[tuple[type[models.Model], str], set[Any]] = {}
        self._labels: dict[tuple[type[models.Model], str, Any], str] = {}

    def want(
        self, tracked: TrackedModel, old: Values | None, new: Values | None, redacted: Collection[str] = ()
    ) -> None:
        """Remember the keys that ``compare()`` of the same arguments will ask for."""
        for field in tracked.fields:
            if not field.is_relation or field.name in redacted or not _moved(field.attname, old, new):
                continue
            for values in (old, new):
                key = None if values is None else values.get(field.attname)
                if key is not None:
                    self._wanted.setdefault(_target(field), set()).add(key)

    def want_keys(self, field: Any, keys: Iterable[Any]) -> None:
        """Remember keys that a relation's field holds; of a many-to-many field, its links'."""
        self._wanted.setdefault(_target(field), set()).update(keys)

    def load(self) -> None:
        """Fetch what is wanted."""
        for (model, attname), keys in self._wanted.items():
            tracked = registry.for_model(model)
            if not self._may_name(model, tracked):
                continue
            if self._scope is not None and tracked is not None and self._scope.hides_rows:
                found: Any = _newest_visible(self._scope, tracked, attname, keys)
            else:
                found = model._base_manager.using(DEFAULT_DB_ALIAS).filter(**{f"{attname}__in": keys})
            for related in found:
                self._labels[(model, attname, getattr(related, attname))] = self._name(tracked, related)
        self._wanted.clear()

    def _may_name(self, model: type[models.Model], tracked: TrackedModel | None) -> bool:
        if self._scope is None:
            return True
        return self._scope.may_name(model) if tracked is None else tracked in self._scope.models

    def _name(self, tracked: TrackedModel | None, related: models.Model) -> str:
        # Nobody can tell what a __str__ reads: where something is hidden from the viewer, the field's own label serves.
        if self._scope is None or tracked is None or self._scope.sees_everything:
            return str(related)
        hidden = self._scope.redacted(tracked)
        if isinstance(related, tracked.history_model):
            hidden |= erased_fields(related)
        return object_label(tracked, related, hidden)

    def get(self, field: AnyField, key: Any) -> str | None:
        """The label; None for no key, for what is gone and for what the viewer may not see."""
        return None if key is None else self._labels.get((*_target(field), key))


def _newest_visible(scope: Scope, tracked: TrackedModel, attname: str, keys: Collection[Any]) -> Iterable[Any]:
    """The newest visible entries of the objects that keys refer to, but for those that are deletions."""
    if attname not in {f.attname for f in tracked.fields}:
        return ()
    own = scope.entries(tracked).filter(**{f"{attname}__in": keys})
    newest = own.values(tracked.pk_attname).annotate(newest=Max("history_id")).order_by().values("newest")
    return scope.entries(tracked).filter(history_id__in=newest).exclude(history_type="-")


def object_label(tracked: TrackedModel, row: Any, redacted: Collection[str]) -> str:
    """What people call the object of a row (of history or live), from fields that are not ``redacted``."""
    label = tracked.field.label
    if label is None or (isinstance(label, str) and label in redacted):
        return tracked.plain_label(row)
    if isinstance(label, str):
        return tracked.object_label(row) or tracked.plain_label(row)
    if not redacted:
        return tracked.object_label(row)
    # The callable may look at anything, so it gets a row without the values that must not show.
    masked = copy.copy(row)
    masked._state = copy.copy(row._state)
    for field in tracked.fields:
        if field.name in redacted:
            masked.__dict__[field.attname] = None
    try:
        return tracked.object_label(masked)
    except (AttributeError, TypeError, ValueError):
        return tracked.plain_label(row)


def compare(
    tracked: TrackedModel,
    old: Values | None,
    new: Values | None,
    *,
    redacted: Collection[str] = (),
    erased: Collection[str] = (),
    erased_changes: Collection[str] = (),
    labels: ForeignKeyLabels | None = None,
) -> tuple[FieldChange, ...]:
    """What differs, in the model's field order; the primary key is never a change.

    ``old`` None lists initial values, ``new`` None last values (neither lists nulls). A field that either version lacks
    is passed over. Fields named in ``redacted`` are listed without values (in initial and last values: always, so that
    their presence says nothing). Fields named in ``erased`` are marked; those in ``erased_changes``, which the values
    no longer tell, are listed without values.
    """
    changes: list[FieldChange] = []
    one_sided = old is None or new is None
    for field in tracked.fields:
        name, attname = field.name, field.attname
        if field.primary_key or (old is not None and attname not in old) or (new is not None and attname not in new):
            continue
        before = None if old is None else old[attname]
        after = None if new is None else new[attname]
        hidden, wiped = name in redacted, name in erased_changes
        if not (wiped or (hidden and one_sided) or not same(before, after)):
            continue
        label, touched = _verbose_name(field), name in erased
        if hidden or wiped:
            changes.append(FieldChange(name, label, redacted=hidden, erased=touched))
            continue
        change = FieldChange(
            name,
            label,
            old=to_json(field, before),
            new=to_json(field, after),
            old_label=_value_label(field, before, labels),
            new_label=_value_label(field, after, labels),
            erased=touched,
        )
        changes.append(change)
    if tracked.m2m:
        changes += _link_changes(tracked, old, new, redacted, erased, erased_changes)
    return tuple(changes)


def _link_changes(
    tracked: TrackedModel,
    old: Values | None,
    new: Values | None,
    redacted: Collection[str],
    erased: Collection[str],
    erased_changes: Collection[str],
) -> list[FieldChange]:
    changes = []
    for m2m in tracked.m2m:
        if not _known(m2m.name, old, new):
            continue
        before, after = _value(m2m.name, old) or [], _value(m2m.name, new) or []
        added, removed = _without(after, before), _without(before, after)
        about: dict[str, Any] = {"field": m2m.name, "label": _verbose_name(m2m.field), "erased": m2m.name in erased}
        hidden, wiped = m2m.name in redacted, m2m.name in erased_changes
        if hidden or wiped:
            if wiped or added or removed or old is None or new is None:
                changes.append(FieldChange(**about, redacted=hidden))
        elif added or removed:
            changes.append(FieldChange(**about, added=to_json(None, added), removed=to_json(None, removed)))
    return changes


def _without(keys: Sequence[Any], others: Sequence[Any]) -> list[Any]:
    gone = set(others)
    return [key for key in keys if key not in gone]


def _value(name: str, values: Values | None) -> Any:
    return None if values is None else values[name]


def _known(name: str, old: Values | None, new: Values | None) -> bool:
    return (old is None or name in old) and (new is None or name in new)


def _moved(name: str, old: Values | None, new: Values | None) -> bool:
    return _known(name, old, new) and not same(_value(name, old), _value(name, new))


def _target(field: Any) -> tuple[type[models.Model], str]:
    """The model that a foreign key points to, and the attribute of it that the key holds."""
    return field.remote_field.model, str(field.target_field.attname)


def _verbose_name(field: Any) -> str:
    return str(field.verbose_name)


def _value_label(field: Any, value: Any, labels: ForeignKeyLabels | None) -> str | None:
    if value is None:
        return None
    if field.is_relation:
        return None if labels is None else labels.get(field, value)
    if field.choices:
        named = [text for choice, text in field.flatchoices if choice == value]
        return str(named[0]) if named else None
    return None


def values_of(tracked: TrackedModel, row: Any, links: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The ``Values`` of a history row; ``links`` are its keys by many-to-many field's name."""
    names = tracked.field_names(row)
    if names is tracked.names and not tracked.m2m:
        return {f.attname: getattr(row, f.attname) for f in tracked.fields}
    values = {f.attname: getattr(row, f.attname) for f in tracked.fields if f.name in names}
    values.update({m.name: list(links.get(m.name, ())) for m in tracked.m2m if m.name in names})
    return values


def load_links(tracked: TrackedModel, history_ids: Collection[int]) -> dict[int, dict[str, list[Any]]]:
    """The many-to-many keys of history rows, sorted: history id -> field's name -> keys. One statement a field."""
    links: dict[int, dict[str, list[Any]]] = {}
    for m2m in tracked.m2m:
        rows = m2m.history_model._default_manager.using(DEFAULT_DB_ALIAS).filter(history_id__in=history_ids)
        pairs = rows.order_by("history_id", m2m.target_attname).values_list("history_id", m2m.target_attname)
        for history_id, key in pairs:
            links.setdefault(history_id, {}).setdefault(m2m.name, []).append(key)
    return links
