"""Finding entries: keyset searches over many tables, or for many objects of one, in one statement."""

import datetime as dt
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models import BigIntegerField, OuterRef, QuerySet, Subquery
from django.db.models.expressions import RawSQL

from koherent.beginnings import LONGEST
from koherent.models import Assignation
from koherent.policy import Entries, Scope
from koherent.registry import TrackedModel

#: The columns of browsing order within one model.
KEY = ("history_date", "history_id")


class Columns:
    """A history row's columns as attributes with Python values: a row without what makes it an instance of a model."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__ = values

    def row(self, tracked: TrackedModel) -> models.Model:
        """The instance."""
        return tracked.history_model.from_db(DEFAULT_DB_ALIAS, list(self.__dict__), list(self.__dict__.values()))


class Found(NamedTuple):
    """An entry found by a search, and for an update the entry before of the same object among the visible ones."""

    tracked: TrackedModel
    history_id: int
    before: int | None
    #: The columns of the history row, where the search read them.
    columns: "Columns | None" = None

    @property
    def key(self) -> tuple[TrackedModel, int]:
        """What identifies the entry."""
        return self.tracked, self.history_id


class Search(NamedTuple):
    """A part of a search. ``rows`` are visible entries of a model, filtered; no row may be in two parts.

    ``runs``: the runs that have such entries; None where ``rows`` are found by object or key, whether in a run or not.
    """

    tracked: TrackedModel
    rows: Entries
    runs: "QuerySet[Assignation] | None" = None


def parts_of(search: Search, *, limit: int | None = None, newest_first: bool = True) -> Iterator[tuple[str, list[Any]]]:
    """The statements that give ``KEY`` of a search's entries, each of some, at most ``limit``, the first in order."""
    rows = search.rows if search.runs is None else search.rows.filter(in_run=False)
    # What can match nothing has no statement.
    with suppress(EmptyResultSet):
        yield compiled(_ordered(rows, limit, newest_first).values_list(*KEY))
    if search.runs is not None:
        with suppress(EmptyResultSet):
            yield _in_runs(search.tracked, search.rows.filter(in_run=True), search.runs, limit, newest_first)


def _in_runs(
    tracked: TrackedModel, rows: Entries, runs: "QuerySet[Assignation]", limit: int | None, newest_first: bool
) -> tuple[str, list[Any]]:
    """The statement of those entries that are in ``runs``. Raises ``EmptyResultSet``.

    Runs do not overlap: in their order each one's entries are in browsing order, and no more are read than are wanted.
    """
    found, params = compiled(runs.values_list("id", "history_date", "first_id", "last_id"))
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "sqlite":
        # No LATERAL here. CROSS JOIN keeps the runs outermost.
        table = connection.ops.quote_name(tracked.history_model._meta.db_table)
        visible, some = compiled(rows.filter(history_id=RawSQL("e.history_id", ())).values_list("history_id"))
        source = f"CROSS JOIN {table} AS e ON e.history_id BETWEEN koherent_run.first_id AND koherent_run.last_id"
        source += f" WHERE EXISTS ({visible})"
    else:
        within = rows.filter(
            history_id__gte=RawSQL("koherent_run.first_id", ()), history_id__lte=RawSQL("koherent_run.last_id", ())
        ).order_by("-history_id" if newest_first else "history_id")
        most = LONGEST if limit is None else min(limit, LONGEST)
        entries, some = compiled(within.values_list(*KEY)[:most])
        source = f"CROSS JOIN LATERAL ({entries}) AS e"
    sql = f"SELECT e.history_date, e.history_id FROM ({found}) AS koherent_run {source}"
    if limit is not None:
        direction = "DESC" if newest_first else "ASC"
        # With its key a run is one row also to SQLite, which then sorts none of its entries.
        order = ("koherent_run.history_date", "koherent_run.first_id", "koherent_run.id", "e.history_id")
        sql += f" ORDER BY {', '.join(f'{column} {direction}' for column in order)} LIMIT {limit:d}"
    return sql, [*params, *some]


def find(
    scope: Scope,
    searches: Sequence[Search],
    *,
    limit: int | None = None,
    newest_first: bool = True,
    neighbours: bool = True,
) -> list[Found]:
    """The keys of the first ``limit`` entries in browsing order (or its reverse), over all models in one statement.

    ``neighbours``: also find the entry before each update.
    """
    # The place of the label stands for the label: a database's collation may order text its own way.
    ranked = sorted({search.tracked for search in searches}, key=lambda tracked: tracked.label)
    branches, params = [], list[Any]()
    for search in searches:
        rank = ranked.index(search.tracked)
        for sql, some in parts_of(search, limit=limit, newest_first=newest_first):
            branches.append(f"SELECT b.history_date, {rank} AS label_rank, b.history_id FROM ({sql}) AS b")
            params += some
    if not branches:
        return []
    direction = "DESC" if newest_first else "ASC"
    statement = " UNION ALL ".join(branches) + f" ORDER BY 1 {direction}, 2 {direction}, 3 {direction}"
    if limit is not None:
        statement += f" LIMIT {limit:d}"
    rows_found = _with_neighbours(scope, ranked if neighbours else (), statement, params, direction)
    return [Found(ranked[rank], history_id, before) for rank, history_id, before in rows_found]


def find_rows(
    scope: Scope, searches: Sequence[Search], *, limit: int, newest_first: bool = True, neighbours: bool = True
) -> list[Found]:
    """As ``find()``, and where one part is all there is to search, with the rows, which then need no statement."""
    if len(searches) != 1:
        return find(scope, searches, limit=limit, newest_first=newest_first, neighbours=neighbours)
    (search,) = searches
    tracked, rows = search.tracked, search.rows
    try:
        sql, params = compiled(_ordered(_whole(_as_one(search, limit, newest_first)), limit, newest_first))
    except EmptyResultSet:
        return []
    before, before_params = _entry_before_row(scope, tracked) if neighbours else ("NULL", ())
    direction = "DESC" if newest_first else "ASC"
    # The entries before are looked up for the rows within the limit only: no database is asked to see that itself.
    statement = (
        f"SELECT koherent_page.*, {before} AS koherent_before FROM ({sql}) AS koherent_page "
        f"ORDER BY koherent_page.history_date {direction}, koherent_page.history_id {direction}"
    )
    connection = connections[DEFAULT_DB_ALIAS]
    with connection.cursor() as cursor:
        cursor.execute(statement, [*before_params, *params])
        named = [column[0] for column in cursor.description]
        fetched: Iterable[Any] = cursor.fetchall()
    # The columns of the query itself come first; a policy may have added some, which nobody asks for.
    fields: Any = tracked.history_model._meta.concrete_fields
    places = [named.index(field.column) for field in fields]
    compiler: Any = connection.ops.compiler("SQLCompiler")(rows.query, connection, DEFAULT_DB_ALIAS)
    own = [field.get_col(field.model._meta.db_table) for field in fields]
    converters = compiler.get_converters(own)
    if places != list(range(len(places))):
        fetched = ([*(row[place] for place in places), row[-1]] for row in fetched)
    if converters:
        fetched = compiler.apply_converters(fetched, converters)
    names = [field.attname for field in fields]
    found = []
    for row in fetched:
        columns = Columns(dict(zip(names, row, strict=False)))
        found.append(Found(tracked, columns.history_id, row[-1], columns))  # type: ignore[attr-defined]
    return found


def _as_one(search: Search, limit: int, newest_first: bool) -> Entries:
    """The entries of a search, found alone and in runs; no more than are within the limit."""
    if search.runs is None:
        return search.rows
    parts = list(parts_of(search, limit=limit, newest_first=newest_first))
    params = [value for _, some in parts for value in some]
    both = first_of([sql for sql, _ in parts], KEY, limit, newest_first)
    return search.rows.filter(history_id__in=RawSQL(f"SELECT b.history_id FROM ({both}) AS b", params))


def first_of(parts: Sequence[str], columns: Sequence[str], limit: int, newest_first: bool) -> str:
    """The first rows of several statements, by their columns."""
    direction = "DESC" if newest_first else "ASC"
    each = " UNION ALL ".join(f"SELECT {', '.join(f'p.{c}' for c in columns)} FROM ({sql}) AS p" for sql in parts)
    order = ", ".join(f"{place} {direction}" for place in range(1, len(columns) + 1))
    return f"{each} ORDER BY {order} LIMIT {limit:d}"


def _whole(rows: Entries) -> Entries:
    """Rows with all their columns, and no others' but those that an annotation adds."""
    plain = not rows.query.select_related and not rows.query.deferred_loading[0]
    return rows if plain else rows.select_related(None).defer(None)


class FoundFor(NamedTuple):
    """An entry found for one of many parents, ``place`` being the parent's place among them."""

    place: int
    date: dt.datetime
    found: Found


def find_each(
    scope: Scope,
    tracked: TrackedModel,
    column: str,
    keys: Sequence[Any],
    searches: Sequence[Search],
    *,
    limit: int,
    newest_first: bool = True,
    neighbours: bool = True,
) -> list[FoundFor]:
    """For each of ``keys`` the first ``limit`` entries of a model whose ``column`` is that key, in browsing order.

    One statement whatever the number of keys. Each key's entries are read from the index up to the limit; how many
    there are besides does not matter. ``column`` is an attribute of history rows.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    branches, params = [], list[Any]()
    own = {column: RawSQL("koherent_parent.pk", ())}
    for search in searches:
        runs = None if search.runs is None else search.runs.filter(**own)
        for sql, some in parts_of(
            Search(tracked, search.rows.filter(**own), runs), limit=limit, newest_first=newest_first
        ):
            branches.append(sql)
            params += some
    if not branches or not keys:
        return []
    direction = "DESC" if newest_first else "ASC"
    entries = first_of(branches, KEY, limit, newest_first)
    before, before_params = "NULL", list[Any]()
    if neighbours:
        before, before_params = entry_before(scope, tracked)
    fields: Any = tracked.history_model._meta.concrete_fields
    source, values = parents_of(keys, connection, next(f for f in fields if f.attname == column))
    if connection.vendor == "sqlite":
        # No LATERAL here. CROSS JOIN keeps the parents outermost, so that each asks for its own few ids.
        table = connection.ops.quote_name(tracked.history_model._meta.db_table)
        source += (
            f" CROSS JOIN {table} AS koherent_page "
            f"WHERE koherent_page.history_id IN (SELECT e.history_id FROM ({entries}) AS e)"
        )
    else:
        source += f" CROSS JOIN LATERAL ({entries}) AS koherent_page"
    statement = (
        f"SELECT koherent_parent.place, koherent_page.history_date, koherent_page.history_id, ({before}) FROM {source} "
        f"ORDER BY 1, 2 {direction}, 3 {direction}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [*before_params, *values, *params])
        rows_found = cursor.fetchall()
    return [FoundFor(place, date, Found(tracked, id, earlier)) for place, date, id, earlier in rows_found]


def parents_of(keys: Sequence[Any], connection: Any, field: Any = None) -> tuple[str, list[Any]]:
    """Keys as a table ``koherent_parent(place, pk)``, and its parameters; the keys are text, or those of ``field``."""
    placeholder = "%s"
    if connection.vendor != "sqlite":
        placeholder = f"CAST(%s AS {'text' if field is None else field.cast_db_type(connection)})"
    values = list(keys) if field is None else [field.get_db_prep_value(key, connection) for key in keys]
    rows = ", ".join(f"({place}, {placeholder})" for place in range(len(values)))
    return f"(SELECT column1 AS place, column2 AS pk FROM (VALUES {rows}) AS v) AS koherent_parent", values


def _ordered(rows: Entries, limit: int | None, newest_first: bool) -> Entries:
    if limit is None:
        # Without a limit the order is the outer statement's business alone.
        return rows.order_by()
    return rows.order_by(*(("-history_date", "-history_id") if newest_first else ("history_date", "history_id")))[
        :limit
    ]


def _with_neighbours(
    scope: Scope, ranked: Sequence[TrackedModel], statement: str, params: Sequence[Any], direction: str
) -> list[tuple[int, int, int | None]]:
    """(rank, history id, the entry before) of a statement's rows, in its order."""
    before, before_params = "NULL", []
    if ranked:
        cases = []
        for rank, tracked in enumerate(ranked):
            sql, some = entry_before(scope, tracked)
            cases.append(f"WHEN {rank} THEN ({sql})")
            before_params += some
        before = f"CASE koherent_page.label_rank {' '.join(cases)} END"
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(
            f"SELECT label_rank, history_id, {before} FROM ({statement}) AS koherent_page "
            f"ORDER BY history_date {direction}, label_rank {direction}, history_id {direction}",
            [*before_params, *params],
        )
        found: list[tuple[int, int, int | None]] = cursor.fetchall()
    return found


def entry_before(scope: Scope, tracked: TrackedModel) -> tuple[str, list[Any]]:
    """A subquery for the id of the visible entry before the update at hand, ``koherent_page.history_id``."""
    if scope.hides_rows:
        return _entry_before(tracked, scope.entries(tracked))
    sql, params = _plain_entry_before(tracked)
    return sql, list(params)


@cache
def _plain_entry_before(tracked: TrackedModel) -> tuple[str, list[Any]]:
    """The same for a policy that hides no rows: making it takes longer than running it."""
    return _entry_before(tracked, tracked.history_model._default_manager.using(DEFAULT_DB_ALIAS).order_by())


def _entry_before(tracked: TrackedModel, visible: Entries) -> tuple[str, list[Any]]:
    earlier = visible.filter(
        **{tracked.pk_attname: OuterRef(tracked.pk_attname)}, history_id__lt=OuterRef("history_id")
    )
    own = tracked.history_model._default_manager.using(DEFAULT_DB_ALIAS).order_by()
    page_id = RawSQL("koherent_page.history_id", (), output_field=BigIntegerField())
    update = own.filter(history_id=page_id, history_type="~")
    return compiled(update.values_list(Subquery(earlier.order_by("-history_id").values("history_id")[:1])))


def _entry_before_row(scope: Scope, tracked: TrackedModel) -> tuple[str, Sequence[Any]]:
    """As ``entry_before()``, where ``koherent_page`` has all columns of the row at hand."""
    if scope.hides_rows:
        return _make_entry_before_row(tracked, scope.entries(tracked))
    return _plain_entry_before_row(tracked)


@cache
def _plain_entry_before_row(tracked: TrackedModel) -> tuple[str, Sequence[Any]]:
    return _make_entry_before_row(tracked, tracked.history_model._default_manager.using(DEFAULT_DB_ALIAS).order_by())


def _make_entry_before_row(tracked: TrackedModel, visible: Entries) -> tuple[str, Sequence[Any]]:
    fields: Any = tracked.history_model._meta.concrete_fields
    column = next(f.column for f in fields if f.attname == tracked.pk_attname)
    own = connections[DEFAULT_DB_ALIAS].ops.quote_name(column)
    earlier = visible.filter(
        **{tracked.pk_attname: RawSQL(f"koherent_page.{own}", ())},
        history_id__lt=RawSQL("koherent_page.history_id", ()),
    )
    sql, params = compiled(earlier.order_by("-history_id").values_list("history_id")[:1])
    return f"CASE WHEN koherent_page.history_type = '~' THEN ({sql}) END", tuple(params)


def compiled(rows: Any, using: str = DEFAULT_DB_ALIAS) -> tuple[str, list[Any]]:
    """The SQL of a queryset and its parameters; raises ``EmptyResultSet`` for one that can match nothing."""
    sql, params = rows.query.get_compiler(using=using).as_sql()
    return sql, list(params)
