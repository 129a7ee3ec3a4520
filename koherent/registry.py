"""What is tracked: look-ups by label, model and history model."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, models, router

from koherent.conf import settings
from koherent.errors import BadInput
from koherent.models import FieldSet

if TYPE_CHECKING:
    from koherent.fields import HistoryField

AnyField: TypeAlias = "models.Field[Any, Any]"


def _attname(model: type[models.Model], name: str) -> str:
    field: Any = model._meta.get_field(name)
    return str(field.attname)


@dataclass(frozen=True, eq=False)
class M2MTracked:
    """A tracked many-to-many field: where its links live now (``through``) and in history (``history_model``)."""

    field: Any
    history_model: type[models.Model]

    @property
    def name(self) -> str:
        """The field's name."""
        return str(self.field.name)

    @property
    def through(self) -> type[models.Model]:
        """The model of the live links."""
        through: type[models.Model] = self.field.remote_field.through
        return through

    @cached_property
    def source_attname(self) -> str:
        """Attribute of a link that holds the owner's key."""
        return _attname(self.through, self.field.m2m_field_name())

    @cached_property
    def target_attname(self) -> str:
        """Attribute of a link that holds the other side's key."""
        return _attname(self.through, self.field.m2m_reverse_field_name())

    @cached_property
    def link_columns(self) -> tuple[str, ...]:
        """The columns that make a link what it is: all but its own key."""
        return tuple(str(f.column) for f in self.through._meta.concrete_fields if not f.primary_key)


@dataclass(frozen=True, eq=False)
class TrackedModel:
    """A model with a ``HistoryField``, and all that readers and writers of its history need."""

    model: type[models.Model]
    history_model: type[models.Model]
    field: "HistoryField"

    @cached_property
    def label(self) -> str:
        """Django's label in lower case, ``app.model``."""
        return self.model._meta.label_lower

    @cached_property
    def type_name(self) -> str:
        """The name that the GraphQL types start with."""
        return self.field.type_name or str(self.model._meta.object_name)

    @cached_property
    def fields(self) -> tuple[AnyField, ...]:
        """The tracked concrete fields of the model, in its order."""
        excluded = set(self.field.excluded_fields)
        return tuple(f for f in self.model._meta.concrete_fields if f.name not in excluded)

    @cached_property
    def m2m(self) -> tuple[M2MTracked, ...]:
        """The tracked many-to-many fields."""
        return tuple(M2MTracked(f, self.field.m2m_models[f]) for f in self.history_model._history_m2m_fields)  # type: ignore[attr-defined]

    @property
    def pk_attname(self) -> str:
        """The attribute of the object's key, on the model and on history rows."""
        return str(self.model._meta.pk.attname)

    @property
    def record_unchanged(self) -> bool:
        """Whether a save that changes nothing leaves an entry too."""
        own = self.field.record_unchanged
        return settings().record_unchanged if own is None else own

    @property
    def redacted_fields(self) -> frozenset[str]:
        """Fields that are stored, and shown only to whom the policy names."""
        return frozenset(self.field.redacted_fields)

    def object_label(self, row: Any) -> str:
        """What people call the object, from the row's own columns."""
        label = self.field.label
        if callable(label):
            return str(label(row))
        if label is not None:
            return str(getattr(row, label))
        return self.plain_label(row)

    def plain_label(self, row: Any) -> str:
        """Verbose name and key: a label that shows no value."""
        return f"{self.model._meta.verbose_name} {getattr(row, self.pk_attname)}"

    @cached_property
    def targets(self) -> tuple[type[models.Model], ...]:
        """The models that its tracked foreign keys point to."""
        return tuple(dict.fromkeys(f.remote_field.model for f in self.fields if f.remote_field is not None))

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of all tracked fields, many-to-many included."""
        return frozenset(f.name for f in self.fields) | {m.name for m in self.m2m}

    @cached_property
    def field_set(self) -> int:
        """The digest of ``names``."""
        return digest(self.label, self.names)

    def field_names(self, row: Any) -> frozenset[str]:
        """The fields that the model had when ``row`` was written, as far as it still has them."""
        if row.field_set is None or row.field_set == self.field_set:
            return self.names
        known = _known_field_sets().get(row.field_set)
        return self.names if known is None else self.names & known


def digest(label: str, names: Iterable[str]) -> int:
    """What stands for a model's set of fields on its history rows: a signed 64-bit number."""
    text = label + ":" + ",".join(sorted(names))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big", signed=True)


_tracked: dict[type[models.Model], TrackedModel] = {}
_links: dict[type[models.Model], tuple[tuple[TrackedModel, M2MTracked], ...]] = {}


def add(model: type[models.Model], history_model: type[models.Model], field: "HistoryField") -> TrackedModel:
    """Remember a tracked model; called by its ``HistoryField``."""
    tracked = TrackedModel(model, history_model, field)
    _tracked[model] = tracked
    descendants.cache_clear()
    return tracked


def tracked_models() -> tuple[TrackedModel, ...]:
    """All tracked models, by label."""
    apps.check_models_ready()
    return tuple(sorted(_tracked.values(), key=lambda tracked: tracked.label))


def tracked_on(using: str = DEFAULT_DB_ALIAS) -> tuple[TrackedModel, ...]:
    """The tracked models whose history is in a database, by label. The trail's readers see the default one."""
    return tuple(t for t in tracked_models() if router.allow_migrate_model(using, t.history_model))


def chosen(labels: Sequence[str] | None, using: str) -> list[TrackedModel]:
    """The tracked models of labels in any case, each once; None: all. Raises ``BadInput`` for one not in ``using``."""
    known = {tracked.label: tracked for tracked in tracked_on(using)}
    if labels is None:
        return list(known.values())
    for label in labels:
        if label.lower() not in known:
            near = get_close_matches(label.lower(), known, n=1, cutoff=0.0)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise BadInput(f"{label} is not a tracked model of this database.{hint}")
    return [known[label] for label in sorted({label.lower() for label in labels})]


def by_label(label: str) -> TrackedModel | None:
    """The tracked model of a Django label, in any case."""
    wanted = label.lower()
    return next((tracked for tracked in _tracked.values() if tracked.label == wanted), None)


def for_model(model: type[models.Model]) -> TrackedModel | None:
    """The tracked model behind a model; a proxy shares its concrete model's history."""
    found = _tracked.get(model)
    if found is None and model._meta.proxy and model._meta.concrete_model is not None:
        return _tracked.get(model._meta.concrete_model)
    return found


def ancestors(model: type[models.Model]) -> tuple[TrackedModel, ...]:
    """The tracked model itself and its tracked multi-table parents, whose columns a write to ``model`` may change."""
    found = (for_model(candidate) for candidate in (model, *model._meta.get_parent_list()))
    return tuple(dict.fromkeys(tracked for tracked in found if tracked is not None))


@cache
def descendants(model: type[models.Model]) -> tuple[TrackedModel, ...]:
    """The tracked multi-table children of ``model``: their histories hold its columns too."""
    concrete = model._meta.concrete_model
    return tuple(tracked for tracked in _tracked.values() if concrete in tracked.model._meta.get_parent_list())


def links_through(model: type[models.Model]) -> tuple[tuple[TrackedModel, M2MTracked], ...]:
    """The tracked many-to-many fields whose links are the rows of ``model``."""
    return _links.get(model, ())


def add_links(tracked: TrackedModel, m2m: M2MTracked) -> None:
    """Remember where the links of a tracked many-to-many field are."""
    _links[m2m.through] = (*_links.get(m2m.through, ()), (tracked, m2m))


def for_history_model(history_model: type[models.Model]) -> TrackedModel | None:
    """The tracked model whose history rows are of this class."""
    return next((tracked for tracked in _tracked.values() if tracked.history_model is history_model), None)


@lru_cache(maxsize=1)
def _known_field_sets() -> Mapping[int, frozenset[str]]:
    return {row.digest: frozenset(row.names) for row in FieldSet.objects.all()}


def store_field_sets(using: str) -> None:
    """Write down today's field sets; runs after every ``migrate``, which is when a model's fields change."""
    for tracked in tracked_models():
        FieldSet.objects.using(using).get_or_create(
            digest=tracked.field_set, defaults={"model": tracked.label, "names": sorted(tracked.names)}
        )
    _known_field_sets.cache_clear()
