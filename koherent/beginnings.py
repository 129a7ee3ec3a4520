"""The SQL that writes rows of ``koherent_assignation``: beginnings of assignations, and runs of entries."""

from functools import cache, lru_cache

from koherent.models import TRANSACTION_ID, Assignation

#: What the row of a run knows besides its ids, in the order of the parameters.
RUN = ("assignation_id", "started_at", "history_date", "history_type", "app", "actor_id", "model")
RUN_DATES = ("started_at", "history_date")
#: The most entries of a run: a page that begins within one passes over those before it.
LONGEST = 1_000
_TABLE = f'"{Assignation._meta.db_table}"'


@cache
def begin_assignation(*links: str) -> str:
    """The row of an assignation; parameters: id, now, those of the columns ``links``. Nobody looks for another one."""
    columns = ["assignation_id", "started_at", *links]
    marks = ", ".join(["%s"] * len(columns))
    return f"INSERT INTO {_TABLE} ({', '.join(columns)}) VALUES ({marks})"


@cache
def begin_along() -> str:
    """PostgreSQL: the same without links, in a statement whose ``entry`` gives the entries that are written, if any."""
    values = "SELECT CAST(%s AS varchar), CAST(%s AS timestamptz) FROM entry LIMIT 1"
    return f"INSERT INTO {_TABLE} (assignation_id, started_at) {values}"


@lru_cache(maxsize=100)
def begin_runs(count: int) -> str:
    """SQLite: the rows of runs; parameters: ``RUN``, and of each its first and last id."""
    columns, marks = ", ".join([*RUN, "first_id", "last_id"]), ", ".join(["%s"] * len(RUN))
    ids = ", ".join(["(%s, %s)"] * count)
    return f"INSERT INTO {_TABLE} ({columns}) SELECT {marks}, * FROM (VALUES {ids})"


def with_beginning(text: str) -> str:
    """PostgreSQL: an INSERT of entries along with the row of their assignation, whose parameters come last."""
    return f"WITH entry AS ({text}), begun AS ({begin_along()}) SELECT history_id FROM entry"


def with_run(text: str) -> str:
    """PostgreSQL: an INSERT of entries ``in_run`` along with the rows of their runs; parameters: its, ``RUN``.

    Gives the first and the last id of each run: ids that others took meanwhile part it, and so does ``LONGEST``.
    """
    one = f"n = last - first + 1 AND n <= {LONGEST}"
    whole = "SELECT MIN(history_id) AS first, MAX(history_id) AS last, COUNT(*) AS n FROM entry"
    # Only where it takes more than one run its entries are numbered.
    ids = (
        f"SELECT history_id, ROW_NUMBER() OVER (ORDER BY history_id) AS place FROM entry "
        f"WHERE (SELECT NOT ({one}) FROM whole)"
    )
    parts = (
        f"SELECT first, last FROM whole WHERE {one} UNION ALL SELECT MIN(history_id), MAX(history_id) "
        f"FROM ({ids}) ids GROUP BY history_id - place, (place - 1) / {LONGEST}"
    )
    marks = ["CAST(%s AS timestamptz)" if name in RUN_DATES else "CAST(%s AS varchar)" for name in RUN]
    run = (
        f"INSERT INTO {_TABLE} ({', '.join(RUN)}, position, first_id, last_id) "
        f"SELECT {', '.join(marks)}, {TRANSACTION_ID}, first, last FROM ({parts}) parts ORDER BY first"
    )
    return f"WITH entry AS ({text}), whole AS ({whole}) {run} RETURNING first_id, last_id"
