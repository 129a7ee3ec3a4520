"""What an assignation consists of, read from indexes: its size does not matter."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import DateTimeField, Value
from django.db.models.expressions import RawSQL

from koherent.policy import Entries, Scope
from koherent.registry import TrackedModel
from koherent.timeline.search import compiled, parents_of

Span = tuple[dt.datetime, dt.datetime]


def spans(scope: Scope, ids: Sequence[str]) -> dict[str, dict[TrackedModel, Span]]:
    """For each assignation with visible entries, the models that it changed, with the times of their first and last.

    One statement, that looks up two index entries for each assignation and model.
    """
    found: dict[str, dict[TrackedModel, Span]] = {}
    if not ids:
        return found
    columns, params = [], list[Any]()
    for tracked in scope.models:
        rows = scope.entries(tracked).filter(assignation_id=RawSQL("koherent_parent.pk", ()))
        for order in ("history_date", "-history_date"):
            sql, some = compiled(rows.order_by(order).values("history_date")[:1])
            columns.append(f"({sql})")
            params += some
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


def participants(scope: Scope, ids: Sequence[str]) -> dict[str, tuple[dict[str, str], set[str]]]:
    """For each assignation the users (key -> name in one of its entries) and the apps of its visible entries.

    One statement a model, that hops from one user and app to the next in the index, whatever the number of entries.
    """
    found: dict[str, tuple[dict[str, str], set[str]]] = {id: ({}, set()) for id in ids}
    if not ids:
        return found
    for tracked in scope.models:
        statement, params = _hops(scope, tracked, ids)
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(statement, params)
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
        rows: Entries = scope.entries(tracked).filter(**where, **{f"{column}__isnull": False})
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
    named = scope.entries(tracked).filter(assignation_id=raw("users.pk"), actor_id=raw("users.actor_id"))
    name, some = compiled(named.order_by("app").values("actor_name")[:1])
    params += some
    return (
        f"WITH RECURSIVE {users}, {apps}, {others} "
        f"SELECT place, actor_id, ({name}), NULL FROM users WHERE actor_id IS NOT NULL "
        "UNION ALL SELECT place, NULL, NULL, app FROM apps WHERE app IS NOT NULL "
        "UNION ALL SELECT place, NULL, NULL, app FROM others WHERE app IS NOT NULL",
        params,
    )


def _moment(value: Any) -> dt.datetime:
    """A date as a raw cursor gives it, as Django would."""
    connection = connections[DEFAULT_DB_ALIAS]
    expression = Value(None, DateTimeField())
    for convert in connection.ops.get_db_converters(expression):
        value = convert(value, expression, connection)
    moment: dt.datetime = value
    return moment
