"""Connections of entries: read as one page, in one go, in synchronous code."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import strawberry
from strawberry import relay

from koherent import feed, timeline
from koherent.conf import settings
from koherent.errors import BadCursor, BadPage, LimitExceeded
from koherent.graphql.requests import viewer_of
from koherent.graphql.resolving import in_sync
from koherent.graphql.selection import asked, wanted_of
from koherent.graphql.types import HistoryEntry, HistoryEntryConnection, HistoryEntryEdge, to_graphql
from koherent.policy import Scope, scope_for


def entry_connection(
    info: strawberry.Info,
    filters: timeline.Filters,
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> HistoryEntryConnection:
    """A page of the trail as the caller of ``info`` may see it."""
    viewer, names = viewer_of(info), asked(info)

    def read() -> HistoryEntryConnection:
        scope = scope_for(viewer)
        feed_cursor = feed.current_cursor() if "feedcursor" in names else ""
        page = timeline.page(
            scope, filters, first=first, after=after, last=last, before=before, wanted=wanted_of(names)
        )
        return connection(scope, page, filters=filters, feed_cursor=feed_cursor)

    return in_sync(read)


class _Edge(NamedTuple):
    """What a resolver finds in a ``HistoryEntryEdge``; a cursor is made for who asks for it."""

    entry: timeline.Entry
    node: HistoryEntry

    @property
    def cursor(self) -> str:
        """The entry's place."""
        return self.entry.cursor


def connection(
    scope: Scope,
    page: timeline.Page,
    *,
    filters: timeline.Filters | None = None,
    known_count: int | None = None,
    feed_cursor: str = "",
) -> HistoryEntryConnection:
    """A page as a connection; without ``known_count``, ``filters`` say what to count when that is asked for."""
    ends = [page.entries[place].cursor for place in (0, -1)] if page.entries else []
    edges: Any = [_Edge(entry, to_graphql(entry)) for entry in page.entries]
    return HistoryEntryConnection(
        scope=scope,
        filters=filters or timeline.Filters(),
        known_count=known_count,
        page_info=page_info(ends, has_next=page.has_next_page, has_previous=page.has_previous_page),
        edges=edges,
        feed_cursor=feed_cursor,
    )


def keyed_connection(
    info: strawberry.Info, keys: Sequence[tuple[str, int]], *, first: int | None, after: str | None
) -> HistoryEntryConnection:
    """A page of the visible entries among these keys, in the given order; cursors are places in the list."""
    viewer, names = viewer_of(info), asked(info)

    def read() -> HistoryEntryConnection:
        scope = scope_for(viewer)
        feed_cursor = feed.current_cursor() if "feedcursor" in names else ""
        # Counted and numbered without the others, or the gaps would tell of them.
        seen = timeline.visible_keys(scope, keys) if scope.hides_rows else set(keys)
        shown = [key for key in keys if key in seen]
        start, stop = window(len(shown), first, after)
        places = {key: str(start + index) for index, key in enumerate(shown[start:stop])}
        edges = [
            HistoryEntryEdge(cursor=places[entry.tracked.label, entry.history_id], node=to_graphql(entry))
            for entry in timeline.load(scope, shown[start:stop], wanted_of(names))
        ]
        return HistoryEntryConnection(
            scope=scope,
            filters=timeline.Filters(),
            known_count=len(shown),
            page_info=page_info([e.cursor for e in edges], has_next=stop < len(shown), has_previous=start > 0),
            edges=edges,
            feed_cursor=feed_cursor,
        )

    return in_sync(read)


def window(length: int, first: int | None, after: str | None) -> tuple[int, int]:
    """Start and stop of a page in a list of ``length``, for cursors that are places in it; empty beyond its end.

    Raises ``BadPage``, ``LimitExceeded`` and ``BadCursor``.
    """
    check_window(first, after)
    start = 0 if after is None else min(length, int(after) + 1)
    return start, min(length, start + (settings().page_limit if first is None else first))


def check_window(first: int | None, after: str | None) -> None:
    """What of a page's arguments can be wrong whatever the list holds; raises as ``window()`` does."""
    limit = settings().page_limit
    if first is not None and first < 0:
        raise BadPage("first is at least 0.")
    if first is not None and first > limit:
        raise LimitExceeded(f"first is at most {limit}.", limit=limit)
    if after is not None and not (after.isascii() and after.isdigit() and len(after) < 10):
        raise BadCursor("after is not a cursor of this list.")


def page_info(cursors: Sequence[str], *, has_next: bool, has_previous: bool) -> relay.PageInfo:
    """Relay's page info for the cursors of a page."""
    return relay.PageInfo(
        has_next_page=has_next,
        has_previous_page=has_previous,
        start_cursor=cursors[0] if cursors else None,
        end_cursor=cursors[-1] if cursors else None,
    )
