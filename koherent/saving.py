"""``save()`` of a tracked model: its entry is written right behind the row, or along with it in one statement."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, nullcontext
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
from koherent.wrappers import outermost

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
        if tracked is not None and not links and not below and fits_one_statement(tracked, using):
            return _save_at_once(self, write, tracked, using)
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


def fits_one_statement(tracked: TrackedModel, using: str) -> bool:
    """Whether a change of a row of the model and its entry can be written by one statement, here and now."""
    connection = connections[using]
    if connection.vendor != "postgresql" or tracked.m2m or recorder.going.get():
        return False
    if unit_of(connection) is not None or not (connection.in_atomic_block or connection.get_autocommit()):
        return False
    return len(statements(tracked, connection).ancestry) == 1 and _is_ordinary_table(tracked, connection)


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


def _save_at_once(instance: models.Model, write: Callable[[], Any], tracked: TrackedModel, using: str) -> Any:
    with ExitStack() as stack:
        update = _UpdateWithEntry(tracked, instance, connections[using], stack)
        with recorder.writing(using, ()), outermost(connections[using], update):
            updated = write()
        if not update.is_recorded:
            key = getattr(instance, tracked.model._meta.pk.attname)
            recorder.record(tracked, using, [key], "~" if updated else "+", instance=instance)
    return updated


class _UpdateWithEntry:
    """An execute wrapper that makes one statement of an UPDATE and its entry.

    Any other write, of an object that is new after all, or with values that Django wants returned, gets a transaction
    that lasts as long as ``stack``.
    """

    def __init__(
        self, tracked: TrackedModel, instance: models.Model, connection: BaseDatabaseWrapper, stack: ExitStack
    ) -> None:
        self.tracked, self.instance, self.connection, self.stack = tracked, instance, connection, stack
        self.is_recorded = False

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if statements(self.tracked, self.connection).is_of_one_row(sql):
            return self._update(execute, sql, params, context)
        if not sql.startswith("SELECT") and not self.connection.in_atomic_block:
            self.stack.enter_context(transaction.atomic(using=self.connection.alias))
        return execute(sql, params, many, context)

    def _update(self, execute: Any, sql: str, params: Any, context: Any) -> Any:
        result: Any = None

        def run(text: str, parameters: list[Any]) -> Any:
            nonlocal result
            result = execute(text, parameters, False, context)
            return context["cursor"].fetchall()

        by = writer.stamp(self.tracked, self.connection, "~", self.instance)
        moment = getattr(self.instance, "_history_date", None)
        self.is_recorded = writer.write_with_update(self.tracked, self.connection, run, sql, params, moment, by)
        return result


def _forget(**_: Any) -> None:
    _ordinary.clear()


# Migrations make triggers.
post_migrate.connect(_forget, dispatch_uid="koherent.saving")
