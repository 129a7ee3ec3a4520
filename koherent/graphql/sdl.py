"""Our part of the GraphQL API as SDL, and what moved since another SDL."""

import strawberry
from graphql import GraphQLSchema, build_schema, find_breaking_changes, find_dangerous_changes
from strawberry.printer import print_schema

import koherent.graphql


def own_schema() -> strawberry.Schema:
    """A schema of koherent's root types alone, with the history types of this project's tracked models."""
    return strawberry.Schema(
        query=koherent.graphql.Query,
        mutation=koherent.graphql.Mutation,
        subscription=koherent.graphql.Subscription,
    )


def own_sdl() -> str:
    """The SDL of ``own_schema()``, with a new line at its end."""
    return print_schema(own_schema()).strip() + "\n"


def breaking_changes(old: str, new: str) -> list[str]:
    """What stops a client of ``old`` (SDL) from working with ``new``, sorted; both have to be valid."""
    return sorted(change.description for change in find_breaking_changes(_built(old), _built(new)))


def dangerous_changes(old: str, new: str) -> list[str]:
    """What may surprise a client of ``old`` (SDL), such as a new value of an enum; sorted."""
    return sorted(change.description for change in find_dangerous_changes(_built(old), _built(new)))


def _built(sdl: str) -> GraphQLSchema:
    return build_schema(sdl)
