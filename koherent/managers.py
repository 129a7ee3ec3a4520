"""The managers and querysets of tracked models: Django's and the team's own, with recording around their writes.

A tracked model's managers get a subclass of their own class, made once per class. The model's options hand those
out, so that own, inherited, related and base managers are all covered, and no class of anybody else is changed.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from functools import cache, wraps
from typing import Any

from django.db import models, router, transaction
from django.db.models.options import Options
from django.utils.functional import cached_property

from koherent import recorder, registry

BATCH = 10_000


class AuditedQuerySetMixin:
    """Records what ``update``, ``bulk_create`` and ``delete`` do; all else of Django ends in these or in ``save``."""

    model: type[models.Model]
    db: str
    _for_write: bool

    def update(self, **kwargs: Any) -> int:
        """Django's ``update()``; one entry for each row that it changes."""
        tracked = registry.for_model(self.model)
        parent: Any = super()
        if tracked is None or not recorder.is_recording():
            return int(parent.update(**kwargs))
        self._for_write = True
        queryset: Any = self
        if queryset.query.is_sliced:
            return int(parent.update(**kwargs))  # Django's own TypeError
        with transaction.atomic(using=self.db, savepoint=False):
            pks = list(queryset.order_by().values_list("pk", flat=True))
            updated = 0
            for batch in _batches(pks):
                # The filter stays: a row that stopped matching meanwhile must not be changed.
                narrowed = queryset.filter(pk__in=batch)
                updated += int(super(AuditedQuerySetMixin, narrowed).update(**kwargs))  # type: ignore[misc]
                recorder.record(tracked, self.db, batch, "~")
        return updated

    update.alters_data = True  # type: ignore[attr-defined]

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
        tracked = registry.for_model(self.model)
        parent: Any = super()
        arguments: dict[str, Any] = {
            "batch_size": batch_size,
            "ignore_conflicts": ignore_conflicts,
            "update_conflicts": update_conflicts,
            "update_fields": update_fields,
            "unique_fields": unique_fields,
        }
        if tracked is None or not recorder.is_recording():
            return list(parent.bulk_create(objs, **arguments))
        self._for_write = True
        objects = list(objs)
        with transaction.atomic(using=self.db, savepoint=False):
            newest = recorder.newest_key(tracked, self.db) if ignore_conflicts else None
            created = list(parent.bulk_create(objects, **arguments))
            if ignore_conflicts:
                recorder.record_new(tracked, self.db, [o.pk for o in objects if o.pk is not None], newest)
            elif update_conflicts:
                pks = [o.pk for o in created]
                recorder.record_new(tracked, self.db, pks, None)
                recorder.record(tracked, self.db, pks, "~")
            else:
                recorder.record(tracked, self.db, [o.pk for o in created], "+")
        return created

    bulk_create.alters_data = True  # type: ignore[attr-defined]

    def delete(self) -> tuple[int, dict[str, int]]:
        """Django's ``delete()``; the entries of all that goes are written together."""
        self._for_write = True
        parent: Any = super()
        with recorder.deletions(self.db):
            deleted: tuple[int, dict[str, int]] = parent.delete()
        return deleted

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class AuditedManagerMixin:
    """Hands out audited querysets, and introduces itself to migrations as the class that it was made from."""

    _koherent_original: type[Any]

    def get_queryset(self) -> Any:
        """The original manager's queryset, audited."""
        parent: Any = super()
        queryset = parent.get_queryset()
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
    return type(
        queryset_class.__name__, (AuditedQuerySetMixin, queryset_class), {"__module__": queryset_class.__module__}
    )


@cache
def audited_manager(manager_class: type[Any]) -> type[Any]:
    """The audited subclass of a manager class."""
    if issubclass(manager_class, AuditedManagerMixin):
        return manager_class
    return type(
        manager_class.__name__,
        (AuditedManagerMixin, manager_class),
        {"__module__": manager_class.__module__, "_koherent_original": manager_class},
    )


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
    meta.__class__ = AuditedOptions
    meta._expire_cache()
    if not getattr(model._save_table, "_koherent", False):  # type: ignore[attr-defined]
        model._save_table = _audited_save_table(model._save_table)  # type: ignore[attr-defined]
    if not getattr(model.delete, "_koherent", False):
        model.delete = _audited_delete(model.delete)  # type: ignore[method-assign]


def _audited_save_table(original: Callable[..., Any]) -> Callable[..., Any]:
    """Records right behind the INSERT or UPDATE, in its transaction: a handler that saves again comes after us."""

    @wraps(original)
    def _save_table(
        self: models.Model,
        raw: bool = False,
        cls: type[models.Model] | None = None,
        force_insert: bool = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> Any:
        arguments = (raw, cls, force_insert, force_update, using, update_fields)
        tracked = None if cls is None else registry.for_model(cls)
        if tracked is None or raw or using is None or not recorder.is_recording():
            return original(self, *arguments)
        if hasattr(self, "skip_history_when_saving"):
            return original(self, *arguments)
        with transaction.atomic(using=using, savepoint=False):
            updated = original(self, *arguments)
            key = getattr(self, tracked.pk_attname)
            recorder.record(tracked, using, [key], "~" if updated else "+", instance=self)
        return updated

    _save_table._koherent = True  # type: ignore[attr-defined]
    return _save_table


def _audited_delete(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def delete(self: models.Model, using: Any = None, *args: Any, **kwargs: Any) -> Any:
        alias = using or router.db_for_write(type(self), instance=self)
        with recorder.deletions(alias):
            return original(self, using, *args, **kwargs)

    delete._koherent = True  # type: ignore[attr-defined]
    delete.alters_data = True  # type: ignore[attr-defined]
    return delete


def _batches(keys: list[Any]) -> Iterable[list[Any]]:
    for start in range(0, len(keys), BATCH):
        yield keys[start : start + BATCH]
