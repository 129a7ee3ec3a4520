"""All tracked rows as they are and as the trail tells them, read raw: quick enough to look after every statement."""

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.db import connections, router

from koherent.models import Assignation
from tests.wide.trail import history_of, link_columns, live_of, watched

Rows = dict[tuple[str, Any], list[Any]]


@dataclass(frozen=True)
class Snapshot:
    """``live`` and ``recorded`` are equal where the trail tells the truth. Time stamps by ``auto_now`` are left out."""

    live: Rows
    recorded: Rows
    entries: int
    assignations: int
    #: (label, history id) of the entries that say they are in a run, and of those that the runs say they have.
    in_runs: frozenset[tuple[str, int]]
    of_runs: frozenset[tuple[str, int]]


@dataclass(frozen=True)
class _Query:
    """A statement without parameters, compiled once."""

    alias: str
    sql: str

    def rows(self) -> list[Any]:
        with connections[self.alias].cursor() as cursor:
            cursor.execute(self.sql)
            return list(cursor.fetchall())


def _query(queryset: Any, *names: str) -> _Query:
    compiler = queryset.values_list(*names).query.get_compiler(queryset.db)
    sql, params = compiler.as_sql()
    assert params == ()
    return _Query(queryset.db, sql)


@cache
def _queries() -> list[tuple[str, _Query, _Query, list[tuple[_Query, _Query]]]]:
    found = []
    for tracked in watched():
        names = [f.attname for f in tracked.fields if not getattr(f, "auto_now", False)]
        names.remove(tracked.pk_attname)
        links = []
        for m2m in tracked.m2m:
            others = link_columns(m2m)
            then = m2m.history_model._base_manager.order_by()
            now = m2m.through._base_manager.order_by()
            links.append((_query(now, m2m.source_attname, *others), _query(then, "history_id", *others)))
        live = _query(live_of(tracked).order_by(), tracked.pk_attname, *names)
        history = history_of(tracked).order_by("history_id")
        told = _query(history, "history_id", "in_run", "history_type", tracked.pk_attname, *names)
        found.append((tracked.label, live, told, links))
    return found


def snapshot() -> Snapshot:
    """What the database holds now."""
    live: Rows = {}
    recorded: Rows = {}
    entries = 0
    in_runs: set[tuple[str, int]] = set()
    for label, now, told, links in _queries():
        pairs = [(_links(now_links), _links(then_links)) for now_links, then_links in links]
        for key, *values in now.rows():
            live[label, key] = [*values, *(owners[key] for owners, _ in pairs)]
        for id, in_run, action, key, *values in told.rows():
            entries += 1
            if in_run:
                in_runs.add((label, id))
            recorded[label, key] = [*values, *(owners[id] for _, owners in pairs)]
            if action == "-":
                del recorded[label, key]
    assignations, of_runs = 0, list[tuple[str, int]]()
    for row in Assignation.objects.using(router.db_for_read(Assignation)):
        assignations += row.assignation_id is not None
        if row.model is not None and row.first_id is not None and row.last_id is not None:
            of_runs += [(row.model, id) for id in range(row.first_id, row.last_id + 1)]
    # An entry in two runs is in none as it should be.
    once = frozenset(key for key, count in Counter(of_runs).items() if count == 1)
    return Snapshot(live, recorded, entries, assignations, frozenset(in_runs), once)


def _links(query: _Query) -> dict[Any, set[Any]]:
    owners: dict[Any, set[Any]] = defaultdict(set)
    for owner, *link in query.rows():
        owners[owner].add(tuple(link))
    return owners
