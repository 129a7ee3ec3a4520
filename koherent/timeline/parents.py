"""Pages of many parents at once: the histories of many objects, the entries of many assignations."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Q

from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.runs import having
from koherent.timeline.entries import EVERYTHING, Entry, Wanted, materialise
from koherent.timeline.filters import Filters, Selected
from koherent.timeline.pages import NO_FILTERS, Bound, Page, Window, searches
from koherent.timeline.search import Found, FoundFor, find_each


@dataclass(frozen=True)
class _Parents:
    """What the pages are of: entries whose ``column(model)`` is one of ``keys``, among what a filter selects."""

    scope: Scope
    selected: Sequence[Selected]
    column: Callable[[TrackedModel], str]
    keys: Sequence[Any]

    def find(
        self, bound: Bound, limit: int, *, newest_first: bool = True, neighbours: bool = False
    ) -> list[list[Found]]:
        """For each key the first entries in browsing order; one statement a model."""
        hits: list[FoundFor] = []
        ranks = {selected.tracked: rank for rank, selected in enumerate(self.selected)}
        for tracked in ranks:
            parts = searches(self.scope, [s for s in self.selected if s.tracked is tracked], bound)
            column = self.column(tracked)
            hits += find_each(
                self.scope,
                tracked,
                column,
                self.keys,
                parts,
                limit=limit,
                newest_first=newest_first,
                neighbours=neighbours,
            )
        hits.sort(key=lambda hit: (hit.date, ranks[hit.found.tracked], hit.found.history_id), reverse=newest_first)
        found: list[list[Found]] = [[] for _ in self.keys]
        for hit in hits:
            if len(found[hit.place]) < limit:
                found[hit.place].append(hit.found)
        return found

    def pages(self, window: Window, wanted: Wanted) -> dict[Any, Page]:
        """A page for each key."""
        found = self.find(window.within, window.size + 1, newest_first=not window.backwards, neighbours=wanted.changes)
        cuts = [window.cut(hits) for hits in found]
        entries = materialise(self.scope, [hit for shown, _ in cuts for hit in shown], wanted)
        loaded: dict[Any, Entry] = {(entry.tracked, entry.history_id): entry for entry in entries}
        nothing: list[list[Found]] = [[] for _ in self.keys]
        newer = self.find(window.ahead, 1) if wanted.previous else nothing
        older = self.find(window.behind, 1) if wanted.next else nothing
        return {
            key: Page(
                entries=[loaded[hit.key] for hit in shown if hit.key in loaded],
                has_next_page=bool(older[place]) or (more and not window.backwards),
                has_previous_page=bool(newer[place]) or (more and window.backwards),
            )
            for place, (key, (shown, more)) in enumerate(zip(self.keys, cuts, strict=True))
        }

    def counts(self) -> dict[Any, int]:
        """How many entries each key has; one statement a model."""
        counts = dict.fromkeys(self.keys, 0)
        for selected in self.selected:
            tracked, column = selected.tracked, self.column(selected.tracked)
            condition = selected.whole & Q(**{f"{column}__in": self.keys})
            # By key there are few runs; each entry of theirs is looked up once, and they need no more.
            found = condition if selected.of_object else having(tracked, DEFAULT_DB_ALIAS, condition)
            rows = self.scope.entries(tracked).filter(found)
            for key, count in rows.values_list(column).annotate(Count("history_id")).order_by():
                counts[key] += count
        return counts


def _of_objects(scope: Scope, tracked: TrackedModel, keys: Sequence[Any], filters: Filters) -> _Parents:
    selected = [replace(some, of_object=True) for some in filters.resolve(scope) if some.tracked is tracked]
    return _Parents(scope, selected, lambda model: model.pk_attname, keys)


def _of_assignations(scope: Scope, ids: Sequence[str]) -> _Parents:
    return _Parents(scope, NO_FILTERS.resolve(scope), lambda _: "assignation_id", ids)


def pages_of_objects(
    scope: Scope,
    tracked: TrackedModel,
    keys: Sequence[Any],
    window: Window,
    filters: Filters = NO_FILTERS,
    wanted: Wanted = EVERYTHING,
) -> dict[Any, Page]:
    """A page of each object's history, in a constant number of statements.

    ``keys`` are the objects' primary keys. The history of a model that is not visible is empty. Raises ``BadFilter``.
    """
    return _of_objects(scope, tracked, keys, filters).pages(window, wanted)


def counts_of_objects(
    scope: Scope, tracked: TrackedModel, keys: Sequence[Any], filters: Filters = NO_FILTERS
) -> dict[Any, int]:
    """How many visible entries of each object match; one statement. Raises ``BadFilter``."""
    return _of_objects(scope, tracked, keys, filters).counts()


def pages_of_assignations(
    scope: Scope, ids: Sequence[str], window: Window, wanted: Wanted = EVERYTHING
) -> dict[str, Page]:
    """A page of each assignation's entries, in a constant number of statements."""
    return _of_assignations(scope, ids).pages(window, wanted)


def counts_of_assignations(scope: Scope, ids: Sequence[str]) -> dict[str, int]:
    """How many visible entries each assignation has; one statement a model."""
    return _of_assignations(scope, ids).counts()
