"""Statements that copy values from history rows to live ones, many objects at a time, without leaving the database."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS, connections

from koherent.registry import M2MTracked, TrackedModel
from koherent.revert.steps import NO_SOURCE, Columns, Planned
from koherent.revert.values import all_rows, automatic, stamped

#: Which of a step's history rows each of its fields comes from: places in the list of distinct rows; -1: null.
Pattern = tuple[int, ...]
#: An object's key, and its distinct history rows.
Group = tuple[Any, tuple[int, ...]]


def update(tracked: TrackedModel, steps: Sequence[Planned]) -> None:
    """The steps' fields get the values of the history rows that hold them; ``auto_now`` fields say now."""
    nulled: dict[Columns, list[Any]] = defaultdict(list)
    for step in steps:
        if set(step.sources) == {NO_SOURCE}:
            nulled[step.columns].append(step.pk)
    for columns, pks in nulled.items():
        stamps = {f.name: f.pre_save(tracked.model(), False) for f in tracked.fields if automatic(f)}
        all_rows(tracked.model).filter(pk__in=pks).update(**stamps, **dict.fromkeys(columns.names))
    for (columns, pattern), group in _patterns(steps):
        if any(place >= 0 for place in pattern):
            _Copy(tracked, columns, pattern, group).update()


def update_of_one(step: Planned) -> tuple[str, list[Any]]:
    """PostgreSQL: the UPDATE of one object whose model has no parents, and its parameters.

    Some of its values have to be in history rows.
    """
    [((columns, pattern), group)] = _patterns([step])
    [statement] = _Copy(step.tracked, columns, pattern, group).updates()
    return statement


def insert(tracked: TrackedModel, steps: Sequence[Planned]) -> None:
    """The steps' rows come back under their keys; fields that no history row holds get their defaults."""
    for (columns, pattern), group in _patterns(steps):
        _Copy(tracked, columns, pattern, group).insert()


def insert_links(m2m: M2MTracked, pairs: Sequence[tuple[int, Any]]) -> None:
    """Links come back as history rows hold them: (history id, key of the other side). Those that are there stay."""
    connection = connections[DEFAULT_DB_ALIAS]
    quote = connection.ops.quote_name
    through: Any = m2m.through._meta
    history: Any = m2m.history_model._meta
    # Nobody refers to the rows of an automatic table, so they need not have their old keys.
    fields: list[Any] = [f for f in through.concrete_fields if not (through.auto_created and f.primary_key)]
    target, source = (next(f for f in fields if f.attname == n) for n in (m2m.target_attname, m2m.source_attname))
    then = {f: quote(history.get_field(f.name).column) for f in fields}
    params: list[Any] = []
    for history_id, key in pairs:
        params += [history_id, target.get_db_prep_value(key, connection)]
    table = quote(through.db_table)
    # SQLite takes CROSS JOIN for the order of its loops.
    join = "CROSS JOIN" if connection.vendor == "sqlite" else "JOIN"
    there = " AND ".join(f"x.{quote(f.column)} = t.{then[f]}" for f in (source, target))
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH v(row_id, target) AS (VALUES {', '.join(['(%s, %s)'] * len(pairs))}) "
            f"INSERT INTO {table} ({', '.join(quote(f.column) for f in fields)}) "
            f"SELECT {', '.join(f't.{then[f]}' for f in fields)} FROM v {join} {quote(history.db_table)} t "
            f"ON v.row_id = t.{quote('history_id')} AND v.target = t.{then[target]} "
            f"WHERE NOT EXISTS (SELECT 1 FROM {table} x WHERE {there})",
            params,
        )


def delete_links(m2m: M2MTracked, pairs: Sequence[tuple[Any, Any]]) -> None:
    """Links go: (key of the owner, key of the other side)."""
    connection = connections[DEFAULT_DB_ALIAS]
    quote = connection.ops.quote_name
    through: Any = m2m.through._meta
    fields: list[Any] = list(through.concrete_fields)
    source, target = (next(f for f in fields if f.attname == n) for n in (m2m.source_attname, m2m.target_attname))
    params: list[Any] = []
    for owner, key in pairs:
        params += [source.get_db_prep_value(owner, connection), target.get_db_prep_value(key, connection)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"DELETE FROM {quote(through.db_table)} WHERE ({quote(source.column)}, {quote(target.column)}) "
            f"IN (VALUES {', '.join(['(%s, %s)'] * len(pairs))})",
            params,
        )


def _patterns(steps: Sequence[Planned]) -> Iterator[tuple[tuple[Columns, Pattern], list[Group]]]:
    """Steps that one statement serves: their fields and pattern, and each one's key and distinct history rows."""
    groups: dict[tuple[Columns, Pattern], list[Group]] = defaultdict(list)
    for step in steps:
        places: dict[int, int] = {}
        pattern = tuple(-1 if s == NO_SOURCE else places.setdefault(s, len(places)) for s in step.sources)
        groups[step.columns, pattern].append((step.pk, tuple(places)))
    yield from groups.items()


class _Copy:
    """The statements of one group: ``rows`` are the history rows of each object, ``keys`` the objects."""

    def __init__(self, tracked: TrackedModel, columns: Columns, pattern: Pattern, group: Sequence[Group]) -> None:
        self.tracked, self.columns = tracked, columns
        self.keys, self.rows = [key for key, _ in group], [rows for _, rows in group]
        self.connection = connections[DEFAULT_DB_ALIAS]
        self.quote = self.connection.ops.quote_name
        self.history = cast(Any, tracked.history_model._meta)
        self.place = dict(zip((f.name for f in columns.fields), pattern, strict=True))
        own: Any = tracked.model._meta
        self.key = self.quote(self.history.get_field(own.pk.name).column)

    def update(self) -> None:
        if self.connection.vendor == "sqlite":
            for update, key, values in self.tables():
                self.update_each(update, key, values)
        else:
            for text, params in self.updates():
                self.execute(text, params)

    def updates(self) -> Iterator[tuple[str, list[Any]]]:
        """PostgreSQL: a statement for each table, and its parameters."""
        given, source, condition, before, after = self.sources([])
        for update, key, values in self.tables():
            yield f"{given}{update} FROM {source} WHERE h0.{self.key} = {key}{condition}", [*before, *values, *after]

    def tables(self) -> Iterator[tuple[str, str, list[Any]]]:
        """Of each table with something to write: the beginning of the UPDATE, its key column, its parameters."""
        for table in (self.tracked.model, *self.tracked.model._meta.get_parent_list()):
            meta: Any = table._meta
            fields = [f for f in self.columns.fields if f.model is table]
            stamps = {f: f.pre_save(self.tracked.model(), False) for f in meta.local_concrete_fields if automatic(f)}
            if not fields and not stamps:
                continue
            name = self.quote(meta.db_table)
            sets = [f"{self.quote(f.column)} = {self.then(f)}" for f in fields]
            sets += [f"{self.quote(f.column)} = %s" for f in stamps]
            values = [f.get_db_prep_save(value, self.connection) for f, value in stamps.items()]
            yield f"UPDATE {name} SET {', '.join(sets)}", f"{name}.{self.quote(meta.pk.column)}", values

    def update_each(self, update: str, key: str, values: list[Any]) -> None:
        """SQLite's planner, once misled by old statistics, joins in quadratic time; looking up keys it cannot err."""
        numbers = range(len(self.rows[0]))
        history, history_id = self.quote(self.history.db_table), self.quote("history_id")
        tables = ", ".join(f"{history} h{n}" for n in numbers)
        found = " AND ".join(f"h{n}.{history_id} = %s" for n in numbers)
        pk: Any = self.tracked.model._meta.pk
        keys = [pk.get_db_prep_value(step_key, self.connection) for step_key in self.keys]
        with self.connection.cursor() as cursor:
            cursor.executemany(
                f"{update} FROM {tables} WHERE {key} = %s AND {found}",
                [(*values, one, *row) for one, row in zip(keys, self.rows, strict=True)],
            )

    def insert(self) -> None:
        own = self.tracked.model
        for table in (*reversed(own._meta.get_parent_list()), own):
            meta: Any = table._meta
            into, selected, params = [], [], []
            per_row: list[Any] = []
            for f in meta.local_concrete_fields:
                if getattr(f, "generated", False):
                    continue
                if f.primary_key:
                    selected.append(f"h0.{self.key}")
                elif f.name in self.place:
                    selected.append(self.then(f))
                elif f.has_db_default():
                    continue
                elif callable(f.default):
                    selected.append(self.cast(f, f"v.d{len(per_row)}"))
                    per_row.append(f)
                else:
                    default = f.pre_save(own(), True) if stamped(f) else f.get_default()
                    selected.append(self.cast(f, "%s"))
                    params.append(f.get_db_prep_save(default, self.connection))
                into.append(self.quote(f.column))
            given, source, condition, before, after = self.sources(per_row)
            name, key = self.quote(meta.db_table), self.quote(meta.pk.column)
            # The parent's row may be a step of its own.
            there = "" if table is own else f" AND NOT EXISTS (SELECT 1 FROM {name} x WHERE x.{key} = h0.{self.key})"
            self.execute(
                f"{given}INSERT INTO {name} ({', '.join(into)}) SELECT {', '.join(selected)} "
                f"FROM {source} WHERE 1 = 1{condition}{there}",
                [*before, *params, *after],
            )

    def sources(self, per_row: Sequence[Any]) -> tuple[str, str, str, list[Any], list[Any]]:
        """The WITH clause, the tables, a further condition; and the parameters of the first and of the last."""
        history = self.quote(self.history.db_table)
        history_id = self.quote("history_id")
        width = len(self.rows[0])
        if width == 1 and not per_row:
            ids = [row[0] for row in self.rows]
            return "", f"{history} h0", f" AND h0.{history_id} IN ({', '.join(['%s'] * len(ids))})", [], ids
        names = [f"s{n}" for n in range(width)] + [f"d{n}" for n in range(len(per_row))]
        group = f"({', '.join(['%s'] * len(names))})"
        params: list[Any] = []
        for row in self.rows:
            params += row
            params += [f.get_db_prep_save(f.get_default(), self.connection) for f in per_row]
        given = f"WITH v({', '.join(names)}) AS (VALUES {', '.join([group] * len(self.rows))}) "
        # SQLite takes CROSS JOIN for the order of its loops.
        join = "CROSS JOIN" if self.connection.vendor == "sqlite" else "JOIN"
        joined = " ".join(f"{join} {history} h{n} ON h{n}.{history_id} = v.s{n}" for n in range(width))
        return given, f"v {joined}", "", params, []

    def then(self, model_field: Any) -> str:
        place = self.place[model_field.name]
        return "NULL" if place < 0 else f"h{place}.{self.quote(self.history.get_field(model_field.name).column)}"

    def cast(self, model_field: Any, expression: str) -> str:
        # PostgreSQL would take an untyped constant for text.
        if self.connection.vendor != "postgresql":
            return expression
        return f"CAST({expression} AS {model_field.db_type(self.connection)})"

    def execute(self, sql: str, params: list[Any]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
