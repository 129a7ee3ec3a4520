"""``save()`` of a tracked model: its entry is written right behind the row, or along with it in one statement."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial, wraps
from typing import Any

from django.db import connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.signals import post_migrate

from koherent import recorder, registry, writer
from koherent.deletions import owners_of
from koherent.registry import M2MTracked, TrackedModel
from koherent.statements import statements
from koherent.unit import unit_of

_ORDINARY_TABLE = (
    "SELECT c.relkind = 'r' AND NOT c.relhasrules AND NOT EXISTS "
    "(SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal) "
    "FROM pg_class c WHERE c.oid = CAST(%s AS regclass)"
)
_ordinary: dict[tuple[str, str], bool] = {}


def audited_save_table(original: Callable[..., Any]) -> Callable[..., Any]:
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
        if cls is None or using is None or raw or not recorder.is_recording():
            return original(self, *arguments)
        tracked, links = registry.for_model(cls), registry.links_through(cls)
        # A child that is being saved itself has its turn when its own table is written.
        below = registry.descendants(cls) if self._meta.concrete_model is cls else ()
        if hasattr(self, "skip_history_when_saving") or not (tracked or links or below):
            return original(self, *arguments)
        write = partial(original, self, *arguments)
        if tracked is not None and not links and not below:
            connection = connections[using]
            # A new object needs its transaction before its INSERT.
            unwatched = not self._state.adding and _is_unwatched(tracked, connection)
            if unwatched or fits_one_statement(tracked, connection):
                return _save_at_once(self, write, tracked, connection)
        with recorder.together(using):
            return _save_and_record(self, write, cls, using, tracked, links, below)

    _save_table._koherent = True  # type: ignore[attr-defined]
    return _save_table


def _save_and_record(
    instance: models.Model,
    write: Callable[[], Any],
    table: type[models.Model],
    using: str,
    tracked: TrackedModel | None,
    links: tuple[tuple[TrackedModel, M2MTracked], ...],
    below: tuple[TrackedModel, ...],
) -> Any:
    key_name = table._meta.pk.attname
    key = getattr(instance, key_name)
    touched: list[tuple[TrackedModel, Sequence[Any] | None]] = [(owner_model, None) for owner_model, _ in links]
    if key is not None:
        touched += [(t, [key]) for t in (tracked, *registry.descendants(table)) if t is not None]
    with recorder.link_changes(using) if links else nullcontext():
        if not instance._state.adding:
            for owner_model, m2m in links:
                recorder.record_links(owner_model, using, owners_of(m2m, using, key_name, [key]))
        with recorder.writing(using, touched):
            updated = write()
        for owner_model, m2m in links:
            recorder.record_links(owner_model, using, [getattr(instance, m2m.source_attname)])
        key = getattr(instance, key_name)
        if tracked is not None:
            action = "~" if updated else "+"
            recorder.record(tracked, using, [key], action, instance=instance, may_wait=True)
        for child in below if updated else ():
            recorder.record(child, using, [key], "~", may_wait=True)
    return updated


def fits_one_statement(tracked: TrackedModel, connection: BaseDatabaseWrapper) -> bool:
    """Whether PostgreSQL can write a change of a row of the model and its entry by one statement, here and now."""
    if connection.vendor != "postgresql" or not _is_simple(tracked, connection):
        return False
    return _is_ordinary_table(tracked, connection)


def _is_unwatched(tracked: TrackedModel, connection: BaseDatabaseWrapper) -> bool:
    """Whether an entry on SQLite may be written without Django's cursors: nobody watches its statements."""
    if connection.vendor != "sqlite" or connection.execute_wrappers or connection.queries_logged:
        return False
    return _is_simple(tracked, connection)


def _is_simple(tracked: TrackedModel, connection: BaseDatabaseWrapper) -> bool:
    """Whether a change is one of one table's row, to be recorded at once."""
    if tracked.m2m or recorder.going.get() or unit_of(connection) is not None:
        return False
    # ``autocommit`` is false until there is a connection, which ``get_autocommit()`` makes.
    known = connection.in_atomic_block or connection.autocommit or connection.get_autocommit()
    return known and len(statements(tracked, connection).ancestry) == 1


def _is_ordinary_table(tracked: TrackedModel, connection: BaseDatabaseWrapper) -> bool:
    """Whether nothing but the statement decides what the row holds: no trigger of a team's, no rule, no view."""
    key = (connection.alias, tracked.model._meta.db_table)
    if key not in _ordinary:
        connection.ensure_connection()
        # The driver's own cursor: this is about the connection, as what Django asks of a new one, and is no query.
        with connection.connection.cursor() as cursor:
            cursor.execute(_ORDINARY_TABLE, [statements(tracked, connection).table])
            _ordinary[key] = bool(cursor.fetchone()[0])
    return _ordinary[key]


def _save_at_once(
    instance: models.Model, write: Callable[[], Any], tracked: TrackedModel, connection: BaseDatabaseWrapper
) -> Any:
    with _UpdateWithEntry(tracked, instance, connection) as update:
        updated = write()
        if not update.is_recorded:
            key = getattr(instance, tracked.model._meta.pk.attname)
            recorder.record(tracked, connection.alias, [key], "~" if updated else "+", instance=instance)
    return updated


class _UpdateWithEntry:
    """An execute wrapper, for the time of a save, that writes an UPDATE and its entry together.

    Any other write, of an object that is new after all, or with values that Django wants returned, gets a transaction
    that lasts as long. A class and no generators, because every ``save()`` pays for it.
    """

    def __init__(self, tracked: TrackedModel, instance: models.Model, connection: BaseDatabaseWrapper) -> None:
        self.tracked, self.instance, self.connection = tracked, instance, connection
        self.is_recorded = False
        self._texts = statements(tracked, connection)
        (self._key,) = self._texts.prepare([getattr(instance, tracked.model._meta.pk.attname)], connection)
        self._transaction: Any = None

    def __enter__(self) -> "_UpdateWithEntry":
        self._covered = recorder.is_covered.set(True)
        # As ``wrappers.outermost()`` does.
        self.connection.execute_wrappers.insert(0, self)
        return self

    def __exit__(self, *error: Any) -> None:
        self.connection.execute_wrappers.remove(self)
        recorder.is_covered.reset(self._covered)
        if self._transaction is not None:
            self._transaction.__exit__(*error)

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        # A field's ``pre_save()`` may save other objects of the model: they see to their own entries.
        if self._texts.is_of_one_row(sql) and params[-1] == self._key:
            return self._update(execute, sql, params, context)
        if not sql.startswith(("SELECT", "BEGIN")) and not self.connection.in_atomic_block:
            self._transaction = transaction.atomic(using=self.connection.alias)
            self._transaction.__enter__()
        return execute(sql, params, many, context)

    def _update(self, execute: Any, sql: str, params: Any, context: Any) -> Any:
        result: Any = None

        def run(text: str, parameters: Sequence[Any]) -> Any:
            nonlocal result
            result = execute(text, parameters, False, context)
            return context["cursor"]

        by = writer.stamp(self.tracked, self.connection, "~", self.instance)
        moment = getattr(self.instance, "_history_date", None)
        write = writer.write_with_update if self.connection.vendor == "postgresql" else writer.write_behind_update
        self.is_recorded = write(self.tracked, self.connection, writer.RowUpdate(run, sql, params, moment, by))
        return result


def _forget(**_: Any) -> None:
    _ordinary.clear()


# Migrations make triggers.
post_migrate.connect(_forget, dispatch_uid="koherent.saving")
