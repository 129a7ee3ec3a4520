"""What a prune and an export hold in memory does not grow with the history. ``make deep`` runs this with a million."""

import gc
import os
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from example_schema.models import Project
from koherent import export
from koherent.retention import prune
from tests.retention.histories import days_ago

pytestmark = [pytest.mark.django_db, pytest.mark.timeout(3_600)]

ROWS = int(os.environ.get("RETENTION_ROWS", "20000"))
# Every value of an export is told to tracemalloc, which takes its time.
EXPORTED = ROWS if ROWS > 20_000 else 4_000
MEGABYTE = 2**20


def insert_rows(count: int) -> None:
    """Half of the entries are one object's, the others belong to objects with ten each; all are old."""
    history = Project.history.model
    numbers = (
        f"SELECT n FROM generate_series(1, {count}) AS g(n)"
        if connection.vendor == "postgresql"
        else f"WITH RECURSIVE g(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM g WHERE n < {count}) SELECT n FROM g"
    )
    date = history._meta.get_field("history_date").get_db_prep_value(days_ago(30), connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {history._meta.db_table} "
            "(id, name, description, history_date, history_type, metadata, origin) "
            "SELECT CASE n %% 2 WHEN 0 THEN 1 ELSE 2 + n / 20 END, 'version ' || n, 'what it is about', %s, '~', '{}', "
            f"'change' FROM ({numbers}) AS numbers",
            [date],
        )


@contextmanager
def ceiling(megabytes: float) -> Iterator[None]:
    """Fails when more than so much is held at any moment inside, above what was held before."""
    gc.collect()
    tracemalloc.start()
    try:
        start, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (peak - start) / MEGABYTE < megabytes


def test_a_prune_of_any_size_fits_in_the_same_memory() -> None:
    insert_rows(ROWS)
    objects = Project.history.values("id").distinct().count()
    with ceiling(12):
        report = prune(keep=0)
    assert report.entries == ROWS - objects
    assert Project.history.count() == objects


def test_a_prune_that_finds_nothing_fits_in_it_too() -> None:
    insert_rows(ROWS)
    with ceiling(12):
        assert prune(before=days_ago(40)).entries == 0


@pytest.mark.parametrize("form", [export.ndjson, export.table])
def test_an_export_of_any_size_fits_in_the_same_memory(form: Any) -> None:
    insert_rows(EXPORTED)
    with open(os.devnull, "w", encoding="utf-8") as out, ceiling(12):
        write, written = form(out), 0
        for entry in export.entries(export.unrestricted()):
            write(entry)
            written += 1
    assert written == EXPORTED
