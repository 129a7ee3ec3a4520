"""The live trail."""

from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Annotated, cast

import strawberry
from asgiref.sync import sync_to_async
from django.conf import settings as django_settings
from django.utils import translation

from koherent import feed
from koherent.conf import settings
from koherent.errors import BadCursor, CursorExpired, KoherentError, LimitExceeded, Unauthenticated
from koherent.graphql.errors import coded
from koherent.graphql.inputs import FilterArgument, filters_of
from koherent.graphql.requests import viewer_of
from koherent.graphql.selection import asked, wanted_of
from koherent.graphql.sharing import Delivery, SharingSchema, sharing_key
from koherent.graphql.types import HistoryEntry
from koherent.policy import Viewer
from koherent.timeline import Filters
from koherent.timeline.filters import moment

# Open streams by account, and by connection, in this process.
_open: Counter[str] = Counter()


@strawberry.type(description="One message of the live trail.")
class HistoryFeedItem:
    cursor: str = strawberry.field(description="Where the client is now; subscribe with it to go on from here.")
    entry: HistoryEntry | None = strawberry.field(
        description="The new entry; null for a checkpoint, which is the first item and comes at least every 30 seconds."
    )


@strawberry.type(description="The live trail.")
class Subscription:
    @strawberry.subscription(
        description="New entries as they are committed. With `after`, first all that came since that cursor: every "
        "entry at least once. An error that ends the stream has the last cursor in its extensions."
    )
    async def history_entries(
        self,
        info: strawberry.Info,
        filters: FilterArgument = None,
        after: Annotated[
            str | None,
            strawberry.argument(
                description="A cursor of this stream, or a page's `feedCursor`; by default from now on."
            ),
        ] = None,
    ) -> AsyncGenerator[HistoryFeedItem, None]:
        cursor = after
        try:
            viewer, wanted, language = viewer_of(info), wanted_of(asked(info)), _language()
            account, checked = await sync_to_async(_checked)(viewer, filters_of(filters))
            raw, schema = info._raw_info, info.schema
            sharing = sharing_key(raw, language) if isinstance(schema, SharingSchema) else None
            with _counted(viewer, account):
                stream = feed.subscribe(viewer, checked, after, wanted=wanted, language=language)
                async with aclosing(stream) as items:
                    async for item in items:
                        cursor = item.cursor
                        delivery = Delivery(item, sharing)
                        event = await schema.event(raw, delivery) if isinstance(schema, SharingSchema) else delivery
                        # Resolvers find in it what they find in a HistoryFeedItem.
                        yield cast("HistoryFeedItem", event)
        except (BadCursor, CursorExpired) as error:
            # The client's own cursor is what is wrong: it gets none to come back with.
            raise coded(error) from error
        except KoherentError as error:
            raise coded(error, **({} if cursor is None else {"cursor": cursor})) from error


def _language() -> str | None:
    """The language of labels, where it is not the project's."""
    language = translation.get_language()
    return None if language == django_settings.LANGUAGE_CODE else language


@contextmanager
def _counted(viewer: Viewer, account: str) -> Iterator[None]:
    """Holds a place of the account, and of its connection; raises ``LimitExceeded`` when either has no more here."""
    request = viewer.request
    # The scope of a socket is one object for all of its operations.
    connection = id(request.scope or request.request) if request is not None else 0
    limits = {
        f"account {account}": ("An account", settings().subscription_limit),
        f"connection {connection}": ("A connection", settings().connection_limit),
    }
    for place, (whose, limit) in limits.items():
        if _open[place] >= limit:
            raise LimitExceeded(f"{whose} has at most {limit} open subscriptions.", limit=limit)
    _open.update(limits.keys())
    try:
        yield
    finally:
        for place in limits:
            _open[place] -= 1
            if not _open[place]:
                del _open[place]


def _checked(viewer: Viewer, filters: Filters) -> tuple[str, Filters]:
    """The account's key, and the filters with times of the caller's time zone; the feed checks all else itself."""
    if not viewer.is_active:
        raise Unauthenticated("Log in to read the history.")
    return str(viewer.user.pk), replace(
        filters,
        since=None if filters.since is None else moment(filters.since, "since"),
        until=None if filters.until is None else moment(filters.until, "until"),
    )
