"""Reading the trail: pages over all tracked tables, single entries, as-of, and assignations."""

from koherent.timeline.assignations import (
    AssignationInfo,
    AssignationPage,
    AssignationParts,
    assignation,
    assignations,
)
from koherent.timeline.cursors import Position
from koherent.timeline.entries import EVERYTHING, Entry, EntryUser, Wanted, deleted_actors, load, visible_keys
from koherent.timeline.filters import Filters
from koherent.timeline.pages import Page, Window, as_of, count, get_entry, page, page_size
from koherent.timeline.parents import (
    counts_of_assignations,
    counts_of_objects,
    pages_of_assignations,
    pages_of_objects,
)

__all__ = [
    "EVERYTHING",
    "AssignationInfo",
    "AssignationPage",
    "AssignationParts",
    "Entry",
    "EntryUser",
    "Filters",
    "Page",
    "Position",
    "Wanted",
    "Window",
    "as_of",
    "assignation",
    "assignations",
    "count",
    "counts_of_assignations",
    "counts_of_objects",
    "deleted_actors",
    "get_entry",
    "load",
    "page",
    "page_size",
    "pages_of_assignations",
    "pages_of_objects",
    "visible_keys",
]
