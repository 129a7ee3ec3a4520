"""How resolvers reach the synchronous core: directly, or through a thread when an event loop is running."""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import strawberry
from asgiref.sync import sync_to_async
from django.db import connections
from strawberry.types.nodes import FragmentSpread, InlineFragment, SelectedField, Selection
from strawberry.utils.str_converters import to_camel_case

from koherent.errors import KoherentError
from koherent.graphql.errors import coded

T = TypeVar("T")


def in_sync(function: Callable[[], T]) -> T:
    """Call ``function`` in synchronous code; koherent's errors come out with their codes.

    While an event loop is running this returns a coroutine, which the executor awaits; the type says what it gives.
    """

    def call() -> T:
        for connection in connections.all(initialized_only=True):
            # Under Channels no request's end gives a broken connection back.
            if connection.errors_occurred:
                connection.close_if_unusable_or_obsolete()
        try:
            return function()
        except KoherentError as error:
            raise coded(error) from error

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    return cast("T", sync_to_async(call)())


def selected(info: strawberry.Info, name: str) -> Iterator[SelectedField]:
    """How the query asks for the field ``name`` (Python name) directly below the field that is resolved now."""
    names = {name, to_camel_case(name)}

    def within(selections: Iterable[Selection]) -> Iterator[SelectedField]:
        for selection in selections:
            if isinstance(selection, (FragmentSpread, InlineFragment)):
                yield from within(selection.selections)
            elif selection.name in names:
                yield selection

    fields: list[Any] = info.selected_fields
    for field in fields:
        yield from within(field.selections)
