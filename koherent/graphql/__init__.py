"""The Strawberry surface: the extension, the trail's root types and the transports."""

from koherent.graphql import relations
from koherent.graphql.extension import KoherentExtension
from koherent.graphql.mutations import Mutation
from koherent.graphql.queries import Query
from koherent.graphql.subscriptions import Subscription
from koherent.graphql.transports import GraphQLHTTPConsumer, GraphQLProtocolTypeRouter, GraphQLWSConsumer
from koherent.graphql.types import HistoryEntry, HistoryEntryConnection

__all__ = [
    "GraphQLHTTPConsumer",
    "GraphQLProtocolTypeRouter",
    "GraphQLWSConsumer",
    "HistoryEntry",
    "HistoryEntryConnection",
    "KoherentExtension",
    "Mutation",
    "Query",
    "Subscription",
]

relations.register()
