"""One history row and its object as it is now, in one statement whose text is made once: most reverts need no more."""

from functools import cache
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from koherent.registry import TrackedModel
from koherent.revert.live import Live
from koherent.revert.values import all_rows
from koherent.revert.versions import Version, Versions


def read_pair(versions: Versions, history_id: int, lock: bool) -> tuple[Version, Live] | None:
    """A history row and its object; ``lock`` keeps others from changing the object until the transaction ends.

    None where there is no such row, or no object, or where more must be read: links, or the tables of parents.
    """
    tracked, connection = versions.tracked, connections[DEFAULT_DB_ALIAS]
    text = _text(tracked, connection.vendor, lock and connection.features.has_select_for_update)
    found = None if text is None else text.read(history_id)
    if text is None or found is None:
        return None
    version = versions.version(found[: text.width])
    row = tracked.model.from_db(DEFAULT_DB_ALIAS, text.attnames, found[text.width :])
    return version, Live({version.pk: row}, {version.pk: {}})


@cache
def _text(tracked: TrackedModel, vendor: str, lock: bool) -> "_Text | None":
    if tracked.m2m or tracked.model._meta.get_parent_list():
        return None
    # A base manager of the team's own may choose other rows each time.
    plain = all(model._base_manager.auto_created for model in (tracked.model, tracked.history_model))
    return _Text(tracked, lock) if plain else None


class _Text:
    """The statement, without a connection, so that threads can share it."""

    def __init__(self, tracked: TrackedModel, lock: bool) -> None:
        quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
        live: Any = tracked.model._meta
        history: Any = tracked.history_model._meta
        self.attnames = [f.attname for f in live.concrete_fields]
        columns = Versions(tracked).columns
        self.width = len(columns)
        self.expressions: list[Any] = []
        self.params: list[Any] = []
        selected = []
        for model, names in ((tracked.history_model, columns), (tracked.model, self.attnames)):
            self.query = all_rows(model).order_by().values_list(*names).query
            compiler = self.query.get_compiler(DEFAULT_DB_ALIAS)
            compiler.pre_sql_setup()
            for expression, (sql, params), _alias in compiler.select:
                self.expressions.append(expression)
                selected.append(sql)
                self.params += params
        table, entries = quote(live.db_table), quote(history.db_table)
        key, then = quote(live.pk.column), quote(history.get_field(live.pk.name).column)
        self.sql = (
            f"SELECT {', '.join(selected)} FROM {entries} JOIN {table} ON {table}.{key} = {entries}.{then} "
            f"WHERE {entries}.{quote(history.pk.column)} = %s{f' FOR UPDATE OF {table}' if lock else ''}"
        )

    def read(self, history_id: int) -> list[Any] | None:
        """The values of the history row and of its object, as Django's fields read them."""
        connection = connections[DEFAULT_DB_ALIAS]
        with connection.cursor() as cursor:
            cursor.execute(self.sql, [*self.params, history_id])
            rows = cursor.fetchall()
        compiler = self.query.get_compiler(connection=connection)
        found = compiler.apply_converters(rows, compiler.get_converters(self.expressions))
        return next(map(list, found), None)
