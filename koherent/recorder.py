"""Writes history rows: one INSERT ... SELECT from the model's own table, so that a row holds the database's values."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import connections, models, router, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from simple_history.models import HistoricalRecords

from koherent.context import Actor, AuditContext, current_audit
from koherent.models import Assignation
from koherent.pausing import is_recording, suspended
from koherent.registry import M2MTracked, TrackedModel

__all__ = ["deletions", "is_recording", "on_committed", "record", "record_new", "suspended"]

Keys = list[tuple[str, int]]

#: Called after a commit with the database's alias and the (label, history id) of what was written.
on_committed: list[Callable[[str, Keys], None]] = []

BATCH = 10_000


def record(
    tracked: TrackedModel,
    using: str,
    pks: Sequence[Any],
    action: str,
    *,
    instance: models.Model | None = None,
    links: bool = False,
) -> list[int]:
    """Write an entry for each of ``pks`` as the database holds them now; returns the new history ids.

    For ``"-"`` call before the rows go. A ``"~"`` is written only where a value differs from the latest entry, or,
    with ``links``, where a tracked many-to-many differs. ``instance`` brings django-simple-history's attributes.
    """
    written: list[int] = []
    for start in range(0, len(pks), BATCH):
        written += _Statement(tracked, using, pks[start : start + BATCH], action, instance, links).run()
    return written


def record_new(tracked: TrackedModel, using: str, pks: Sequence[Any], newest: Any) -> list[int]:
    """Write a ``"+"`` entry for those of ``pks``, and of the rows above ``newest``, that have no live history."""
    return _Statement(tracked, using, list(pks), "+", None, False, only_new=True, newest=newest).run()


def newest_key(tracked: TrackedModel, using: str) -> Any:
    """The highest key of the model's table where the database hands keys out, else None."""
    if not isinstance(tracked.model._meta.pk, models.AutoField):
        return None
    found = tracked.model._base_manager.using(using).order_by("-pk").values_list("pk", flat=True).first()
    return 0 if found is None else found


@dataclass
class _Deletions:
    using: str
    pending: dict[TrackedModel, list[Any]] = field(default_factory=dict)

    def flush(self) -> None:
        while self.pending:
            tracked, pks = self.pending.popitem()
            record(tracked, self.using, pks, "-")


_deletions: ContextVar[_Deletions | None] = ContextVar("koherent_deletions", default=None)
_going: ContextVar[frozenset[tuple[TrackedModel, Any]]] = ContextVar("koherent_going", default=frozenset())


@contextmanager
def deletions(using: str) -> Iterator[None]:
    """Collect the objects that a ``delete()`` announces and record them in one statement a model, before they go."""
    if _deletions.get() is not None or not is_recording():
        yield
        return
    collected = _Deletions(using)

    def before_write(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        # The collector announces all objects first; its first writing statement is the last moment to read them.
        if collected.pending and sql.lstrip()[:6].upper() in ("DELETE", "UPDATE"):
            collected.flush()
        return execute(sql, params, many, context)

    token, going = _deletions.set(collected), _going.set(frozenset())
    try:
        with connections[using].execute_wrapper(before_write):
            yield
    finally:
        _deletions.reset(token)
        _going.reset(going)


def announce_deletion(tracked: TrackedModel, using: str, pk: Any) -> None:
    """An object is about to go: record its last values, together with others when a ``delete()`` collects."""
    collected = _deletions.get()
    if collected is None or collected.using != using:
        record(tracked, using, [pk], "-")
        return
    collected.pending.setdefault(tracked, []).append(pk)
    _going.set(_going.get() | {(tracked, pk)})


def committed(using: str, keys: Keys) -> None:
    """Tell the listeners what a transaction wrote."""
    for listener in on_committed:
        listener(using, keys)


class _Statement:
    """The INSERT ... SELECT of one model, and what follows it: links, the assignation's row, the doorbell."""

    def __init__(
        self,
        tracked: TrackedModel,
        using: str,
        pks: Sequence[Any],
        action: str,
        instance: models.Model | None,
        links: bool,
        *,
        only_new: bool = False,
        newest: Any = None,
    ) -> None:
        self.tracked, self.using, self.action, self.instance = tracked, using, action, instance
        self.links, self.only_new, self.newest = links, only_new, newest
        self.connection: BaseDatabaseWrapper = connections[using]
        going = _going.get()
        if action == "~" and going:
            pks = [pk for pk in pks if (tracked, pk) not in going]
        self.pks = pks
        self.context = current_audit()
        self.now = getattr(instance, "_history_date", None) or timezone.now()
        self.history = self.quote(tracked.history_model._meta.db_table)
        self.key = self.quote(self.column(tracked.model._meta.pk))
        self.postgres = self.connection.vendor == "postgresql"

    def run(self) -> list[int]:
        if not self.pks and self.newest is None:
            return []
        sql, params = self.insert()
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            ids = [int(row[0]) for row in cursor.fetchall()]
            if not ids:
                return ids
            for m2m in self.tracked.m2m:
                cursor.execute(*self.copy_links(m2m, ids))
            if self.context.assignation_id is not None:
                self.begin_assignation(cursor, self.context.assignation_id)
        if on_committed:
            keys = [(self.tracked.label, id) for id in ids]
            transaction.on_commit(partial(committed, self.using, keys), using=self.using, robust=True)
        return ids

    def quote(self, name: str | None) -> str:
        return str(self.connection.ops.quote_name(str(name)))

    def column(self, model_field: Any) -> str:
        return str(self.tracked.history_model._meta.get_field(model_field.name).column)  # type: ignore[union-attr]

    def insert(self) -> tuple[str, list[Any]]:
        columns, selected, params = [], [], []
        for model_field in self.tracked.fields:
            columns.append(self.quote(self.column(model_field)))
            selected.append(f"{self.alias(model_field)}.{self.quote(model_field.column)}")
        for name, value in self.constants().items():
            history_field: Any = self.tracked.history_model._meta.get_field(name)
            columns.append(self.quote(history_field.column))
            # PostgreSQL would take an untyped constant of a SELECT for text.
            selected.append(f"CAST(%s AS {history_field.db_type(self.connection)})" if self.postgres else "%s")
            params.append(history_field.get_db_prep_save(value, self.connection))
        conditions, more = self.conditions()
        sql = (
            f"INSERT INTO {self.history} ({', '.join(columns)}) "
            f"SELECT {', '.join(selected)} FROM {self.tables()} "
            f"WHERE {conditions} ORDER BY m0.{self.quote(self.tracked.model._meta.pk.column)} "
            f"RETURNING {self.quote('history_id')}"
        )
        return sql, params + more

    def alias(self, model_field: Any) -> str:
        return f"m{self.ancestry().index(model_field.model)}"

    def ancestry(self) -> list[Any]:
        """The model and, for multi-table inheritance, its parents in the order of their joins."""
        concrete = {f.model for f in self.tracked.fields} - {self.tracked.model}
        return [self.tracked.model, *(p for p in self.tracked.model._meta.get_parent_list() if p in concrete)]

    def tables(self) -> str:
        first, *parents = self.ancestry()
        own_key = f"m0.{self.quote(first._meta.pk.column)}"
        joins = [f"{self.quote(first._meta.db_table)} m0"]
        for number, parent in enumerate(parents, 1):
            key = f"m{number}.{self.quote(parent._meta.pk.column)}"
            joins.append(f"JOIN {self.quote(parent._meta.db_table)} m{number} ON {key} = {own_key}")
        return " ".join(joins)

    def conditions(self) -> tuple[str, list[Any]]:
        pk = self.tracked.model._meta.pk
        live_key = f"m0.{self.quote(pk.column)}"
        params = [pk.get_db_prep_value(key, self.connection) for key in self.pks]
        which = f"{live_key} IN ({', '.join(['%s'] * len(params))})" if params else ""
        if self.newest is not None:
            above = f"{live_key} > %s"
            which = f"({which} OR {above})" if which else above
            params.append(self.newest)
        latest = f"SELECT MAX(l.history_id) FROM {self.history} l WHERE l.{self.key} = {live_key}"
        if self.only_new:
            alive = f"SELECT 1 FROM {self.history} h WHERE h.history_id = ({latest}) AND h.history_type <> '-'"
            return f"{which} AND NOT EXISTS ({alive})", params
        if self.action != "~":
            return which, params
        same = [f"h.history_id = ({latest})", "h.history_type <> '-'"]
        operator = "IS NOT DISTINCT FROM" if self.postgres else "IS"
        for model_field in self.tracked.fields:
            # A save that moves nothing but its own time stamp is no change.
            if model_field is pk or getattr(model_field, "auto_now", False):
                continue
            then, now = self.quote(self.column(model_field)), self.quote(model_field.column)
            same.append(f"h.{then} {operator} {self.alias(model_field)}.{now}")
        if self.links:
            same += [self.same_links(m2m, live_key) for m2m in self.tracked.m2m]
        return f"{which} AND NOT EXISTS (SELECT 1 FROM {self.history} h WHERE {' AND '.join(same)})", params

    def same_links(self, m2m: M2MTracked, live_key: str) -> str:
        """True when the links now are the links of the entry ``h``."""
        target_column = self.quote(self.link_column(m2m, m2m.target_attname))
        now = (
            f"SELECT {target_column} FROM {self.quote(m2m.through._meta.db_table)} "
            f"WHERE {self.quote(self.link_column(m2m, m2m.source_attname))} = {live_key}"
        )
        then = (
            f"SELECT {target_column} FROM {self.quote(m2m.history_model._meta.db_table)} "
            f"WHERE {self.quote('history_id')} = h.history_id"
        )
        return f"NOT EXISTS ({now} EXCEPT {then}) AND NOT EXISTS ({then} EXCEPT {now})"

    @staticmethod
    def link_column(m2m: M2MTracked, attname: str) -> str:
        return next(str(f.column) for f in m2m.through._meta.concrete_fields if f.attname == attname)

    def copy_links(self, m2m: M2MTracked, ids: list[int]) -> tuple[str, list[Any]]:
        columns = [self.quote(f.column) for f in m2m.through._meta.concrete_fields]
        source = self.quote(self.link_column(m2m, m2m.source_attname))
        sql = (
            f"INSERT INTO {self.quote(m2m.history_model._meta.db_table)} "
            f"({', '.join(columns)}, {self.quote('history_id')}) "
            f"SELECT {', '.join(f't.{column}' for column in columns)}, h.history_id "
            f"FROM {self.quote(m2m.through._meta.db_table)} t JOIN {self.history} h ON h.{self.key} = t.{source} "
            f"WHERE h.history_id IN ({', '.join(['%s'] * len(ids))})"
        )
        return sql, list(ids)

    def begin_assignation(self, cursor: Any, assignation_id: str) -> None:
        """The row of an assignation that begins here; no unique key, so that nobody waits for anybody."""
        if not router.allow_migrate_model(self.using, Assignation):
            return
        table = self.quote(Assignation._meta.db_table)
        date_field: Any = Assignation._meta.get_field("started_at")
        moment = "CAST(%s AS timestamp with time zone)" if self.postgres else "%s"
        text = "CAST(%s AS varchar)" if self.postgres else "%s"
        cursor.execute(
            f"INSERT INTO {table} (assignation_id, started_at) SELECT {text}, {moment} "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table} WHERE assignation_id = %s)",
            [assignation_id, date_field.get_db_prep_save(self.now, self.connection), assignation_id],
        )

    def constants(self) -> dict[str, Any]:
        actor, user_pk = self.actor()
        context: AuditContext = self.context
        return {
            "history_date": self.now,
            "history_type": self.action,
            "history_change_reason": context.reason or getattr(self.instance, "_change_reason", None),
            self.user_field(): user_pk,
            "app": context.app,
            "assignation_id": context.assignation_id,
            "actor_id": None if actor is None else actor.key,
            "actor_name": None if actor is None else actor.name,
            "metadata": dict(context.row_metadata),
            "origin": context.origin,
            "field_set": self.tracked.field_set,
        }

    def user_field(self) -> str:
        return "history_user_id" if self.tracked.field.user_id_field is not None else "history_user"

    def actor(self) -> tuple[Actor | None, Any]:
        """Who acts: the context's user, else whom django-simple-history would have found for a saved instance."""
        actor = self.context.actor
        sought = self.instance is not None or hasattr(HistoricalRecords.context, "request")
        if actor is None and sought and "user" not in self.context.explicit:
            user = self.tracked.field.get_history_user(self.instance)
            actor = AuditContext(user=user).actor
        return actor, None if actor is None else actor.pk
