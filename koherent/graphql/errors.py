"""From koherent's errors to GraphQL's: a code that clients can switch on, on every transport."""

from graphql import GraphQLError

from koherent.errors import KoherentError


def coded(error: KoherentError, **fields: object) -> GraphQLError:
    """The GraphQL error of a koherent error: its message; its code and fields, and ``fields``, as ``extensions``."""
    return GraphQLError(error.message, extensions={**fields, **error.extensions}, original_error=error)
