"""Histories of any size in seconds: entries made inside the database, by INSERT ... SELECT.

Entry ``n`` of a model is version ``n / objects`` of object ``n % objects``, so that the newest page shows as many
objects as it has entries, and each one's entry before is a long way back. One more sample has a long history,
spread over the same time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import connection, models, transaction

#: Entries of each object; those of the sample with the long history come on top.
VERSIONS = 20
LONG = 50_000
#: One entry in so many is by the account that hardly ever acts.
RARE = 200
START = "2026-01-01 00:00:00"


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A run of entries of one model, as SQL expressions over the entry's number ``n``."""

    index: int
    model: type[models.Model]
    count: int
    pk: str
    version: str
    #: Seconds from ``START``.
    second: str
    action: str

    @property
    def date(self) -> str:
        """When; the models take turns."""
        return moment(self.second)

    @property
    def unit(self) -> str:
        """The number of the unit of work: ten entries of each model have the same."""
        return "(n / 10)"

    @property
    def values(self) -> dict[str, str]:
        """The model's own columns. From version to version, quantity and note change."""
        columns = {
            "id": self.pk,
            "name": f"'object ' || {self.pk}",
            "status": "'new'",
            "quantity": self.version,
            "weight": "1.25",
            "active": "FALSE",
            "measured_at": moment("0"),
            "note": f"'note ' || {self.version}",
            "sample_id": "1",
        }
        return {column: sql for column, sql in columns.items() if column in _columns(self.model)}


def slices(entries: int, index: int, model: type[models.Model]) -> list[Slice]:
    """A model's share of ``entries``; the first model's long history comes before it."""
    found = []
    count = max(entries // 5, VERSIONS)
    objects = max(count // VERSIONS, 1)
    if index == 0:
        long = min(LONG, count)
        found.append(
            Slice(
                index=index,
                model=model,
                count=long,
                pk=str(objects + 1),
                version="n",
                second=f"(n * {count * 5 // long})",
                action="CASE WHEN n = 0 THEN '+' ELSE '~' END",
            )
        )
    found.append(
        Slice(
            index=index,
            model=model,
            count=count,
            pk=f"(n % {objects} + 1)",
            version=f"(n / {objects})",
            second=f"(n * 5 + {index})",
            action=f"CASE WHEN n < {objects} THEN '+' ELSE '~' END",
        )
    )
    return found


def long_key(entries: int) -> int:
    """The key of the sample with the long history."""
    return max(max(entries // 5, VERSIONS) // VERSIONS, 1) + 1


def moment(seconds: str) -> str:
    """``START`` and so many seconds."""
    if connection.vendor == "postgresql":
        return f"(TIMESTAMPTZ '{START}+00' + {seconds} * INTERVAL '1 second')"
    return f"datetime('{START}', {seconds} || ' seconds')"


def json(text: str) -> str:
    """A text expression as a JSON column's value."""
    return f"CAST({text} AS jsonb)" if connection.vendor == "postgresql" else text


def user_key(users: list[int]) -> str:
    """Who acted: the accounts in turn, and the last of them once in ``RARE`` entries."""
    *common, rare = users
    turns = " ".join(f"WHEN {number} THEN {key}" for number, key in enumerate(common))
    return f"CASE WHEN n % {RARE} = 17 THEN {rare} ELSE CASE n % {len(common)} {turns} END END"


def insert(model: type[models.Model], count: int, columns: Mapping[str, str]) -> None:
    """Insert ``count`` rows; columns that are not given take their default."""
    given = dict(columns)
    for field in model._meta.concrete_fields:
        column, default = str(field.column), getattr(field, "default", models.NOT_PROVIDED)
        by_database = getattr(field, "db_default", models.NOT_PROVIDED) is not models.NOT_PROVIDED
        if column in given or field.null or by_database or isinstance(field, models.AutoField):
            continue
        if default is models.NOT_PROVIDED:
            raise ValueError(f"{model._meta.label}.{field.name} needs a value")
        given[column] = _literal(default() if callable(default) else default)
    names = ", ".join(connection.ops.quote_name(column) for column in given)
    numbers = f"generate_series(0, {count - 1}) AS numbers(n)"
    prefix = ""
    if connection.vendor == "sqlite":
        prefix = f"WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {count - 1}) "
        numbers = "numbers"
    with transaction.atomic(), connection.cursor() as cursor:
        table = connection.ops.quote_name(model._meta.db_table)
        sql = f"{prefix}INSERT INTO {table} ({names}) SELECT {', '.join(given.values())} FROM {numbers}"
        cursor.execute(sql.replace("%", "%%"), [])


def objects(entries: int, index: int, model: type[models.Model]) -> None:
    """The live rows that the entries are about."""
    for part in slices(entries, index, model):
        live = max(entries // 5, VERSIONS) // VERSIONS if "%" in part.pk else 1
        last = {"quantity": "0", "note": "'now'"}
        columns = {**part.values, **{name: sql for name, sql in last.items() if name in part.values}}
        insert(model, max(live, 1), columns)


def _columns(model: type[models.Model]) -> set[str]:
    return {str(field.column) for field in model._meta.concrete_fields}


def _literal(value: Any) -> str:
    if value == {}:
        return "'{}'"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | float):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
