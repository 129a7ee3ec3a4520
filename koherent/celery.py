"""Celery tasks act for whoever sent them. Importing this module in the project's Celery module is enough.

The sender's context travels in a header of the message, ``koherent``; what the task then changes is attributed to the
same user, app, assignation, reason and metadata. Tasks that a task sends, its callbacks and its retries carry it on.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.signals import before_task_publish, task_postrun, task_prerun
from django.db import connections

from koherent.context import AuditContext, RemoteUser, current_audit, enter, leave

HEADER = "koherent"
_TEXTS = ("app", "assignation_id", "reason")


def connect() -> None:
    """Listen to Celery's signals; doing it twice changes nothing."""
    before_task_publish.connect(_before_publish, weak=False, dispatch_uid="koherent.before_publish")
    task_prerun.connect(_before_run, weak=False, dispatch_uid="koherent.before_run")
    task_postrun.connect(_after_run, weak=False, dispatch_uid="koherent.after_run")


def message(context: AuditContext) -> dict[str, Any]:
    """What a message carries of ``context``, in types that every serializer knows. May query for a lazy user."""
    carried: dict[str, Any] = {name: getattr(context, name) for name in _TEXTS if getattr(context, name) is not None}
    if context.actor is not None:
        carried["user"] = {"key": context.actor.key, "name": context.actor.name}
    if context.row_metadata:
        carried["metadata"] = dict(context.row_metadata)
    return carried


def received(carried: Mapping[str, Any]) -> AuditContext:
    """The context that a message carries; explicit, so that a request which the task makes up does not override it."""
    user = carried.get("user")
    return AuditContext(
        user=None if user is None else RemoteUser(key=user["key"], name=user["name"]),
        app=carried.get("app"),
        assignation_id=carried.get("assignation_id"),
        reason=carried.get("reason"),
        metadata=carried.get("metadata", {}),
        explicit=frozenset(carried) - {"metadata"},
    )


def _before_publish(headers: dict[str, Any], **_: Any) -> None:
    context = current_audit()
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        carried = message(context)
    else:
        # Sending blocks the loop anyway; a lazy user may query in synchronous code only.
        with ThreadPoolExecutor(1) as pool:
            carried = pool.submit(_message_in_thread, context).result()
    if carried:
        headers[HEADER] = carried


def _message_in_thread(context: AuditContext) -> dict[str, Any]:
    try:
        return message(context)
    finally:
        connections.close_all()


def _before_run(task: Any, **_: Any) -> None:
    carried = getattr(task.request, HEADER, None)
    # An eager task runs inside its sender's context.
    if isinstance(carried, Mapping) and not task.request.is_eager:
        enter(task.request, received(carried))


def _after_run(task: Any, **_: Any) -> None:
    leave(task.request)


connect()
