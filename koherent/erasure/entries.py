"""The entry that an erasure leaves."""

from typing import Any

from django.db import connections
from django.utils import timezone

from koherent import diff, writer
from koherent.context import current_audit
from koherent.registry import TrackedModel


def write_entry(tracked: TrackedModel, using: str, pk: Any) -> int:
    """An entry about an object, as it is or as it was when it went, of the context in force; returns its history id.

    Runs in a transaction, and keeps others from writing to the object until that ends. The object has a history.
    """
    connection = connections[using]
    row = tracked.model._base_manager.using(using).filter(pk=pk)
    locked = row.select_for_update() if connection.features.has_select_for_update else row
    if not list(locked.values_list("pk")):
        return _write_of_gone(tracked, using, pk)
    by = writer.stamp(tracked, connection, "~")
    [history_id] = writer.write(tracked, connection, [pk], "~", timezone.now(), by, keep=True)
    return history_id


def _write_of_gone(tracked: TrackedModel, using: str, pk: Any) -> int:
    """Another entry of its deletion, with what the latest one holds."""
    history = tracked.history_model._base_manager.using(using)
    latest: Any = history.filter(**{tracked.pk_attname: pk}).order_by("-history_id")[0]
    before = latest.history_id
    context = current_audit()
    actor = context.actor
    entry: Any = tracked.history_model(
        **{f.attname: getattr(latest, f.attname) for f in tracked.fields},
        history_date=timezone.now(),
        history_type="-",
        history_change_reason=context.reason,
        history_user_id=None if actor is None else actor.pk,
        app=context.app,
        assignation_id=context.assignation_id,
        actor_id=None if actor is None else actor.key,
        actor_name=None if actor is None else actor.name,
        metadata={**context.row_metadata, **_markers(latest)},
        origin=context.origin,
        field_set=latest.field_set,
    )
    entry.save(using=using, force_insert=True)
    for m2m in tracked.m2m:
        links: list[Any] = list(m2m.history_model._base_manager.using(using).filter(history_id=before))
        for link in links:
            link.pk, link.history_id = None, entry.history_id
        m2m.history_model._base_manager.using(using).bulk_create(links)
    writer.announce(tracked, connections[using], [int(entry.history_id)], context.assignation_id)
    return int(entry.history_id)


def _markers(row: Any) -> dict[str, Any]:
    found = {diff.ERASED: diff.erased_fields(row), diff.ERASED_CHANGES: diff.erased_changes(row)}
    return {name: sorted(fields) for name, fields in found.items() if fields}
