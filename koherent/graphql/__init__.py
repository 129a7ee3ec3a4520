"""The Strawberry surface: the extension, the trail's root types and the transports."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from koherent.graphql import relations
from koherent.graphql.extension import KoherentExtension
from koherent.graphql.fields import history_field
from koherent.graphql.filtering import HistoryFilterMixin
from koherent.graphql.mutations import Mutation
from koherent.graphql.queries import Query
from koherent.graphql.schema import Schema
from koherent.graphql.subscriptions import Subscription
from koherent.graphql.types import HistoryEntry, HistoryEntryConnection

if TYPE_CHECKING:
    from koherent.graphql.transports import GraphQLHTTPConsumer, GraphQLProtocolTypeRouter, GraphQLWSConsumer

__all__ = [
    "GraphQLHTTPConsumer",
    "GraphQLProtocolTypeRouter",
    "GraphQLWSConsumer",
    "HistoryEntry",
    "HistoryEntryConnection",
    "HistoryFilterMixin",
    "KoherentExtension",
    "Mutation",
    "Query",
    "Schema",
    "Subscription",
    "history_field",
]

relations.register()


def __getattr__(name: str) -> Any:
    """The transports, when they are asked for: only they need Channels, which is an extra."""
    if name in ("GraphQLHTTPConsumer", "GraphQLProtocolTypeRouter", "GraphQLWSConsumer"):
        return getattr(import_module("koherent.graphql.transports"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
