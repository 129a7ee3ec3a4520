"""For clients: name the unit of work that requests belong to, once, around them.

    with assignation("import-42", app="importer"):
        http.post(...)

httpx sends it by a hook: ``httpx.Client(event_hooks={"request": [on_request]})``, or ``on_request_async`` for
``httpx.AsyncClient``; gql's httpx transports take the same argument. Other clients take ``headers()``, and sockets
``extensions()``. Needs no Django settings.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from koherent.claims import check_assignation_id, check_text


@dataclass(frozen=True, kw_only=True)
class _Claims:
    assignation_id: str
    app: str | None
    reason: str | None


_current: ContextVar[_Claims | None] = ContextVar("koherent_client", default=None)


@contextmanager
def assignation(id: str, *, app: str | None = None, reason: str | None = None) -> Iterator[str]:
    """All requests made inside belong to one unit of work; yields its id. Also a decorator.

    Nests: the inner id counts, app and reason are inherited. Threads and tasks have their own. Raises
    ``BadAssignationId`` or ``BadHeader`` for what the server would refuse.
    """
    outer = _current.get()
    claims = _Claims(
        assignation_id=check_assignation_id(id),
        app=outer.app if app is None and outer is not None else app,
        reason=outer.reason if reason is None and outer is not None else reason,
    )
    for name in ("app", "reason"):
        check_text(name, getattr(claims, name) or "")
    token = _current.set(claims)
    try:
        yield claims.assignation_id
    finally:
        _current.reset(token)


def headers() -> dict[str, str]:
    """The headers of a request made here; empty outside ``assignation()``."""
    names = {"assignationId": "X-Assignation-Id", "app": "X-App", "reason": "X-Change-Reason"}
    return {names[name]: value for name, value in extensions().items()}


def extensions() -> dict[str, str]:
    """The ``extensions`` of an operation sent over a socket from here; empty outside ``assignation()``."""
    claims = _current.get()
    if claims is None:
        return {}
    values = {"assignationId": claims.assignation_id, "app": claims.app, "reason": claims.reason}
    return {name: value for name, value in values.items() if value is not None}


def on_request(request: Any) -> None:
    """A request hook of ``httpx.Client``. Headers that the request has already stay."""
    for name, value in headers().items():
        if name not in request.headers:
            request.headers[name] = value


async def on_request_async(request: Any) -> None:
    """A request hook of ``httpx.AsyncClient``."""
    on_request(request)
