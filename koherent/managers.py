"""The managers and querysets of tracked models: Django's and the team's own, with recording around their writes.

A tracked model's managers get a subclass of their own class, made once per class. The model's options hand those
out, so that own, inherited, related and base managers are all covered, and no class of anybody else is changed.
The models of tracked many-to-many links are treated alike: what happens to a link is a change of its owner.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import cache, partial, wraps
from operator import attrgetter
from typing import Any

from django.db import models, router, transaction
from django.db.models.options import Options
from django.utils.functional import cached_property

from koherent import recorder, registry
from koherent.deletions import deletions, owners_of
from koherent.registry import M2MTracked, TrackedModel
from koherent.saving import audited_save_table
from koherent.updating import update_and_record

BATCH = recorder.BATCH


class AuditedQuerySetMixin:
    """Records what ``update``, ``bulk_create`` and ``delete`` do; all else of Django ends in these or in ``save``."""

    model: type[models.Model]
    db: str
    _for_write: bool
    _koherent_original: type[Any]

    def __reduce__(self) -> tuple[Any, ...]:
        # For pickle, which finds no class that was made at run time; prefetched objects carry querysets, too.
        return _made_again, (self._koherent_original,), self.__getstate__()

    def update(self, **kwargs: Any) -> int:
        """Django's ``update()``; one entry for each row that it changes."""
        queryset: Any = self
        parent: Any = super()
        if not recorder.is_recording() or queryset.query.is_sliced:  # Django's own TypeError
            return int(parent.update(**kwargs))
        self._for_write = True
        with recorder.together(self.db):
            plain = queryset.order_by()
            key: Any = self.model._meta.pk
            if given := kwargs.keys() & {key.name, key.attname}:
                return self._move_and_record(plain, kwargs[given.pop()], kwargs)
            tracked = registry.for_model(self.model)
            if tracked is not None and _stands_alone(self.model):
                return update_and_record(tracked, plain, kwargs, partial(parent.update, **kwargs))
            pks = list(plain.values_list("pk", flat=True))
            # No rows: Django looks at the arguments, and runs no statement.
            return sum(self._update_and_record(plain, batch, kwargs) for batch in _batches(pks) or [[]])

    update.alters_data = True  # type: ignore[attr-defined]

    def _update_and_record(self, queryset: Any, pks: list[Any], kwargs: dict[str, Any]) -> int:
        """Update the rows of these keys that ``queryset`` still finds: one may have stopped matching meanwhile."""
        parent: Any = super(AuditedQuerySetMixin, queryset.filter(pk__in=pks))
        lineage = (*registry.ancestors(self.model), *registry.descendants(self.model))
        with recorder.link_changes(self.db):
            self._record_owners(pks)
            owners = [(tracked, None) for tracked, _ in registry.links_through(self.model)]
            with recorder.writing(self.db, [*owners, *((tracked, pks) for tracked in lineage)]):
                updated = int(parent.update(**kwargs))
            with transaction.mark_for_rollback_on_error(self.db):
                self._record_owners(pks)
                for tracked in lineage:
                    recorder.record(tracked, self.db, pks, "~", may_wait=True)
        return updated

    def _move_and_record(self, queryset: Any, new_key: Any, kwargs: dict[str, Any]) -> int:
        """An update of the key itself: the trail of the old one ends, and that of the new one begins."""
        parent: Any = super(AuditedQuerySetMixin, queryset)
        if hasattr(new_key, "resolve_expression"):
            keys = list(queryset.annotate(_koherent_key=new_key).values_list("pk", "_koherent_key"))
        else:
            pk: Any = self.model._meta.pk
            key = getattr(new_key, pk.target_field.attname) if isinstance(new_key, models.Model) else new_key
            keys = [(old, pk.to_python(key)) for old in queryset.values_list("pk", flat=True)]
        moved, stayed = [pair for pair in keys if pair[0] != pair[1]], [old for old, new in keys if old == new]
        lineage = registry.ancestors(self.model)
        for tracked in lineage:
            recorder.record(tracked, self.db, [old for old, _ in moved], "-")
        with recorder.writing(self.db, [(tracked, None) for tracked in lineage]):
            updated = int(parent.update(**kwargs))
        for tracked in lineage:
            recorder.record(tracked, self.db, [new for _, new in moved], "+")
            recorder.record(tracked, self.db, stayed, "~")
        return updated

    def bulk_create(
        self,
        objs: Iterable[models.Model],
        batch_size: int | None = None,
        ignore_conflicts: bool = False,
        update_conflicts: bool = False,
        update_fields: Sequence[str] | None = None,
        unique_fields: Sequence[str] | None = None,
    ) -> list[Any]:
        """Django's ``bulk_create()``; one entry for each row that it creates or, in a conflict, updates."""
        parent: Any = super()
        arguments: dict[str, Any] = {
            "batch_size": batch_size,
            "ignore_conflicts": ignore_conflicts,
            "update_conflicts": update_conflicts,
            "update_fields": update_fields,
            "unique_fields": unique_fields,
        }
        if not recorder.is_recording():
            return list(parent.bulk_create(objs, **arguments))
        self._for_write = True
        objects = list(objs)
        tracked = registry.for_model(self.model)
        touched: list[tuple[TrackedModel, Sequence[Any] | None]] = [(t, o) for t, o in self._owners_in(objects)]
        if tracked is not None and (ignore_conflicts or update_conflicts):
            touched.append((tracked, None))
        with recorder.link_changes(self.db):
            newest = recorder.newest_key(tracked, self.db) if tracked is not None and ignore_conflicts else None
            with recorder.writing(self.db, touched):
                created = list(parent.bulk_create(objects, **arguments))
            for owner_model, owners in self._owners_in(objects):
                recorder.record_links(owner_model, self.db, owners)
            if tracked is not None:
                self._record_created(tracked, objects, created, newest, ignore_conflicts, update_conflicts)
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def _record_created(
        self,
        tracked: TrackedModel,
        objects: list[models.Model],
        created: list[models.Model],
        newest: Any,
        ignored: bool,
        updated: bool,
    ) -> None:
        if ignored:
            recorder.record_new(tracked, self.db, [o.pk for o in objects if o.pk is not None], newest)
            return
        pks = list(map(attrgetter(tracked.pk_attname), created))
        if updated:
            recorder.record_new(tracked, self.db, pks, None)
            recorder.record(tracked, self.db, pks, "~")
        else:
            recorder.record(tracked, self.db, pks, "+", may_wait=True)

    def delete(self) -> tuple[int, dict[str, int]]:
        """Django's ``delete()``; the entries of all that goes are written together."""
        self._for_write = True
        queryset: Any = self
        parent: Any = super()
        with recorder.link_changes(self.db), deletions(self.db):
            if registry.links_through(self.model) and recorder.is_recording() and not queryset.query.is_sliced:
                self._record_owners(list(queryset.order_by().values_list("pk", flat=True)))
            deleted: tuple[int, dict[str, int]] = parent.delete()
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def _record_owners(self, links: list[Any]) -> None:
        """Have the owners of these links, by their keys, recorded at the end of the change."""
        for tracked, m2m in registry.links_through(self.model):
            for batch in _batches(links):
                recorder.record_links(tracked, self.db, owners_of(m2m, self.db, "pk", batch))

    def _owners_in(self, links: list[models.Model]) -> list[tuple[TrackedModel, list[Any]]]:
        through = registry.links_through(self.model)
        return [(tracked, list({getattr(o, m2m.source_attname): None for o in links})) for tracked, m2m in through]


class AuditedManagerMixin:
    """Hands out audited querysets, and introduces itself to migrations as the class that it was made from."""

    _koherent_original: type[Any]

    def get_queryset(self) -> Any:
        """The original manager's queryset, audited."""
        parent: Any = super()
        queryset = parent.get_queryset()
        if not isinstance(queryset, AuditedQuerySetMixin):
            # The manager's own get_queryset() makes it, and not of the manager's class of querysets.
            queryset_class: Any = type(queryset)
            queryset.__class__ = audited_queryset(queryset_class)
        return queryset

    def deconstruct(self) -> Any:
        """As the original class, so that no migration ever names this one."""
        plain: Any = copy.copy(self)
        plain.__class__ = self._koherent_original
        return plain.deconstruct()


@cache
def audited_queryset(queryset_class: type[Any]) -> type[Any]:
    """The audited subclass of a queryset class."""
    if issubclass(queryset_class, AuditedQuerySetMixin):
        return queryset_class
    return _subclass(AuditedQuerySetMixin, queryset_class, _koherent_original=queryset_class)


@cache
def audited_manager(manager_class: type[Any]) -> type[Any]:
    """The audited subclass of a manager class."""
    if issubclass(manager_class, AuditedManagerMixin):
        return manager_class
    querysets = audited_queryset(manager_class._queryset_class)
    return _subclass(AuditedManagerMixin, manager_class, _koherent_original=manager_class, _queryset_class=querysets)


class AuditedLinksMixin:
    """A many-to-many manager whose every call, ``set()`` too, is one change of each object whose links it moves."""

    instance: models.Model
    through: type[models.Model]

    def add(self, *objs: Any, **kwargs: Any) -> None:
        """Django's ``add()``."""
        self._as_one("add", *objs, **kwargs)

    add.alters_data = True  # type: ignore[attr-defined]

    def remove(self, *objs: Any) -> None:
        """Django's ``remove()``."""
        self._as_one("remove", *objs)

    remove.alters_data = True  # type: ignore[attr-defined]

    def clear(self) -> None:
        """Django's ``clear()``."""
        self._as_one("clear")

    clear.alters_data = True  # type: ignore[attr-defined]

    def set(self, objs: Any, **kwargs: Any) -> None:
        """Django's ``set()``."""
        self._as_one("set", objs, **kwargs)

    set.alters_data = True  # type: ignore[attr-defined]

    def _as_one(self, method: str, *args: Any, **kwargs: Any) -> None:
        parent: Any = super()
        with ExitStack() as stack:
            if hasattr(self.instance, "skip_history_when_saving"):
                stack.enter_context(recorder.suspended())
            stack.enter_context(recorder.link_changes(router.db_for_write(self.through, instance=self.instance)))
            getattr(parent, method)(*args, **kwargs)


class AuditedLinksDescriptorMixin:
    """The descriptor of a tracked many-to-many field, on either side."""

    @cached_property
    def related_manager_cls(self) -> Any:
        """Django's manager class for this relation, audited."""
        manager_class = super().related_manager_cls  # type: ignore[misc]
        return _subclass(AuditedLinksMixin, manager_class)


@cache
def _audited_descriptor(descriptor_class: type[Any]) -> type[Any]:
    return _subclass(AuditedLinksDescriptorMixin, descriptor_class)


def audit_links(tracked: TrackedModel, m2m: M2MTracked) -> None:
    """Make all writes to the links of a tracked many-to-many field record their owners."""
    registry.add_links(tracked, m2m)
    audit_managers(m2m.through)
    sides = [
        (tracked.model, m2m.field.name),
        (m2m.field.remote_field.model, m2m.field.remote_field.get_accessor_name()),
    ]
    for model, name in sides:
        descriptor = None if name is None else vars(model).get(name)
        if descriptor is not None and not isinstance(descriptor, AuditedLinksDescriptorMixin):
            descriptor_class: Any = type(descriptor)
            descriptor.__class__ = _audited_descriptor(descriptor_class)
            descriptor.__dict__.pop("related_manager_cls", None)


def _subclass(mixin: type[Any], original: type[Any], **attributes: Any) -> type[Any]:
    return type(original.__name__, (mixin, original), {"__module__": original.__module__, **attributes})


def _made_again(original: Any) -> Any:
    made: Any = audited_queryset(original)
    return made.__new__(made)


def _audited(manager: Any) -> Any:
    audited = copy.copy(manager)
    manager_class: Any = type(manager)
    audited.__class__ = audited_manager(manager_class)
    return audited


class AuditedOptions(Options):  # type: ignore[type-arg]
    """The options of a tracked model: all of its managers are audited."""

    @cached_property
    def managers(self) -> Any:
        """Own and inherited managers, in Django's order."""
        plain: Any = Options.managers
        return type(plain.func(self))(_audited(manager) for manager in plain.func(self))

    @cached_property
    def base_manager(self) -> Any:
        """The manager that ``save()``, related objects and cascades write through."""
        plain: Any = Options.base_manager
        return _audited(plain.func(self))


def audit_managers(model: type[models.Model]) -> None:
    """Make all managers of ``model`` record, and its ``save()`` and ``delete()``; called once the class is ready."""
    meta: Any = model._meta
    if not isinstance(meta, AuditedOptions):
        meta.__class__ = AuditedOptions
        meta._expire_cache()
    if not getattr(model._save_table, "_koherent", False):  # type: ignore[attr-defined]
        model._save_table = audited_save_table(model._save_table)  # type: ignore[attr-defined]
    if not getattr(model.delete, "_koherent", False):
        model.delete = _audited_delete(model.delete)  # type: ignore[method-assign]


def _audited_delete(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def delete(self: models.Model, using: Any = None, *args: Any, **kwargs: Any) -> Any:
        alias = using or router.db_for_write(type(self), instance=self)
        with recorder.link_changes(alias), deletions(alias):
            for tracked, m2m in registry.links_through(type(self)) if recorder.is_recording() else ():
                recorder.record_links(tracked, alias, [getattr(self, m2m.source_attname)])
            return original(self, using, *args, **kwargs)

    delete._koherent = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]
    return delete


def _stands_alone(model: type[models.Model]) -> bool:
    """True where an UPDATE of the model's own table is all that an ``update()`` does, and no other history shows it."""
    return not (registry.links_through(model) or model._meta.get_parent_list() or registry.descendants(model))


def _batches(keys: list[Any]) -> list[list[Any]]:
    return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]
