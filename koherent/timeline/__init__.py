"""Reading the trail: pages over all tracked tables, single entries, as-of, and assignations."""

from koherent.timeline.assignations import AssignationInfo, AssignationPage, assignation, assignations
from koherent.timeline.cursors import Position
from koherent.timeline.entries import EVERYTHING, Entry, EntryUser, Wanted, deleted_actors, load
from koherent.timeline.filters import Filters
from koherent.timeline.pages import Page, as_of, count, get_entry, page, page_size

__all__ = [
    "EVERYTHING",
    "AssignationInfo",
    "AssignationPage",
    "Entry",
    "EntryUser",
    "Filters",
    "Page",
    "Position",
    "Wanted",
    "as_of",
    "assignation",
    "assignations",
    "count",
    "deleted_actors",
    "get_entry",
    "load",
    "page",
    "page_size",
]
