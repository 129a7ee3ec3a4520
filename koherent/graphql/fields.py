"""``history_field()``: an object's history, on a team's own type."""

from typing import Any

import strawberry
from django.db.models import Model
from strawberry.types.field import StrawberryField
from strawberry_django.optimizer import OptimizerStore

from koherent import feed, registry, timeline
from koherent.graphql.inputs import FilterArgument, filters_of
from koherent.graphql.pages import connection
from koherent.graphql.peers import Peers, for_peers, peers_prefetch, with_peers
from koherent.graphql.requests import viewer_of
from koherent.graphql.selection import asked, wanted_of
from koherent.graphql.types import (
    AfterArgument,
    BeforeArgument,
    FirstArgument,
    HistoryEntryConnection,
    LastArgument,
)
from koherent.policy import scope_for


class _HistoryConnectionField(StrawberryField):
    """Sees to it that the objects of its type come with their peers, with the optimizer and without."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.store = OptimizerStore.with_hints(prefetch_related=[peers_prefetch])

    def __set_name__(self, owner: Any, name: str) -> None:
        """Every list of the type's objects goes through ``get_queryset``."""
        given = getattr(owner, "get_queryset", None)

        def get_queryset(cls: Any, /, queryset: Any, info: Any, **kwargs: Any) -> Any:
            if given is not None:
                queryset = given.__func__(cls, queryset, info, **kwargs)
            return with_peers(queryset)

        owner.get_queryset = classmethod(get_queryset)


def history_field(*, description: str = "Its history, newest first.") -> Any:
    """A field for a ``strawberry_django.type`` of a tracked model: the history of each object.

    ``history: HistoryEntryConnection | None = history_field()``. It takes ``filters`` and pagination, and costs the
    same number of statements for any number of objects; those of a list that a plain resolver returns, only in
    asynchronous code. Null with a coded error where the caller may not read it.
    """
    field = _HistoryConnectionField(description=description)
    return field(_resolve)


def _resolve(
    root: Any,
    info: strawberry.Info,
    filters: FilterArgument = None,
    first: FirstArgument = None,
    after: AfterArgument = None,
    last: LastArgument = None,
    before: BeforeArgument = None,
) -> HistoryEntryConnection | None:
    # An object of the past is of a class of its own, which its options do not know of.
    tracked = registry.for_model(root._meta.model if isinstance(root, Model) else type(root))
    if tracked is None:
        raise TypeError(f"history_field() is for types of tracked models; {type(root).__name__} has no HistoryField.")
    viewer, names, chosen = viewer_of(info), asked(info), filters_of(filters)

    def read(keys: list[Any]) -> dict[Any, HistoryEntryConnection]:
        scope = scope_for(viewer)
        feed_cursor = feed.current_cursor() if "feedcursor" in names else ""
        window = timeline.Window.of(first, after, last, before)
        pages = timeline.pages_of_objects(scope, tracked, keys, window, chosen, wanted_of(names))
        counts = timeline.counts_of_objects(scope, tracked, keys, chosen) if "totalcount" in names else {}
        return {
            key: connection(scope, page, known_count=counts.get(key, 0), feed_cursor=feed_cursor)
            for key, page in pages.items()
        }

    return for_peers(info, tracked, root.pk, Peers.of(root), read)
