"""Puts entries into the database: their rows, the many-to-many links of their objects, the assignation's row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

from django.db import models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from simple_history.models import HistoricalRecords, _default_get_user

from koherent import commits
from koherent.beginnings import LONGEST, begin_assignation, begin_runs, with_beginning, with_run
from koherent.context import Actor, AuditContext, current_audit
from koherent.registry import TrackedModel
from koherent.runs import has_runs
from koherent.statements import STAMP, Statements, for_sqlite3, own_values, statements

#: So many entries of one statement are a run; fewer are read faster on their own.
RUN_AT_LEAST = 20


@dataclass(eq=False)
class Stamp:
    """Who, with what and in which context: ``parameters`` in the order of ``statements.STAMP``, then the team's own."""

    parameters: tuple[Any, ...]
    assignation_id: str | None


def stamp(
    tracked: TrackedModel, connection: BaseDatabaseWrapper, action: str, instance: models.Model | None = None
) -> Stamp:
    """What the context in force says about an entry that is written now; one object per context where it can be."""
    context = current_audit()
    actor, reason = context.actor, context.reason
    user, texts = context.user, statements(tracked, connection)
    sought = instance is not None or hasattr(HistoricalRecords.context, "request")
    if actor is None and "user" not in context.explicit and (sought or tracked.field.get_user is not _default_get_user):
        # Nobody by the context: whom django-simple-history would have found.
        user = tracked.field.get_history_user(instance)
        actor = AuditContext(user=user).actor
    if reason is None and instance is not None:
        reason = tracked.field.get_change_reason_for_object(instance, action, connection.alias)
    if actor is not context.actor or reason is not context.reason or texts.own_fields:
        return _stamp(texts, connection, context, user, actor, reason)
    key = (tracked, connection.vendor)
    found: Stamp | None = context.stamps.get(key)
    if found is None:
        found = context.stamps[key] = _stamp(texts, connection, context, user, actor, reason)
    return found


def _stamp(
    texts: Statements,
    connection: BaseDatabaseWrapper,
    context: AuditContext,
    user: Any,
    actor: Actor | None,
    reason: str | None,
) -> Stamp:
    # In the order of ``STAMP``.
    values = [
        reason,
        None if actor is None else user_key(texts.tracked, user, actor),
        context.app,
        context.assignation_id,
        None if actor is None else actor.key,
        None if actor is None else actor.name,
        dict(context.row_metadata) or texts.no_metadata,
        context.origin,
        texts.tracked.field_set,
    ]
    for place, field in texts.to_prepare:
        if values[place] is not texts.no_metadata:
            values[place] = field.get_db_prep_save(values[place], connection)
    return Stamp((*values, *own_values(texts.own_fields, connection)), context.assignation_id)


def user_key(tracked: TrackedModel, user: Any, actor: Actor) -> Any:
    """What ``history_user`` holds: None for an account of another model than it refers to."""
    if tracked.field.user_model is not None:
        field: Any = tracked.history_model._meta.get_field("history_user")
        if not isinstance(user, field.remote_field.model):
            return None
    return actor.pk


def write(
    tracked: TrackedModel,
    connection: BaseDatabaseWrapper,
    pks: Sequence[Any],
    action: str,
    moment: Any,
    by: Stamp,
    *,
    links: bool = False,
    keep: bool = False,
) -> list[int]:
    """Write an entry of one action and moment for each of ``pks``; returns the new history ids."""
    texts = statements(tracked, connection)
    prepared = texts.prepare(pks, connection)
    which, keys = texts.chosen(prepared)
    date = texts.date_field.get_db_prep_save(moment, connection)
    run = _run(tracked, connection, date, action, by) if len(prepared) >= RUN_AT_LEAST else None
    text = texts.insert(which, action, count=len(prepared), links=links, keep=keep, run=run is not None)
    if action == "-" or (links and tracked.m2m):
        _hold(tracked, connection, prepared, going=action == "-")
    return _write(tracked, connection, text, [date, action, *by.parameters, *keys], by, run)


def write_dated(
    tracked: TrackedModel,
    connection: BaseDatabaseWrapper,
    rows: Sequence[tuple[Any, Any, str]],
    by: Stamp,
    *,
    links: bool = False,
    keep: bool = False,
) -> list[int]:
    """Write an entry for each (key, moment, action); returns the new history ids."""
    texts = statements(tracked, connection)
    keys = texts.prepare([key for key, _, _ in rows], connection)
    prepared = [
        (key, texts.date_field.get_db_prep_save(moment, connection), action)
        for key, (_, moment, action) in zip(keys, rows, strict=True)
    ]
    if links and tracked.m2m:
        _hold(tracked, connection, keys, going=False)
    changes = "~" if any(action == "~" for _, _, action in rows) else "+"
    text = texts.insert("dated", changes, count=len(prepared), links=links, keep=keep)
    return _write(tracked, connection, text, [*by.parameters, *texts.dated(prepared)], by)


def write_new(
    tracked: TrackedModel, connection: BaseDatabaseWrapper, pks: Sequence[Any], newest: Any, by: Stamp
) -> list[int]:
    """Write a ``"+"`` entry for those of ``pks``, and of the rows above ``newest``, that have no live history."""
    if not pks and newest is None:
        return []
    texts = statements(tracked, connection)
    moment = timezone.now()
    keys = texts.keys(texts.prepare(pks, connection)) if pks else []
    above = [] if newest is None else [newest]
    date = texts.date_field.get_db_prep_save(moment, connection)
    run = _run(tracked, connection, date, "+", by) if above or len(pks) >= RUN_AT_LEAST else None
    text = texts.insert_new(len(pks), bool(above), run is not None)
    return _write(tracked, connection, text, [date, "+", *by.parameters, *keys, *above], by, run)


def write_ahead(
    tracked: TrackedModel, connection: BaseDatabaseWrapper, text: str, parameters: Sequence[Any]
) -> list[int]:
    """SQLite: entries by an ``insert_ahead()``, of whose UPDATE these are the parameters; returns their history ids."""
    texts, by = statements(tracked, connection), stamp(tracked, connection, "~")
    date = texts.date_field.get_db_prep_save(timezone.now(), connection)
    table = tracked.model._meta.db_table.strip('"')
    run = _run(tracked, connection, date, "~", by)
    return _write(tracked, connection, text, [date, "~", *by.parameters, *parameters, table], by, run)


def _run(tracked: TrackedModel, connection: BaseDatabaseWrapper, date: Any, action: str, by: Stamp) -> list[Any] | None:
    """The parameters ``RUN`` of a run that is written now; None where entries have to stand alone."""
    if not has_runs(connection):
        return None
    said = dict(zip(STAMP, by.parameters, strict=False))
    return [*_beginning(connection, by.assignation_id), date, action, said["app"], said["actor_id"], tracked.label]


def _hold(tracked: TrackedModel, connection: BaseDatabaseWrapper, prepared: Sequence[Any], *, going: bool) -> None:
    """Wait for others who write to these objects, so that the entry follows theirs and knows what they did.

    An UPDATE holds its rows already; a DELETE and a change of links come to them later, or never. Links first, then
    their owners: Django deletes in that order, reverts lock in it, and nobody may wait for each other. SQLite has one
    writer at a time.
    """
    if connection.vendor == "postgresql":
        texts, keys = statements(tracked, connection), statements(tracked, connection).keys(prepared)
        with connection.cursor() as cursor:
            for m2m in tracked.m2m if going else ():
                cursor.execute(texts.hold_links(m2m), keys)
            cursor.execute(texts.hold(going), keys)


def _write(
    tracked: TrackedModel,
    connection: BaseDatabaseWrapper,
    text: str,
    parameters: list[Any],
    by: Stamp,
    run: Sequence[Any] | None = None,
) -> list[int]:
    texts = statements(tracked, connection)
    # The row of a run is one of its assignation, too.
    begins = _begins(connection, by.assignation_id) if run is None else by.assignation_id
    if run is not None and texts.postgres:
        text, parameters = with_run(text), [*parameters, *run]
    elif begins is not None and texts.postgres:
        text, parameters = with_beginning(text), [*parameters, *_beginning(connection, begins)]
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
        if texts.postgres:
            # Rows of one id, or of the first and the last one of a run.
            ids = [id for row in cursor.fetchall() for id in range(row[0], row[-1] + 1)]
        else:
            ids = _inserted(cursor)
        if not ids:
            return ids
        if run is not None and not texts.postgres:
            for some in _parted(ids):
                cursor.execute(begin_runs(len(some)), [*run, *chain.from_iterable(some)])
        elif begins is not None and not texts.postgres:
            cursor.execute(begin_assignation(), _beginning(connection, begins))
        for m2m in tracked.m2m:
            own = own_values(texts.own_link_fields[m2m.name], connection)
            cursor.execute(texts.copy_links(m2m, len(ids)), [*own, *texts.keys(ids)])
    commits.wrote(connection, [(tracked.label, id) for id in ids], begins)
    return ids


def _parted(ids: Sequence[int]) -> Iterator[list[tuple[int, int]]]:
    """The first and last ids of the runs of entries without a gap, as many at once as a statement takes."""
    firsts = range(ids[0], ids[-1] + 1, LONGEST)
    for start in range(0, len(firsts), 400):
        yield [(first, min(first + LONGEST - 1, ids[-1])) for first in firsts[start : start + 400]]


def _inserted(cursor: Any) -> list[int]:
    """SQLite: the ids of what an INSERT ... SELECT has just put in; it has one writer, and counts ids up by one."""
    return list(range(cursor.lastrowid - cursor.rowcount + 1, cursor.lastrowid + 1))


class RowUpdate(NamedTuple):
    """The UPDATE of a ``save()``, its row's key being the last parameter, and what its entry is to say.

    ``execute`` executes a statement and gives the cursor.
    """

    execute: Callable[[str, Sequence[Any]], Any]
    sql: str
    params: Sequence[Any]
    moment: Any
    by: Stamp


def write_with_update(tracked: TrackedModel, connection: BaseDatabaseWrapper, update: RowUpdate) -> bool:
    """PostgreSQL: the UPDATE of a ``save()`` and its entry in one statement; returns whether it found its row."""
    execute, sql, params, moment, by = update
    texts, begins = statements(tracked, connection), _begins(connection, by.assignation_id)
    text = texts.update_with_entry(sql, tracked.record_unchanged, begins is not None)
    date = texts.date_field.get_db_prep_save(moment or timezone.now(), connection)
    *values, key = params
    beginning = [] if begins is None else _beginning(connection, begins)
    found = execute(text, [key, *values, date, "~", *by.parameters, *beginning]).fetchone()
    if found is None:
        return False
    if found[0] is not None:
        commits.wrote(connection, [(tracked.label, found[0])], begins)
    elif _has_moved(tracked, connection, key):
        # Not now, but before and unrecorded. Meanwhile somebody else may have changed the row, or be about to.
        with transaction.atomic(using=connection.alias):
            _hold(tracked, connection, [key], going=False)
            _write(tracked, connection, texts.insert("one", "~"), [date, "~", *by.parameters, key], by)
    return True


def _has_moved(tracked: TrackedModel, connection: BaseDatabaseWrapper, key: Any) -> bool:
    with connection.cursor() as cursor:
        cursor.execute(statements(tracked, connection).has_moved(), [key])
        return cursor.fetchone() is not None


def write_behind_update(tracked: TrackedModel, connection: BaseDatabaseWrapper, update: RowUpdate) -> bool:
    """SQLite: the UPDATE of a ``save()`` and its entry behind it; returns whether it found its row.

    The driver itself runs the statements around the UPDATE: what Django's cursors and ``atomic()`` do for those who
    watch a connection takes longer than SQLite takes to write an entry.
    """
    execute, sql, params, moment, by = update
    texts, driver = statements(tracked, connection), connection.connection
    alone, entry_id, begins = not connection.in_atomic_block, None, None
    with connection.wrap_database_errors:
        cursor = driver.cursor()
        if alone:
            # It begins with a write, and so needs none of the modes that keep a reader from becoming a writer too late.
            cursor.execute("BEGIN")
        try:
            found = bool(execute(sql, params).rowcount)
            if found:
                now = connection.ops.adapt_datetimefield_value(timezone.now())
                date = now if moment is None else texts.date_field.get_db_prep_save(moment, connection)
                # An INSERT that looks at the latest entry itself reads its own table: SQLite then sets its rows aside.
                if tracked.record_unchanged or cursor.execute(for_sqlite3(texts.has_moved()), params[-1:]).fetchone():
                    text = for_sqlite3(texts.insert("one", "~", keep=True))
                    cursor.execute(text, (date, "~", *by.parameters, params[-1]))
                    if cursor.rowcount:
                        entry_id, begins = cursor.lastrowid, _begins(connection, by.assignation_id)
                if begins is not None:
                    cursor.execute(for_sqlite3(begin_assignation()), (begins, now))
            if alone:
                cursor.execute("COMMIT")
        finally:
            if alone:
                # Nothing is left to roll back after a commit.
                driver.rollback()
    if entry_id is not None:
        commits.wrote(connection, [(tracked.label, entry_id)], begins)
    return found


def announce(
    tracked: TrackedModel, connection: BaseDatabaseWrapper, ids: Sequence[int], assignation_id: str | None
) -> None:
    """Entries have been written: their assignation has its row, and listeners are told after the commit."""
    begins = _begins(connection, assignation_id)
    if begins is not None:
        with connection.cursor() as cursor:
            cursor.execute(begin_assignation(), _beginning(connection, begins))
    commits.wrote(connection, [(tracked.label, id) for id in ids], begins)


def begin(connection: BaseDatabaseWrapper, assignation_id: str, links: Mapping[str, str]) -> None:
    """Write the row of a new assignation, with what it reverts."""
    text, parameters = _begin(connection, assignation_id, links)
    with connection.cursor() as cursor:
        cursor.execute(text, parameters)
    commits.wrote(connection, [], assignation_id)


def write_and_begin(
    tracked: TrackedModel,
    connection: BaseDatabaseWrapper,
    update: str,
    params: Sequence[Any],
    by: Stamp,
    assignation_id: str,
    links: Mapping[str, str],
) -> list[int]:
    """PostgreSQL: ``begin()``, an UPDATE of one locked row and its entry in one statement; returns its history id."""
    begun, beginning = _begin(connection, assignation_id, links)
    texts = statements(tracked, connection)
    date = texts.date_field.get_db_prep_save(timezone.now(), connection)
    with connection.cursor() as cursor:
        cursor.execute(texts.update_and_begin(update, begun), [*params, date, "~", *by.parameters, *beginning])
        ids = [id for (id,) in cursor.fetchall()]
    commits.wrote(connection, [(tracked.label, id) for id in ids], assignation_id)
    return ids


def _begin(connection: BaseDatabaseWrapper, assignation_id: str, links: Mapping[str, str]) -> tuple[str, list[Any]]:
    return begin_assignation(*links), [*_beginning(connection, assignation_id), *links.values()]


def _begins(connection: BaseDatabaseWrapper, assignation_id: str | None) -> str | None:
    """The assignation, if it needs a row of this process."""
    if assignation_id is None or commits.has_begun(connection, assignation_id):
        return None
    return assignation_id if has_runs(connection) else None


def _beginning(connection: BaseDatabaseWrapper, assignation_id: str | None) -> list[Any]:
    """The parameters of ``begin_assignation()`` without links, of ``begin_along()``, and the first ones of ``RUN``."""
    return [assignation_id, connection.ops.adapt_datetimefield_value(timezone.now())]
