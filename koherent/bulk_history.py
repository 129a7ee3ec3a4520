"""What django-simple-history's bulk helpers end in, on a tracked model: the audited managers have recorded already."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db import connections, models, router

from koherent import commits, recorder, registry, runs, writer
from koherent.context import AuditContext, current_audit
from koherent.registry import TrackedModel

_TELLING = ("_history_user", "_change_reason", "_history_date")


class BulkHistoryMixin:
    """For history managers: ``bulk_create_with_history()`` and ``bulk_update_with_history()`` double nothing."""

    model: type[models.Model]

    def bulk_history_create(
        self,
        objs: Iterable[models.Model],
        batch_size: int | None = None,
        update: bool = False,
        default_user: Any = None,
        default_change_reason: str | None = "",
        default_date: Any = None,
        custom_historical_attrs: Mapping[str, Any] | None = None,
    ) -> list[models.Model]:
        """Write the entries that are missing, and tell this transaction's entries of ``objs`` what is given here.

        User and reason count where the context in force names none. Returns those entries.
        """
        tracked = registry.for_history_model(self.model)
        if tracked is None or not recorder.is_recording():
            return []
        objects = list(objs)
        using = router.db_for_write(tracked.model)
        with recorder.together(using):
            if update:
                recorder.record(tracked, using, [o.pk for o in objects], "~")
            else:
                recorder.record_new(tracked, using, [o.pk for o in objects], None)
            entries = _written(tracked, using, objects)
            told = (default_user, default_change_reason, default_date, custom_historical_attrs)
            plain = {o.pk for o in objects if not any(hasattr(o, name) for name in _TELLING)}
            _tell(tracked, [e for e in entries if _key(tracked, e) in plain], using, _values(tracked, None, *told))
            for instance in objects:
                if instance.pk not in plain:
                    own = [e for e in entries if _key(tracked, e) == instance.pk]
                    _tell(tracked, own, using, _values(tracked, instance, *told))
        return entries


def _written(tracked: TrackedModel, using: str, objects: list[models.Model]) -> list[models.Model]:
    """The entries of the objects that this transaction wrote."""
    ids = commits.written(connections[using], tracked.label)
    if not ids:
        return []
    found: list[models.Model] = []
    history = tracked.history_model._base_manager.using(using).filter(history_id__gte=min(ids))
    for start in range(0, len(objects), recorder.BATCH):
        keys = [o.pk for o in objects[start : start + recorder.BATCH]]
        rows = history.filter(**{f"{tracked.pk_attname}__in": keys}).order_by("history_id")
        found += [row for row in rows if row.pk in ids]
    return found


def _key(tracked: TrackedModel, entry: models.Model) -> Any:
    return getattr(entry, tracked.pk_attname)


def _values(
    tracked: TrackedModel,
    instance: models.Model | None,
    user: Any,
    reason: str | None,
    date: Any,
    attributes: Mapping[str, Any] | None,
) -> dict[str, Any]:
    context, values = current_audit(), dict(attributes or {})
    user = getattr(instance, "_history_user", user)
    actor = AuditContext(user=user).actor
    if context.actor is None and actor is not None and "user" not in context.explicit:
        key = writer.user_key(tracked, user, actor)
        values |= {"history_user_id": key, "actor_id": actor.key, "actor_name": actor.name}
    reason = getattr(instance, "_change_reason", None) or reason
    if context.reason is None and reason:
        values["history_change_reason"] = reason
    date = getattr(instance, "_history_date", date)
    if date is not None:
        values["history_date"] = date
    return values


def _tell(tracked: TrackedModel, entries: list[models.Model], using: str, values: dict[str, Any]) -> None:
    if not values:
        return
    if not values.keys().isdisjoint(runs.SHARED):
        # Their run says otherwise.
        values = {**values, "in_run": False}
    for start in range(0, len(entries), recorder.BATCH):
        ids = [entry.pk for entry in entries[start : start + recorder.BATCH]]
        tracked.history_model._base_manager.using(using).filter(history_id__in=ids).update(**values)
    for entry in entries:
        for name, value in values.items():
            setattr(entry, name, value)
