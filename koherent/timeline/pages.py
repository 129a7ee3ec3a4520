"""Browsing: pages, counts, single entries and the entry in force at a time."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from django.db import DEFAULT_DB_ALIAS, connections
from django.db.models import Q

from koherent.conf import settings
from koherent.errors import BadPage, HistoryPruned, LimitExceeded
from koherent.policy import Scope
from koherent.runs import runs_of
from koherent.timeline.cursors import Position
from koherent.timeline.entries import EVERYTHING, Entry, Wanted, load, materialise
from koherent.timeline.filters import Filters, Selected, moment, object_key, tracked_or_bad
from koherent.timeline.past import is_creation
from koherent.timeline.search import Found, Search, find, find_rows, parts_of

NO_FILTERS = Filters()


class Bound(Protocol):
    """Which entries of a model, given its label, are wanted, or with ``runs`` which runs have such; None: none."""

    def __call__(self, label: str, *, runs: bool = False) -> Q | None:
        """The condition."""


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


@dataclass(frozen=True)
class Window:
    """Which stretch of a list a page is: ``first`` entries after a cursor, or the ``last`` ones before a cursor."""

    size: int
    backwards: bool
    start: Position | None
    end: Position | None

    @classmethod
    def of(
        cls,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> "Window":
        """Relay's arguments, both cursors may bound either; raises ``BadPage``, ``LimitExceeded``, ``BadCursor``."""
        size = page_size(first, last)
        start = None if after is None else Position.decode(after)
        end = None if before is None else Position.decode(before)
        return cls(size, last is not None, start, end)

    def within(self, label: str, *, runs: bool = False) -> Q:
        """The entries of a model between the cursors, or the ``runs`` that have such entries."""
        inside = Q() if self.start is None else self.start.older(label, runs=runs)
        return inside if self.end is None else inside & self.end.newer(label, runs=runs)

    def ahead(self, label: str, *, runs: bool = False) -> Q | None:
        """The entries of a model that the cursor at the start leaves out, or the runs; None without one."""
        return None if self.start is None else self.start.newer(label, inclusive=True, runs=runs)

    def behind(self, label: str, *, runs: bool = False) -> Q | None:
        """The entries of a model that the cursor at the end leaves out, or the runs; None without one."""
        return None if self.end is None else self.end.older(label, inclusive=True, runs=runs)

    def cut(self, found: list[Found]) -> tuple[list[Found], bool]:
        """What is shown of the ``size + 1`` entries that were looked for, and whether there is more."""
        shown = found[: self.size]
        if self.backwards:
            shown.reverse()
        return shown, len(found) > self.size


def page(
    scope: Scope,
    filters: Filters = NO_FILTERS,
    *,
    first: int | None = None,
    after: str | None = None,
    last: int | None = None,
    before: str | None = None,
    wanted: Wanted = EVERYTHING,
) -> Page:
    """A page in browsing order: (date, label, history id), newest first.

    Raises ``BadPage``, ``LimitExceeded``, ``BadCursor``, ``BadFilter``.
    """
    return stretch(scope, filters, Window.of(first, after, last, before), wanted)


def stretch(scope: Scope, filters: Filters, window: Window, wanted: Wanted = EVERYTHING) -> Page:
    """The page of a window, whatever its size. Raises ``BadFilter``."""
    selected = filters.resolve(scope)
    hits = find_rows(
        scope,
        searches(scope, selected, window.within),
        limit=window.size + 1,
        newest_first=not window.backwards,
        neighbours=wanted.changes,
    )
    shown, more = window.cut(hits)

    def any_of(left_out: Bound) -> bool:
        return bool(find(scope, searches(scope, selected, left_out), limit=1, neighbours=False))

    newer, older = wanted.previous and any_of(window.ahead), wanted.next and any_of(window.behind)
    return Page(
        entries=materialise(scope, shown, wanted, hits),
        has_next_page=older or (more and not window.backwards),
        has_previous_page=newer or (more and window.backwards),
    )


def searches(scope: Scope, selected: Iterable[Selected], bound: Bound) -> list[Search]:
    """The parts of a search among what a filter selects; ``bound`` narrows each model, None leaves it out."""
    parts = []
    for some in selected:
        tracked = some.tracked
        narrowed, of_runs = bound(tracked.label), bound(tracked.label, runs=True)
        if narrowed is None or of_runs is None:
            continue
        rows = scope.entries(tracked)
        for part in some.parts:
            runs = None if some.of_object else runs_of(tracked, DEFAULT_DB_ALIAS).filter(part & of_runs)
            parts.append(Search(tracked, rows.filter(part & narrowed), runs))
    return parts


def count(scope: Scope, filters: Filters = NO_FILTERS) -> int:
    """How many visible entries match. One statement. Raises ``BadFilter``."""
    branches: list[str] = []
    params: list[Any] = []
    for selected in filters.resolve(scope):
        tracked, whole = selected.tracked, selected.whole
        rows = scope.entries(tracked).filter(whole)
        everywhere = selected.of_object or not whole
        runs = None if everywhere else runs_of(tracked, DEFAULT_DB_ALIAS).filter(whole)
        for sql, some in parts_of(Search(tracked, rows, runs)):
            branches.append(f"(SELECT COUNT(*) FROM ({sql}) AS b)")
            params += some
    if not branches:
        return 0
    with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
        cursor.execute(f"SELECT {' + '.join(branches)}", params)
        return int(cursor.fetchone()[0])


def get_entry(scope: Scope, label: str, history_id: int, wanted: Wanted = EVERYTHING) -> Entry | None:
    """One entry; None when it is unknown or hidden."""
    loaded = load(scope, [(label, history_id)], wanted)
    return loaded[0] if loaded else None


def as_of(scope: Scope, label: str, object_id: str, at: dt.datetime, wanted: Wanted = EVERYTHING) -> Entry | None:
    """The entry in force at a time: of those dated at or before it, the one with the highest history id.

    None before the object's creation, and for an object without visible history. Raises ``BadFilter`` for an unknown
    label or a key of the wrong kind, ``HistoryPruned`` when the oldest entry is later and is no creation.
    """
    tracked = tracked_or_bad(scope, label)
    own = scope.entries(tracked).filter(**{tracked.pk_attname: object_key(tracked, object_id)})
    keys = own.values_list("history_id", flat=True)
    key = keys.filter(history_date__lte=moment(at, "at")).order_by("-history_id").first()
    if key is not None:
        return get_entry(scope, tracked.label, key, wanted)
    oldest = own.order_by("history_id").values_list("history_type", "origin", "history_date").first()
    if oldest is None or is_creation(oldest[0], oldest[1]):
        return None
    raise HistoryPruned("The history that is kept begins later.", oldest=oldest[2].isoformat())
