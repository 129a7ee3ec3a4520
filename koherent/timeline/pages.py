"""Browsing: pages, counts, single entries and the entry in force at a time."""

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import DEFAULT_DB_ALIAS, connections

from koherent.conf import settings
from koherent.errors import BadPage, HistoryPruned, LimitExceeded
from koherent.models import Origin
from koherent.policy import Scope
from koherent.timeline.entries import Entry, Search, find, load, materialise
from koherent.timeline.filters import Filters, Position, moment, object_key, tracked_or_bad

NO_FILTERS = Filters()


@dataclass(frozen=True, kw_only=True)
class Page:
    """A stretch of the trail, newest first."""

    entries: list[Entry]
    has_next_page: bool
    has_previous_page: bool


def page_size(first: int | None, last: int | None = None) -> int:
    """How many to show; ``PAGE_LIMIT`` when neither is given. Raises ``BadPage`` and ``LimitExceeded``."""
    limit = settings().page_limit
    if first is not None and last is not None:
        raise BadPage("Give first or last, not both.")
    size = first if first is not None else last
    if size is None:
        return limit
    if size < 0:
        raise BadPage("first and last are 0 or more.")
    if size > limit:
        raise LimitExceeded(f"A page has at most {limit} items.", limit=limit)
    return size


def page(
    scope: Scope,
    filters: Filters = NO_FILTERS,
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
) -> Page:
    """A page in browsing order: (date, label, history id), newest first.

    ``first`` entries after the cursor ``after``, or the ``last`` ones before the cursor ``before``; both cursors may
    bound either. Raises ``BadPage``, ``LimitExceeded``, ``BadCursor``, ``BadFilter``.
    """
    size = page_size(first, last)
    start = None if after is None else Position.decode(after)
    end = None if before is None else Position.decode(before)
    searches = []
    for tracked, condition in filters.resolve(scope):
        if start is not None:
            condition &= start.older(tracked.label)
        if end is not None:
            condition &= end.newer(tracked.label)
        searches.append(Search(tracked, scope.entries(tracked).filter(condition)))
    backwards = last is not None
    found = find(scope, searches, limit=size + 1, newest_first=not backwards)
    more = len(found) > size
    found = found[:size]
    if backwards:
        found.reverse()
    return Page(
        entries=materialise(scope, found),
        has_next_page=before is not None if backwards else more,
        has_previous_page=more if backwards else after is not None,
    )


def count(scope: Scope, filters: Filters = NO_FILTERS) -> int:
    """How many visible entries match. One statement. Raises ``BadFilter``."""
    connection = connections[DEFAULT_DB_ALIAS]
    branches: list[str] = []
    params: list[Any] = []
    for tracked, condition in filters.resolve(scope):
        rows: Any = scope.entries(tracked).filter(condition).values_list("history_id")
        try:
            sql, branch_params = rows.query.get_compiler(connection=connection).as_sql()
        except EmptyResultSet:
            continue
        branches.append(f"(SELECT COUNT(*) FROM ({sql}) AS b)")
        params += branch_params
    if not branches:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {' + '.join(branches)}", params)
        return int(cursor.fetchone()[0])


def get_entry(scope: Scope, label: str, history_id: int) -> Entry | None:
    """One entry; None when it is unknown or hidden."""
    loaded = load(scope, [(label, history_id)])
    return loaded[0] if loaded else None


def as_of(scope: Scope, label: str, object_id: str, at: dt.datetime) -> Entry | None:
    """The entry in force at a time: of those dated at or before it, the one with the highest history id.

    None before the object's creation, and for an object without visible history. Raises ``BadFilter`` for an unknown
    label or a key of the wrong kind, ``HistoryPruned`` when the oldest entry is later and is no creation.
    """
    tracked = tracked_or_bad(scope, label)
    own = scope.entries(tracked).filter(**{tracked.pk_attname: object_key(tracked, object_id)})
    keys = own.values_list("history_id", flat=True)
    key = keys.filter(history_date__lte=moment(at, "at")).order_by("-history_id").first()
    if key is not None:
        return get_entry(scope, tracked.label, key)
    oldest = own.order_by("history_id").values_list("history_type", "origin", "history_date").first()
    if oldest is None or (oldest[0] == "+" and oldest[1] != Origin.BASELINE):
        return None
    raise HistoryPruned("The history that is kept begins later.", oldest=oldest[2].isoformat())
