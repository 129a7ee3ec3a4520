"""Strawberry's Channels consumers, plus what its sockets drop: the per-operation ``extensions``."""

from collections.abc import Sequence
from typing import Any

from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import re_path
from strawberry.channels import GraphQLHTTPConsumer as StrawberryHTTPConsumer
from strawberry.channels import GraphQLProtocolTypeRouter as StrawberryProtocolTypeRouter
from strawberry.channels import GraphQLWSConsumer as StrawberryWSConsumer
from strawberry.schema import BaseSchema
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler
from strawberry.subscriptions.protocols.graphql_ws.handlers import BaseGraphQLWSHandler

from koherent.graphql.requests import socket_extensions
from koherent.graphql.sharing import SharedData


class _TransportWSHandler(BaseGraphQLTransportWSHandler[Any, Any]):
    async def handle_subscribe(self, message: Any) -> None:
        # The operation's task is created inside, and copies the context that is in force then.
        with socket_extensions(message.get("payload")):
            await super().handle_subscribe(message)


class _LegacyWSHandler(BaseGraphQLWSHandler[Any, Any]):
    async def handle_start(self, message: Any) -> None:
        with socket_extensions(message.get("payload")):
            await super().handle_start(message)


class GraphQLHTTPConsumer(StrawberryHTTPConsumer[Any, Any]):
    """Strawberry's HTTP consumer; over HTTP nothing is missing."""


class GraphQLWSConsumer(StrawberryWSConsumer[Any, Any]):
    """Strawberry's socket consumer; ``extensions`` of each subscribe message reach ``KoherentExtension`` too.

    So one socket can carry operations of several assignations: ``extensions: {"assignationId": "...", "reason": ""}``.
    """

    graphql_transport_ws_handler_class = _TransportWSHandler
    graphql_ws_handler_class = _LegacyWSHandler

    def encode_json(self, data: object) -> str | bytes:
        """The message as JSON; data that several subscribers get is encoded once, under each one's operation id."""
        payload = data.get("payload") if isinstance(data, dict) else None
        shared = payload.get("data") if isinstance(payload, dict) else None
        if not isinstance(data, dict) or not isinstance(payload, dict) or not isinstance(shared, SharedData):
            return super().encode_json(data)
        encode = super().encode_json
        text = shared.text(type(self), encode)
        envelope = encode({name: value for name, value in data.items() if name != "payload"})
        others = {name: value for name, value in payload.items() if name != "data"}
        rest = encode(others) if others else "{}"
        if not isinstance(text, str) or not isinstance(envelope, str) or not isinstance(rest, str):
            return encode(data)
        comma = "," if others else ""
        return f'{envelope[:-1]},"payload":{{"data":{text}{comma}{rest[1:]}}}'


class GraphQLProtocolTypeRouter(StrawberryProtocolTypeRouter):
    """Strawberry's router with the two consumers above.

    ``socket_options`` go to the socket consumer, such as ``keep_alive`` or ``allowed_origins``. Wrap the router in
    ``channels.auth.AuthMiddlewareStack``, or sockets have no user.
    """

    def __init__(
        self,
        schema: BaseSchema,
        django_application: Any = None,
        url_pattern: str = "^graphql",
        subscription_protocols: Sequence[str] = (GRAPHQL_TRANSPORT_WS_PROTOCOL, GRAPHQL_WS_PROTOCOL),
        **socket_options: Any,
    ) -> None:
        http = GraphQLHTTPConsumer.as_asgi(schema=schema, subscription_protocols=subscription_protocols)
        socket = GraphQLWSConsumer.as_asgi(
            schema=schema, subscription_protocols=subscription_protocols, **socket_options
        )
        routes: list[Any] = [re_path(url_pattern, http)]
        if django_application is not None:
            routes.append(re_path("^", django_application))
        # Strawberry's own __init__ names its own consumers, so its parent's is called.
        ProtocolTypeRouter.__init__(
            self,
            {"http": URLRouter(routes), "websocket": URLRouter([re_path(url_pattern, socket)])},
        )
