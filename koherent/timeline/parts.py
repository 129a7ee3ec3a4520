"""What an assignation consists of, read from indexes: its size does not matter."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import DateTimeField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce

from koherent.models import Assignation
from koherent.policy import Entries, Scope
from koherent.registry import TrackedModel
from koherent.runs import runs_of
from koherent.statements import quote
from koherent.timeline.search import Search, compiled, first_of, parents_of, parts_of

Span = tuple[dt.datetime, dt.datetime]


def spans(scope: Scope, ids: Sequence[str]) -> dict[str, dict[TrackedModel, Span]]:
    """For each assignation with visible entries, the models that it changed, with the times of their first and last.

    One statement, that looks up two index entries for each assignation and model, and two of runs.
    """
    found: dict[str, dict[TrackedModel, Span]] = {}
    if not ids:
        return found
    columns, params = [], list[Any]()
    for tracked in scope.models:
        search = _of_assignation(scope, tracked, "koherent_parent.pk")
        for newest_first in (False, True):
            each = list(parts_of(search, limit=1, newest_first=newest_first))
            first = first_of([sql for sql, _ in each], ("history_date",), 1, newest_first) if each else "SELECT NULL"
            columns.append(f"({first})")
            params += [value for _, some in each for value in some]
    source, keys = parents_of(ids, connections[DEFAULT_DB_ALIAS])
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(f"SELECT koherent_parent.place, {', '.join(columns)} FROM {source}", [*params, *keys])
        for place, *times in cursor.fetchall():
            pairs = zip(times[::2], times[1::2], strict=True)
            of_models = {
                tracked: (_moment(first), _moment(last))
                for tracked, (first, last) in zip(scope.models, pairs, strict=True)
                if first is not None
            }
            if of_models:
                found[ids[place]] = of_models
    return found


def _of_assignation(scope: Scope, tracked: TrackedModel, id: str) -> Search:
    """The entries of the assignation whose id the SQL of ``id`` gives."""
    own = {"assignation_id": RawSQL(id, ())}
    return Search(tracked, scope.entries(tracked).filter(**own), runs_of(tracked, DEFAULT_DB_ALIAS).filter(**own))


def participants(scope: Scope, ids: Sequence[str]) -> dict[str, tuple[dict[str, str], set[str]]]:
    """For each assignation the users (key -> name in one of its entries) and the apps of its visible entries.

    One statement a model, that hops from one user and app to the next in the index, whatever the number of entries, and
    reads the index entries of its runs.
    """
    found: dict[str, tuple[dict[str, str], set[str]]] = {id: ({}, set()) for id in ids}
    if not ids:
        return found
    for tracked in scope.models:
        try:
            (statement, params), (of_runs, some) = _hops(scope, tracked, ids), _of_runs(scope, tracked, ids)
        except EmptyResultSet:
            # The policy hides all of the model's entries.
            continue
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(f"{statement} UNION ALL {of_runs}", [*params, *some])
            for place, actor, name, app in cursor.fetchall():
                names, apps = found[ids[place]]
                if actor is not None:
                    names[actor] = name or ""
                if app is not None:
                    apps.add(app)
    return found


def _hops(scope: Scope, tracked: TrackedModel, ids: Sequence[str]) -> tuple[str, list[Any]]:
    """A statement that gives (place, user, name, app), each once for the users and once for the apps of each user."""
    params: list[Any] = []

    def first(column: str, where: dict[str, Any], above: str | None = None) -> str:
        """The least value of a column, or the least above another one, as a subquery."""
        rows: Entries = scope.entries(tracked).filter(**where, **{f"{column}__isnull": False}, in_run=False)
        if above is not None:
            rows = rows.filter(**{f"{column}__gt": RawSQL(above, ())})
        # In the order of the index, also where the user is null: PostgreSQL does not take a null for a constant.
        sql, some = compiled(rows.order_by(*dict.fromkeys(("actor_id", column))).values(column)[:1])
        params.extend(some)
        return f"({sql})"

    def raw(sql: str) -> RawSQL:
        return RawSQL(sql, ())

    source, keys = parents_of(ids, connections[DEFAULT_DB_ALIAS])
    parent = {"assignation_id": raw("koherent_parent.pk")}
    start = first("actor_id", parent)
    params += keys
    step = first("actor_id", {"assignation_id": raw("users.pk")}, "users.actor_id")
    users = (
        f"users(place, pk, actor_id) AS (SELECT place, pk, {start} FROM {source} "
        f"UNION ALL SELECT place, pk, {step} FROM users WHERE actor_id IS NOT NULL)"
    )
    start = first("app", {"assignation_id": raw("users.pk"), "actor_id": raw("users.actor_id")})
    step = first("app", {"assignation_id": raw("apps.pk"), "actor_id": raw("apps.actor_id")}, "apps.app")
    apps = (
        f"apps(place, pk, actor_id, app) AS (SELECT place, pk, actor_id, {start} FROM users WHERE actor_id IS NOT NULL "
        f"UNION ALL SELECT place, pk, actor_id, {step} FROM apps WHERE app IS NOT NULL)"
    )
    start = first("app", {**parent, "actor_id__isnull": True})
    params += keys
    step = first("app", {"assignation_id": raw("others.pk"), "actor_id__isnull": True}, "others.app")
    others = (
        f"others(place, pk, app) AS (SELECT place, pk, {start} FROM {source} "
        f"UNION ALL SELECT place, pk, {step} FROM others WHERE app IS NOT NULL)"
    )
    named = scope.entries(tracked).filter(assignation_id=raw("users.pk"), actor_id=raw("users.actor_id"), in_run=False)
    name, some = compiled(named.order_by("app").values("actor_name")[:1])
    params += some
    return (
        f"WITH RECURSIVE {users}, {apps}, {others} "
        f"SELECT place, actor_id, ({name}), NULL FROM users WHERE actor_id IS NOT NULL "
        "UNION ALL SELECT place, NULL, NULL, app FROM apps WHERE app IS NOT NULL "
        "UNION ALL SELECT place, NULL, NULL, app FROM others WHERE app IS NOT NULL",
        params,
    )


def _of_runs(scope: Scope, tracked: TrackedModel, ids: Sequence[str]) -> tuple[str, list[Any]]:
    """A statement that gives (place, user, name, app) of runs with a visible entry."""
    first, last = (RawSQL(f"koherent_part.{column}", ()) for column in ("first_id", "last_id"))
    rows = scope.entries(tracked).filter(in_run=True, history_id__gte=first, history_id__lte=last)
    name = rows.annotate(koherent_name=Coalesce("actor_name", Value(""))).order_by("history_id")
    named, params = compiled(name.values("koherent_name")[:1])
    source, keys = parents_of(ids, connections[DEFAULT_DB_ALIAS])
    runs = (
        f"SELECT koherent_parent.place, koherent_part.actor_id, ({named}) AS name, koherent_part.app FROM {source} "
        f"JOIN {quote(Assignation._meta.db_table)} AS koherent_part "
        f"ON koherent_part.assignation_id = koherent_parent.pk AND koherent_part.model = %s"
    )
    found = f"SELECT DISTINCT r.place, r.actor_id, r.name, r.app FROM ({runs}) AS r WHERE r.name IS NOT NULL"
    return found, [*params, *keys, tracked.label]


def _moment(value: Any) -> dt.datetime:
    """A date as a raw cursor gives it, as Django would."""
    connection = connections[DEFAULT_DB_ALIAS]
    expression = Value(None, DateTimeField())
    for convert in connection.ops.get_db_converters(expression):
        value = convert(value, expression, connection)
    moment: dt.datetime = value
    return moment
