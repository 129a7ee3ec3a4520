"""What a tracker or a policy may look at."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RequestInfo:
    """One request or GraphQL operation.

    ``user`` may be lazy: touching it may query, so do so in synchronous code only. ``find_user`` looks again, because a
    request may be authenticated, or logged in, while it runs. Header names are lower case.
    ``client`` is the authenticated client application, where the request has one: an object with ``client_id``.
    ``provenance`` is the verified task that the request belongs to, where authentication found one: an object with
    ``tsk``, the task's id. ``request`` is the request as the transport made it, ``scope`` the ASGI scope, where known.
    """

    user: Any = None
    client: Any = None
    provenance: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    connection_params: Mapping[str, Any] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
    operation_name: str | None = None
    request: Any = None
    scope: Mapping[str, Any] = field(default_factory=dict)
    find_user: Callable[[], Any] | None = None

    def now(self) -> "RequestInfo":
        """The same request with the user that it has now."""
        return self if self.find_user is None else replace(self, user=self.find_user())

    @property
    def session(self) -> Mapping[str, Any]:
        """Django's session, or an empty mapping. Reading it may query."""
        session: Mapping[str, Any] | None = getattr(self.request, "session", None)
        return self.scope.get("session", {}) if session is None else session

    @property
    def address(self) -> str | None:
        """The peer's address as the server saw it: behind a proxy, the proxy's."""
        meta: Mapping[str, Any] = getattr(self.request, "META", {})
        client = self.scope.get("client")
        return meta.get("REMOTE_ADDR") or (str(client[0]) if client else None)


def known(source: object, attribute: str) -> Any:
    """``source`` where it has ``attribute``, else None: elsewhere a request's "client" is the address of the peer."""
    return source if hasattr(source, attribute) else None
