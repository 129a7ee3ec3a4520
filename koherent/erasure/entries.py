"""The entry that an erasure leaves."""

from typing import Any

from django.db import connections
from django.utils import timezone

from koherent import diff, writer
from koherent.erasure.values import WithMarkers
from koherent.registry import TrackedModel
from koherent.statements import quote, statements


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
    connection = connections[using]
    history = tracked.history_model._base_manager.using(using)
    latest: Any = history.filter(**{tracked.pk_attname: pk}).order_by("-history_id")[0]
    texts, by = statements(tracked, connection), writer.stamp(tracked, connection, "-")
    columns: list[Any] = [tracked.history_model._meta.get_field(f.name) for f in tracked.fields]
    values = [f"h.{quote(column.column)}" for column in columns]
    if tracked.field.related_name:
        values.append(f"h.{texts.key}")
    date = texts.date_field.get_db_prep_save(timezone.now(), connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"{texts.into} SELECT {', '.join([*values, *texts.marks])} FROM {texts.history} h WHERE h.history_id = %s "
            f"RETURNING {quote('history_id')}",
            [date, "-", *by.parameters, latest.history_id],
        )
        [(history_id,)] = cursor.fetchall()
    # The row has the fields, and lacks the values, that the one before it has and lacks.
    own = history.filter(history_id=history_id)
    own.update(field_set=latest.field_set, metadata=WithMarkers(_markers(latest)))
    for m2m in tracked.m2m:
        links: list[Any] = list(m2m.history_model._base_manager.using(using).filter(history_id=latest.history_id))
        for link in links:
            link.pk, link.history_id = None, history_id
        m2m.history_model._base_manager.using(using).bulk_create(links)
    writer.announce(tracked, connection, [history_id], by.assignation_id)
    return int(history_id)


def _markers(row: Any) -> dict[str, Any]:
    found = {diff.ERASED: diff.erased_fields(row), diff.ERASED_CHANGES: diff.erased_changes(row)}
    return {name: sorted(fields) for name, fields in found.items() if fields}
