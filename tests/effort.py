"""How much a database has to do for a reading, in its own measure: independent of the machine and its load."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext


def effort(run: Callable[[], Any]) -> int:
    """The rows that the plan's nodes of all statements looked at (PostgreSQL), or the steps of SQLite's machine."""
    if connection.vendor == "sqlite":
        return _steps(run)
    with CaptureQueriesContext(connection) as captured:
        run()
    return sum(plan(query["sql"])[2] for query in captured if query["sql"].startswith(("SELECT", "WITH")))


def _steps(run: Callable[[], Any]) -> int:
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection.ensure_connection()
    connection.connection.set_progress_handler(step, 1)
    try:
        run()
    finally:
        connection.connection.set_progress_handler(None, 1)
    return steps


def plan(statement: str) -> tuple[set[str], set[str], int]:
    """PostgreSQL: the indexes that a statement used, the tables it read from end to end, and the rows looked at."""
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.replace('%', '%%')}", [])
        [answer] = cursor.fetchone()
    root = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    indexes, tables, rows = set(), set(), 0
    for node in _scans(root):
        looked_at = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        rows += round(looked_at * node["Actual Loops"])
        if node["Node Type"] == "Seq Scan":
            tables.add(node["Relation Name"])
        elif "Index Name" in node and node["Actual Loops"]:
            indexes.add(node["Index Name"].rpartition("_")[2])
    return indexes, tables, rows


def _scans(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table or an index."""
    if "Scan" in node["Node Type"] and ("Relation Name" in node or "Index Name" in node):
        yield node
    for child in node.get("Plans", ()):
        yield from _scans(child)
