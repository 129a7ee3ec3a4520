"""Runs: entries of one statement, whose index entries are those of one row (``Assignation``). How they are found.

Whatever asks for entries by what a run shares (``SHARED``) has to look in two places: among the entries that stand
alone, which have indexes of their own, and, by key, among those of the runs. Whoever asks by object or key has not.
"""

from functools import cache, reduce
from operator import or_
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, connections, models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.db.models.expressions import RawSQL

from koherent import registry
from koherent.beginnings import LONGEST
from koherent.errors import BadInput
from koherent.models import Assignation
from koherent.registry import TrackedModel
from koherent.statements import quote

#: The columns of history rows that the row of a run has, too, under the same names.
SHARED = ("history_date", "history_type", "app", "actor_id", "assignation_id")

EVERY = Q()

#: Others' entries between two runs are passed over, as long as there are no more: that is quicker than a statement.
_GAP = 1_000


def has_runs(connection: BaseDatabaseWrapper) -> bool:
    """Whether the rows of runs are in this database."""
    return _has_runs(connection.alias)


@cache
def _has_runs(using: str) -> bool:
    # Each save that begins an assignation asks, and Django goes through the routers anew each time.
    return router.allow_migrate_model(using, Assignation)


def _forget(*, setting: str, **_: object) -> None:
    if setting == "DATABASE_ROUTERS":
        _has_runs.cache_clear()


setting_changed.connect(_forget)


def runs_of(tracked: TrackedModel, using: str) -> "QuerySet[Assignation]":
    """The runs of a model."""
    runs = Assignation.objects.using(using).order_by()
    return runs.filter(model=tracked.label) if has_runs(connections[using]) else runs.none()


def runs_with_entry(tracked: TrackedModel, using: str, condition: Q = EVERY) -> Any:
    """The runs of a model for which ``condition`` holds, and the id of such an ``entry``, None where none is left."""
    within = {"history_id__gte": OuterRef("first_id"), "history_id__lte": OuterRef("last_id")}
    entries = tracked.history_model._base_manager.using(using).order_by().filter(condition, in_run=True, **within)
    return runs_of(tracked, using).filter(condition).annotate(entry=Subquery(entries.values("history_id")[:1]))


def exists(tracked: TrackedModel, using: str, condition: Q) -> bool:
    """Whether a model has an entry for which ``condition``, on columns of ``SHARED``, holds."""
    alone = tracked.history_model._base_manager.using(using).filter(condition, in_run=False)
    return alone.exists() or bool(runs_with_entry(tracked, using, condition).filter(entry__isnull=False).exists())


def ranges(tracked: TrackedModel, using: str, condition: Q) -> list[tuple[int, int]]:
    """The first and last ids of stretches of a model's history that hold all entries of the runs of ``condition``.

    Others' entries may be between them, so whoever walks a stretch has to ask for the same condition.
    """
    found: list[tuple[int, int]] = []
    runs: Any = runs_of(tracked, using).filter(condition).order_by("first_id").values_list("first_id", "last_id")
    for first, last in runs.iterator():
        if found and first - found[-1][1] <= _GAP:
            first, _ = found.pop()
        found.append((first, last))
    return found


def entries_where(model: type[models.Model], condition: Q, using: str = DEFAULT_DB_ALIAS) -> "QuerySet[models.Model]":
    """The rows of a tracked model's history for which ``condition``, on columns of ``SHARED``, holds: from indexes.

    A queryset like any other, for trusted code: no policy is asked. Raises ``BadInput`` for a model without history.
    """
    tracked = registry.for_model(model)
    if tracked is None:
        raise BadInput(f"{model._meta.label} has no HistoryField.")
    rows = tracked.history_model._default_manager.using(using)
    return rows.filter(having(tracked, using, condition))


def having(tracked: TrackedModel, using: str, condition: Q, *others: Q) -> Q:
    """The entries of a model for which ``condition``, on columns of ``SHARED``, holds: the same, but from indexes.

    And those of any of ``others``, which have an index for entries in runs, too: an ``OR`` would make it be read.
    """
    history = tracked.history_model
    entries = history._base_manager.using(using).order_by().values_list("history_id")
    runs = runs_of(tracked, using).filter(condition).values_list("first_id", "last_id")
    parts, params = list[str](), list[Any]()
    for rows, wrapped in (
        (entries.filter(condition, in_run=False), "{}"),
        (runs, _entries_of(history, connections[using].vendor)),
        *((entries.filter(other), "{}") for other in others),
    ):
        try:
            sql, some = rows.query.get_compiler(using=using).as_sql()
        except EmptyResultSet:
            continue
        parts.append(wrapped.format(sql))
        params += some
    # What was updated by hand says otherwise than its run.
    said = reduce(or_, others, condition)
    return said & Q(history_id__in=RawSQL(" UNION ALL ".join(parts), params)) if parts else Q(pk__in=[])


def _entries_of(history: Any, vendor: str) -> str:
    table = quote(history._meta.db_table)
    within = "history_id BETWEEN koherent_run.first_id AND koherent_run.last_id"
    if vendor == "postgresql":
        # No run has more; PostgreSQL would expect 0.5 % of the table.
        entries = f"SELECT e.history_id FROM {table} e WHERE e.{within} AND e.in_run LIMIT {LONGEST}"
        return f"SELECT e.history_id FROM ({{}}) koherent_run CROSS JOIN LATERAL ({entries}) e"
    # CROSS JOIN keeps SQLite from looking for the run of each entry.
    return f"SELECT e.history_id FROM ({{}}) koherent_run CROSS JOIN {table} e WHERE e.{within} AND e.in_run"
