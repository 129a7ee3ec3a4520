"""``update()`` of a tracked model's own table: entries for the rows that it changes, behind it or, on SQLite, ahead."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Lookup, QuerySet, Transform, Value
from django.db.models.expressions import Col, CombinedExpression
from django.db.models.sql import UpdateQuery
from django.db.models.sql.where import WhereNode

from koherent import recorder, writer
from koherent.registry import TrackedModel
from koherent.runs import has_runs
from koherent.statements import quote, statements
from koherent.unit import unit_of
from koherent.wrappers import outermost


def update_and_record(
    tracked: TrackedModel, queryset: QuerySet[Any], values: Mapping[str, Any], update: Callable[[], Any]
) -> int:
    """``update()``, which is the ``update(**values)`` of a queryset, and its entries; returns how many rows match."""
    using = queryset.db
    running = _Update(tracked, connections[using], _foreseen(tracked, queryset, values, connections[using]))
    with recorder.writing(using, [(tracked, None)]), outermost(connections[using], running):
        update()
    recorder.record(tracked, using, running.keys, "~", may_wait=True)
    return running.found


class Foreseen(NamedTuple):
    """An UPDATE before it runs: text and parameters of the whole, the SQL of each new value, those of its condition."""

    sql: str
    params: tuple[Any, ...]
    new: dict[Any, str]
    where: str
    where_params: tuple[Any, ...]


class _Update(recorder.Returned):
    """An execute wrapper that has an UPDATE return the keys of what it changed, or writes its entries ahead of it.

    SQLite has the rows as they were only before the UPDATE: afterwards each has to be compared with its latest entry,
    which takes as long as three indexes. Ahead of it nothing can come between, because SQLite has one writer.
    """

    def __init__(self, tracked: TrackedModel, connection: BaseDatabaseWrapper, foreseen: Foreseen | None) -> None:
        super().__init__(tracked.model)
        self.tracked, self.connection, self.foreseen = tracked, connection, foreseen
        self.found = 0

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        known, foreseen = len(self.keys), self.foreseen
        if foreseen is not None and (sql, tuple(params or ())) != foreseen[:2]:
            foreseen = None
        if foreseen is not None and (written := self._write(foreseen.new, foreseen.where, foreseen.params)):
            result = execute(sql, params, many, context)
            found = context["cursor"].rowcount
            if found > written:
                # What does not move now may have moved before, unrecorded, and the UPDATE's condition still finds it.
                self._write({}, foreseen.where, foreseen.where_params)
            self.found += found
        else:
            result = super().__call__(execute, sql, params, many, context)
            self.found += len(self.keys) - known
        return result

    def _write(self, new: Mapping[Any, str], where: str, params: Sequence[Any]) -> int:
        run, keep = has_runs(self.connection), self.tracked.record_unchanged
        text = statements(self.tracked, self.connection).insert_ahead(new, where, keep=keep, run=run)
        return len(writer.write_ahead(self.tracked, self.connection, text, params))


def _foreseen(
    tracked: TrackedModel, queryset: QuerySet[Any], values: Mapping[str, Any], connection: BaseDatabaseWrapper
) -> Foreseen | None:
    """The UPDATE to come, if its entries may be written ahead of it: what it says must mean the same a moment before.

    What Django then really runs, a team's own ``update()`` included, is compared with this.
    """
    if connection.vendor != "sqlite" or unit_of(connection) is not None or recorder.going.get():
        return None
    # To resolve what ``bulk_update()`` says of a thousand rows takes a fifth of its time.
    expressions = [value for value in values.values() if hasattr(value, "resolve_expression")]
    if not all(isinstance(value, (F, Value, CombinedExpression)) for value in expressions):
        return None
    query: Any = queryset.query.chain(UpdateQuery)
    query.add_update_values(values)
    table, fields = query.get_initial_alias(), tracked.fields
    settled = all(_is_settled_value(field, value, connection) for field, _, value in query.values)
    if query.annotations or not settled or not _is_settled(query.where) or any(f.generated for f in fields):
        return None
    try:
        where, where_params = query.get_compiler(connection=connection).compile(query.where)
    except FullResultSet:
        where, where_params = "", ()
    except EmptyResultSet:
        return None
    new: dict[Any, str] = {}
    params: list[Any] = []
    behind = f" WHERE {where}" if where else ""
    for field, _, value in query.values:
        alone = query.clone()
        alone.values = [(field, None, value)]
        sql, some = alone.get_compiler(connection=connection).as_sql()
        before = f"UPDATE {quote(table)} SET {quote(field.column)} = "
        new[field] = sql.removeprefix(before).removesuffix(behind)
        params += some[: len(some) - len(where_params)]
    sets = ", ".join(f"{quote(field.column)} = {sql}" for field, sql in new.items())
    limit = connection.features.max_query_params
    # Date, action, the stamp and the name of the table come along.
    if limit is not None and len(params) + len(where_params) > limit - 50:
        return None
    return Foreseen(
        f"UPDATE {quote(table)} SET {sets}{behind}", (*params, *where_params), new, where, tuple(where_params)
    )


def _is_settled_value(field: Any, value: Any, connection: BaseDatabaseWrapper) -> bool:
    if not hasattr(value, "resolve_expression"):
        return True
    # SQLite compares a column with one of another type otherwise than it would store it.
    columns = [part.target for part in value.flatten() if isinstance(part, Col)]
    alike = all(column.db_type(connection) == field.db_type(connection) for column in columns)
    return alike and _is_settled(value)


def _is_settled(part: Any) -> bool:
    """Whether a part of a statement depends on values and columns only: on no time, no chance, no query.

    Columns of other tables Django puts into a query, so that the statement is not the one that was foreseen.
    """
    if isinstance(part, WhereNode):
        return all(_is_settled(child) for child in part.children)
    if isinstance(part, Lookup):
        return _is_settled(part.lhs) and _is_settled(part.rhs)
    if isinstance(part, (Col, Value, CombinedExpression, Transform)):
        return all(_is_settled(source) for source in part.get_source_expressions())
    return not hasattr(part, "resolve_expression") and not hasattr(part, "as_sql")
