"""What a GraphQL operation tells about its request, whatever the transport made of the context."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import strawberry

from koherent.policy import Viewer
from koherent.request import RequestInfo, known

_socket_extensions: ContextVar[Mapping[str, Any]] = ContextVar("koherent_socket_extensions", default={})  # noqa: B039


@contextmanager
def socket_extensions(payload: object) -> Iterator[None]:
    """Carry the ``extensions`` of a socket's subscribe payload to the operation that is started inside."""
    extensions = payload.get("extensions") if isinstance(payload, dict) else None
    token = _socket_extensions.set(extensions if isinstance(extensions, dict) else {})
    try:
        yield
    finally:
        _socket_extensions.reset(token)


def request_info(context: object, *, extensions: object = None, operation_name: str | None = None) -> RequestInfo:
    """The request of one operation, from the context that its view or consumer made: a mapping or an object.

    Knows Django requests, Channels requests and socket consumers, and contexts that carry ``headers`` themselves.
    Never queries: a lazy user stays lazy.
    """
    request = _get(context, "request")
    scope = _scope(request) or _scope(context)
    params = _get(context, "connection_params")
    return RequestInfo(
        user=_user(request, scope),
        client=known(_get(request, "client"), "client_id"),
        provenance=known(_get(request, "provenance"), "tsk"),
        headers=_headers(context, request, scope),
        connection_params=params if isinstance(params, Mapping) else {},
        extensions=extensions if isinstance(extensions, Mapping) and extensions else _socket_extensions.get(),
        operation_name=operation_name,
        request=request,
        scope=scope,
        find_user=partial(_user, request, scope),
    )


def viewer_of(info: strawberry.Info) -> Viewer:
    """Who asks, for a resolver. The user may still be lazy: use it in synchronous code."""
    raw: Any = info._raw_info
    operation = raw.operation.name
    request = request_info(
        info.context,
        extensions=getattr(raw, "operation_extensions", None),
        operation_name=operation.value if operation is not None else None,
    )
    return Viewer(user=request.user, request=request)


def _get(source: object, name: str) -> Any:
    if isinstance(source, Mapping):
        return source.get(name)
    try:
        return getattr(source, name, None)
    except ValueError:
        # Kante's request raises ValueError for what nobody has set.
        return None


def _scope(request: object) -> Mapping[str, Any]:
    for holder in (_get(request, "consumer"), request):
        scope = _get(holder, "scope")
        if isinstance(scope, Mapping):
            return scope
    return {}


def _user(request: object, scope: Mapping[str, Any]) -> Any:
    user = _get(request, "user")
    # An identity check: a comparison would make a lazy user query.
    return user if user is not None else scope.get("user")


def _headers(context: object, request: object, scope: Mapping[str, Any]) -> dict[str, str]:
    for source in (context, request):
        headers = _get(source, "headers")
        if isinstance(headers, Mapping):
            return {str(name).lower(): str(value) for name, value in headers.items()}
    return {name.decode("latin1").lower(): value.decode("latin1") for name, value in scope.get("headers", ())}
