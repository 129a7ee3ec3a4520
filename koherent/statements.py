"""The SQL of recording. Its text depends on the model and the kind of database only, so each is built once."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import NOT_PROVIDED

from koherent.beginnings import begin_along
from koherent.models import TRANSACTION_ID
from koherent.registry import M2MTracked, TrackedModel

Keys = Literal["one", "range", "many", "dated"]

#: What an entry knows besides its object's values, in the order of the parameters.
STAMP = (
    "history_change_reason",
    "history_user",
    "app",
    "assignation_id",
    "actor_id",
    "actor_name",
    "metadata",
    "origin",
    "field_set",
)
# PostgreSQL compares no values of these types, or, of the last one, takes different texts for the same.
_COMPARED_AS_TEXT = ("json", "xml", "point", "polygon", "box", "line", "lseg", "path", "circle", "citext")
_cache: dict[tuple[TrackedModel, str], "Statements"] = {}


def quote(name: object) -> str:
    """A table's or column's name as SQLite and PostgreSQL quote it."""
    text = str(name)
    return text if text.startswith('"') and text.endswith('"') else f'"{text}"'


def statements(tracked: TrackedModel, connection: BaseDatabaseWrapper) -> "Statements":
    """The statements that record changes of ``tracked`` on this kind of database."""
    key = (tracked, connection.vendor)
    found = _cache.get(key)
    if found is None:
        found = _cache[key] = Statements(tracked, connection)
    return found


class Statements:
    """Texts with ``%s`` for parameters; an instance is shared by all threads and keeps no connection."""

    def __init__(self, tracked: TrackedModel, connection: BaseDatabaseWrapper) -> None:
        self.tracked = tracked
        self.postgres = connection.vendor == "postgresql"
        history: Any = tracked.history_model._meta
        # SQLite tells the highest id and the number of rows; to return a thousand ids takes it 3.2 ms instead of 2.5.
        self._returning = " RETURNING history_id" if self.postgres else ""
        self.history, self.table = quote(history.db_table), quote(tracked.model._meta.db_table)
        pk: Any = tracked.model._meta.pk
        self.pk_type = pk.rel_db_type(connection)
        self.live_key = f"m0.{quote(pk.column)}"
        self._of_one_row = f" WHERE {self.table}.{quote(pk.column)} = %s"
        self.key = quote(self._column(pk))
        user = "history_user_id" if tracked.field.user_id_field is not None else "history_user"
        self.stamp_fields = [history.get_field(user if name == "history_user" else name) for name in STAMP]
        self.to_prepare = [(place, f) for place, f in enumerate(self.stamp_fields) if not _goes_as_it_is(f)]
        self.no_metadata = history.get_field("metadata").get_db_prep_save({}, connection)
        self.date_field, self.type_field = history.get_field("history_date"), history.get_field("history_type")
        copied = [f.name for f in tracked.fields]
        self.own_fields = _own_fields(history, [*copied, *STAMP, user, "history_date", "history_type"])
        constants = [self.date_field, self.type_field, *self.stamp_fields, *self.own_fields]
        # PostgreSQL would take an untyped constant of a SELECT for text.
        self.marks = self._marks(constants, connection)
        self.date_type, self.action_type = (f.db_type(connection) for f in constants[:2])
        self.ancestry = self._ancestry()
        columns = [quote(self._column(f)) for f in tracked.fields]
        # ``related_name`` asks for a way from the object to its entries.
        relation = ["history_relation"] if tracked.field.related_name else []
        columns += [quote(history.get_field(name).column) for name in relation]
        columns += [quote(f.column) for f in constants]
        self.into = f"INSERT INTO {self.history} ({', '.join(columns)})"
        position = [quote("position")] if self.postgres else []
        self.into_run = f"INSERT INTO {self.history} ({', '.join([*columns, quote('in_run'), *position])})"
        self._relation = [self.live_key for _ in relation]
        self.values = self._values({})
        self._exactly = {f: self._as_stored(f, connection) for f in tracked.fields}
        self.own_link_fields = {m2m.name: _own_link_fields(m2m) for m2m in tracked.m2m}
        self._link_marks = {name: self._marks(own, connection) for name, own in self.own_link_fields.items()}
        self._texts: dict[Any, str] = {}

    def _values(self, new: Mapping[Any, str]) -> str:
        values = [new.get(f) or f"{self._alias(f)}.{quote(f.column)}" for f in self.tracked.fields]
        return ", ".join(values + self._relation)

    def _marks(self, fields: Sequence[Any], connection: BaseDatabaseWrapper) -> list[str]:
        return [f"CAST(%s AS {f.db_type(connection)})" if self.postgres else "%s" for f in fields]

    def _as_stored(self, field: Any, connection: BaseDatabaseWrapper) -> str:
        """What has the values of a column compared as they are: a collation may take different texts for the same."""
        cast = "::text" if self.postgres and field.db_type(connection) in _COMPARED_AS_TEXT else ""
        if not field.db_parameters(connection).get("collation"):
            return cast
        return f"{cast} COLLATE {quote('C') if self.postgres else 'BINARY'}"

    def insert(
        self, keys: Keys, action: str, *, count: int = 1, links: bool = False, keep: bool = False, run: bool = False
    ) -> str:
        """The INSERT ... SELECT of entries for some objects.

        ``keys``: ``one`` object, a ``range`` of keys, ``many`` (``count`` matters on SQLite), or ``dated``: each with
        its own date and action. ``action`` says whether any is a change (``"~"``), which is written only where
        something differs from the latest entry; ``links`` compares many-to-many links too, ``keep`` writes it in any
        case. The entries of a ``run`` say so.

        Parameters: for ``dated`` the stamp and ``dated()``, else date, action, stamp, and what ``chosen()`` gives.
        """
        shape = (keys, action, count if not self.postgres and keys in ("many", "dated") else 0, links, keep, run)
        text = self._texts.get(shape)
        if text is None:
            text = self._texts[shape] = self._insert(*shape)
            if len(self._texts) > 200:
                self._texts = {shape: text}
        return text

    def prepare(self, pks: Sequence[Any], connection: BaseDatabaseWrapper) -> list[Any]:
        """Keys as the database takes them."""
        pk = self.tracked.model._meta.pk
        if isinstance(pk, models.AutoField):
            return [key if type(key) is int else pk.get_db_prep_value(key, connection) for key in pks]
        return [pk.get_db_prep_value(key, connection) for key in pks]

    def chosen(self, prepared: list[Any]) -> tuple[Keys, list[Any]]:
        """How to name these objects, and the parameters: a bulk write's keys mostly follow each other."""
        if len(prepared) == 1:
            return "one", prepared
        if counts_keys(self.tracked):
            least, most = min(prepared), max(prepared)
            if most - least == len(prepared) - 1 and len(set(prepared)) == len(prepared):
                limit = [len(prepared)] if self.postgres and len(self.ancestry) == 1 else []
                return "range", [least, most, *limit]
        return "many", self.keys(prepared)

    def keys(self, values: Sequence[Any]) -> list[Any]:
        """The parameters of ``many`` keys."""
        return [list(values)] if self.postgres else list(values)

    def dated(self, rows: Sequence[tuple[Any, Any, str]]) -> list[Any]:
        """The parameters of ``dated`` keys from (key, date, action)."""
        if self.postgres:
            return [list(column) for column in zip(*rows, strict=True)]
        return [value for row in rows for value in row]

    def _insert(self, keys: Keys, action: str, count: int, links: bool, keep: bool, run: bool) -> str:
        date, kind, *stamp = self.marks
        if keys == "dated":
            date, kind = "v.date", "v.action"
            source, condition, order = self._dated_source(count), "", " ORDER BY v.date"
        else:
            which = {"one": "= %s", "range": "BETWEEN %s AND %s", "many": self._several(count)}[keys]
            source, condition, order = self._tables(), f"{self.live_key} {which}", ""
            if keys == "range" and self.postgres and len(self.ancestry) == 1:
                # Right after a bulk write PostgreSQL expects many more rows than there are, and compiles the query.
                source, condition = f"(SELECT * FROM {source} WHERE {condition} LIMIT %s) m0", ""
        if action == "~" and not keep:
            moved = self._moved(links=links)
            moved = f"(v.action <> '~' OR {moved})" if keys == "dated" else moved
            condition = f"{condition} AND {moved}" if condition else moved
        where = f" WHERE {condition}" if condition else ""
        into = self._into_with([self.values, date, kind, *stamp], run)
        return f"{into} FROM {source}{where}{order}{self._returning}"

    def _into_with(self, values: Sequence[str], run: bool) -> str:
        """An INSERT of entries up to the values that it selects."""
        into = self.into
        if run:
            into, values = self.into_run, [*values, "TRUE"]
            if self.postgres:
                # The column's default would be computed anew for each row.
                values.append(f"(SELECT {TRANSACTION_ID})")
        return f"{into} SELECT {', '.join(values)}"

    def insert_ahead(self, new: Mapping[Any, str], where: str, *, keep: bool, run: bool) -> str:
        """SQLite: the entries of an UPDATE that comes next: ``new`` is the SQL of its values, ``where`` its condition.

        Without ``new`` those of what it left as it was, behind it. Writes none where the table has triggers, which
        might change what the UPDATE leaves. Parameters: date, action, stamp, the UPDATE's, the table's name.
        """
        names = {field: f"m0.koherent_{place}" for place, field in enumerate(new)}
        values = ", ".join([f"{self.table}.*", *(f"{sql} AS koherent_{n}" for n, sql in enumerate(new.values()))])
        source = f"SELECT {values} FROM {self.table}{f' WHERE {where}' if where else ''}"
        schema = " UNION ALL ".join(f"SELECT type, tbl_name FROM sqlite{kind}_master" for kind in ("", "_temp"))
        triggers = f"SELECT 1 FROM ({schema}) WHERE type = 'trigger' AND tbl_name = %s COLLATE NOCASE"
        condition = f"NOT EXISTS ({triggers})"
        if not new:
            condition = f"{self._moved()} AND {condition}"
        elif not keep:
            changed = [f for f in self.tracked.fields if f in new]
            same = self._same(lambda f: f"m0.{quote(f.column)}", lambda f: names[f], changed)
            condition = f"NOT ({same}) AND {condition}"
        into = self._into_with([self._values(names), *self.marks], run)
        return f"{into} FROM ({source}) m0 WHERE {condition}"

    def is_of_one_row(self, sql: str) -> bool:
        """Whether this is the UPDATE of a ``save()``."""
        return sql.startswith(f"UPDATE {self.table} SET ") and sql.endswith(self._of_one_row)

    def update_with_entry(self, sql: str, keep: bool, begins: bool) -> str:
        """PostgreSQL: an UPDATE ``is_of_one_row()`` and its entry in one statement, which gives a row if it finds one.

        Parameters: the UPDATE's last one, its others, date, action, stamp; with ``begins`` those of
        ``begin_along()``. Gives the entry's history id, NULL where nothing moved.

        The entry compares with the row as it was when it was locked: the statement's snapshot may be older than that,
        so that it does not see the latest entry. Looking for one would take a fifth of the time besides.
        """
        shape = (sql, keep, begins)
        text = self._texts.get(shape)
        if text is None:
            pk: Any = self.tracked.model._meta.pk
            key, table = quote(pk.column), self.table
            update = f"{sql.removesuffix(self._of_one_row)} FROM was WHERE {table}.{key} = was.{key}"
            same = self._same(lambda f: f"was.{quote(f.column)}", lambda f: f"{table}.{quote(f.column)}")
            text = self._texts[shape] = (
                f"WITH was AS MATERIALIZED (SELECT * FROM {table} WHERE {key} = %s FOR NO KEY UPDATE), "
                f"m0 AS ({update} RETURNING {table}.*{'' if keep else f', {same} AS koherent_same'}), "
                f"entry AS ({self._entry_of_m0('' if keep else 'NOT m0.koherent_same')})"
                f"{f', begun AS ({begin_along()})' if begins else ''} "
                f"SELECT (SELECT history_id FROM entry) FROM m0"
            )
        return text

    def has_moved(self) -> str:
        """Gives a row if the object, whose key is the parameter, differs from its latest entry."""
        text = self._texts.get("moved")
        if text is None:
            where = f"{self.live_key} = %s AND {self._moved()}"
            text = self._texts["moved"] = f"SELECT 1 FROM {self._tables()} WHERE {where}"
        return text

    def update_and_begin(self, update: str, begin: str) -> str:
        """PostgreSQL: an UPDATE of one row that is locked, its entry where one is due, and ``begin``, in one statement.

        Parameters: the UPDATE's, date, action, stamp, those of ``begin``. Gives the entry's history id.
        """
        return (
            f"WITH m0 AS ({update} RETURNING {self.table}.*), entry AS ({self._entry_of_m0(self._moved())}), "
            f"begun AS ({begin}) SELECT history_id FROM entry"
        )

    def _entry_of_m0(self, condition: str) -> str:
        where = f" WHERE {condition}" if condition else ""
        return f"{self._into_with([self.values, *self.marks], run=False)} FROM m0{where} RETURNING history_id"

    def _several(self, count: int) -> str:
        return f"= ANY(%s::{self.pk_type}[])" if self.postgres else f"IN ({', '.join(['%s'] * count)})"

    def insert_new(self, count: int, above: bool, run: bool) -> str:
        """Entries ``"+"`` for those of the keys, and of the rows ``above`` a key, that have no live history."""
        which = []
        if count:
            which.append(f"{self.live_key} {self._several(count)}")
        if above:
            which.append(f"{self.live_key} > %s")
        alive = self._of_latest("l.history_type <> '-'")
        return (
            f"{self._into_with([self.values, *self.marks], run)} FROM {self._tables()} "
            f"WHERE ({' OR '.join(which)}) AND NOT COALESCE({alive}, FALSE) ORDER BY {self.live_key}{self._returning}"
        )

    def hold(self, going: bool) -> str:
        """PostgreSQL: lock the rows of some objects, in the order of their keys; parameters: ``keys()``.

        An object that is ``going`` is locked as its DELETE will; else as by an UPDATE that leaves the key alone, which
        does not wait for those who add links to it.
        """
        strength = "UPDATE" if going else "NO KEY UPDATE"
        which = f"{self.live_key} {self._several(0)}"
        return f"SELECT 1 FROM {self._tables()} WHERE {which} ORDER BY {self.live_key} FOR {strength}"

    def hold_links(self, m2m: M2MTracked) -> str:
        """PostgreSQL: lock the links of some objects, in the order of their keys; parameters: ``keys()``."""
        source, key = (quote(_link_column(m2m, name)) for name in (m2m.source_attname, m2m.through._meta.pk.attname))
        table = quote(m2m.through._meta.db_table)
        return f"SELECT 1 FROM {table} t WHERE t.{source} = ANY(%s::{self.pk_type}[]) ORDER BY t.{key} FOR UPDATE"

    def copy_links(self, m2m: M2MTracked, count: int) -> str:
        """Copy the live links of the owners of some entries; parameters: ``own_values()``, ``keys()`` of their ids."""
        columns = [quote(f.column) for f in m2m.through._meta.concrete_fields]
        own = self.own_link_fields[m2m.name]
        source = quote(_link_column(m2m, m2m.source_attname))
        which = "= ANY(%s::bigint[])" if self.postgres else f"IN ({', '.join(['%s'] * count)})"
        return (
            f"INSERT INTO {quote(m2m.history_model._meta.db_table)} "
            f"({', '.join([*columns, *(quote(f.column) for f in own), quote('history_id')])}) "
            f"SELECT {', '.join([*(f't.{column}' for column in columns), *self._link_marks[m2m.name]])}, h.history_id "
            f"FROM {quote(m2m.through._meta.db_table)} t JOIN {self.history} h ON h.{self.key} = t.{source} "
            f"WHERE h.history_id {which}"
        )

    def _column(self, model_field: Any) -> str:
        return str(self.tracked.history_model._meta.get_field(model_field.name).column)  # type: ignore[union-attr]

    def _ancestry(self) -> list[Any]:
        """The model and, for multi-table inheritance, its parents in the order of their joins."""
        concrete = {f.model for f in self.tracked.fields} - {self.tracked.model}
        return [self.tracked.model, *(p for p in self.tracked.model._meta.get_parent_list() if p in concrete)]

    def _alias(self, model_field: Any) -> str:
        return f"m{self.ancestry.index(model_field.model)}"

    def _tables(self) -> str:
        first, *parents = self.ancestry
        joins = [f"{quote(first._meta.db_table)} m0"]
        for number, parent in enumerate(parents, 1):
            key = f"m{number}.{quote(parent._meta.pk.column)}"
            joins.append(f"JOIN {quote(parent._meta.db_table)} m{number} ON {key} = {self._parent_key(parent)}")
        return " ".join(joins)

    def _parent_key(self, parent: Any) -> str:
        """Where the key of a parent stands in a joined table: the column of the link that leads to it."""
        link = self.tracked.model._meta.get_ancestor_link(parent)
        if link is None or link.model not in self.ancestry:
            return self.live_key
        return f"m{self.ancestry.index(link.model)}.{quote(link.column)}"

    def _dated_source(self, count: int) -> str:
        if self.postgres:
            types = f"%s::{self.pk_type}[], %s::{self.date_type}[], %s::{self.action_type}[]"
            return f"unnest({types}) v(key, date, action) JOIN {self._tables()} ON {self.live_key} = v.key"
        rows = ", ".join(["(%s, %s, %s)"] * count)
        # CROSS JOIN makes SQLite walk the rows in their order and look each object up by its key.
        named = f"SELECT column1 AS key, column2 AS date, column3 AS action FROM (VALUES {rows})"
        first, *rest = self._tables().split(" JOIN ", 1)
        joined = f"({named}) v CROSS JOIN {first} ON {self.live_key} = v.key"
        return " JOIN ".join([joined, *rest])

    def _of_latest(self, what: str) -> str:
        """What holds of each object's latest entry ``l``, by one index look-up a row; NULL for one without entries."""
        of_object = f"{self.history} l WHERE l.{self.key} = {self.live_key}"
        return f"(SELECT {what} FROM {of_object} ORDER BY l.history_id DESC LIMIT 1)"

    def _moved(self, *, links: bool = False) -> str:
        """Something differs from the latest entry."""
        values = self._same(lambda f: f"l.{quote(self._column(f))}", lambda f: f"{self._alias(f)}.{quote(f.column)}")
        links_same = map(self._same_links, self.tracked.m2m if links else ())
        latest = self._of_latest(" AND ".join(["l.history_type <> '-'", values, *links_same]))
        return f"NOT COALESCE({latest}, FALSE)"

    def _same(self, then: Callable[[Any], str], now: Callable[[Any], str], fields: Sequence[Any] | None = None) -> str:
        """No tracked value moved, or none of ``fields``; ``then`` and ``now`` name a field's column."""
        operator, same = "IS NOT DISTINCT FROM" if self.postgres else "IS", []
        for model_field in self.tracked.fields if fields is None else fields:
            # A save that moves nothing but its own time stamp is no change.
            if model_field is self.tracked.model._meta.pk or getattr(model_field, "auto_now", False):
                continue
            exactly = self._exactly[model_field]
            same.append(f"{then(model_field)}{exactly} {operator} {now(model_field)}{exactly}")
        return " AND ".join(same) or "TRUE"

    def _same_links(self, m2m: M2MTracked) -> str:
        """True when the links now are the links of the entry ``l``."""
        columns = ", ".join(quote(c) for c in m2m.link_columns)
        now = (
            f"SELECT {columns} FROM {quote(m2m.through._meta.db_table)} "
            f"WHERE {quote(_link_column(m2m, m2m.source_attname))} = {self.live_key}"
        )
        then = (
            f"SELECT {columns} FROM {quote(m2m.history_model._meta.db_table)} "
            f"WHERE {quote('history_id')} = l.history_id"
        )
        return f"NOT EXISTS ({now} EXCEPT {then}) AND NOT EXISTS ({then} EXCEPT {now})"


def _own_fields(history: Any, known: Sequence[str]) -> list[Any]:
    """Columns that the team's own bases bring: their defaults fill them, unless the database does."""
    return [
        f
        for f in history.concrete_fields
        if not (f.primary_key or f.generated or f.name in known or f.name == "history_relation")
        and f.db_default is NOT_PROVIDED
    ]


def _own_link_fields(m2m: M2MTracked) -> list[Any]:
    copied = [f.name for f in m2m.through._meta.concrete_fields]
    return _own_fields(m2m.history_model._meta, [*copied, "history"])


def _goes_as_it_is(field: Any) -> bool:
    """Whether the database takes the field's values as Python has them: texts and numbers of Django's own fields."""
    if type(field) is models.ForeignKey:
        return type(field.target_field) in (models.AutoField, models.BigAutoField)
    return type(field) in (models.CharField, models.TextField, models.BigIntegerField)


def own_values(fields: Sequence[Any], connection: BaseDatabaseWrapper) -> list[Any]:
    """The values of columns of the team's own, now."""
    return [f.get_db_prep_save(f.get_default(), connection) for f in fields]


def _link_column(m2m: M2MTracked, attname: str) -> str:
    return next(str(f.column) for f in m2m.through._meta.concrete_fields if f.attname == attname)


@lru_cache(maxsize=1_000)
def for_sqlite3(text: str) -> str:
    """A statement with the marks for parameters that Python's own module wants; Django looks for them each time."""
    return text.replace("%s", "?").replace("%%", "%")


def counts_keys(tracked: TrackedModel) -> bool:
    """True where the database hands out rising keys."""
    return isinstance(tracked.model._meta.pk, models.AutoField)
