"""Assignations: units of work, as far as a viewer sees their entries, in a constant number of statements a page."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import BigIntegerField, F, Min, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce

from koherent.errors import BadCursor
from koherent.models import Assignation
from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.runs import runs_of
from koherent.timeline.cursors import decode_cursor, encode_cursor, is_id
from koherent.timeline.entries import EntryUser, deleted_actors
from koherent.timeline.filters import storable
from koherent.timeline.pages import page_size
from koherent.timeline.parents import counts_of_assignations
from koherent.timeline.parts import participants, spans
from koherent.timeline.search import Search, find


@dataclass(frozen=True, kw_only=True)
class AssignationInfo:
    """One unit of work, as far as the viewer sees its entries.

    ``users`` and ``apps`` by name, ``models`` by label. ``reverts``: the id of the assignation that this one undid;
    ``reverts_entry``: (label, history id) of the entry that it went back to; ``reverted_by``: the ids of the reverts of
    this one, oldest first. ``entry_count`` is None, and the lists are empty, where they were not wanted.
    """

    id: str
    started_at: dt.datetime
    ended_at: dt.datetime
    models: list[str]
    users: list[EntryUser] = field(default_factory=list)
    apps: list[str] = field(default_factory=list)
    entry_count: int | None = None
    reverts: str | None = None
    reverts_entry: tuple[str, int] | None = None
    reverted_by: list[str] = field(default_factory=list)
    cursor: str = ""


@dataclass(frozen=True, kw_only=True)
class AssignationPage:
    """A stretch of the assignations, newest first."""

    items: list[AssignationInfo]
    has_next_page: bool
    has_previous_page: bool


@dataclass(frozen=True, kw_only=True)
class AssignationParts:
    """What to find out about assignations besides when they were and which models they changed.

    ``people``: users and apps; ``accounts``: whether the users' accounts are gone; ``count``: how many entries, which
    takes reading an index entry for each; ``reverts``: what undid what; ``previous``: whether a page has one before.
    """

    people: bool = True
    accounts: bool = True
    count: bool = True
    reverts: bool = True
    previous: bool = True


ALL_PARTS = AssignationParts()


def assignation(scope: Scope, id: str, parts: AssignationParts = ALL_PARTS) -> AssignationInfo | None:
    """One assignation; None when it is unknown or none of its entries is visible."""
    return _details(scope, [id], parts).get(id) if storable(id) else None


def assignations(
    scope: Scope, *, first: int | None = None, after: str | None = None, parts: AssignationParts = ALL_PARTS
) -> AssignationPage:
    """The assignations with visible entries, by their beginning, newest first.

    Reads the rows of ``Assignation``, and an index entry of the history for each. Raises ``BadPage``,
    ``LimitExceeded``, ``BadCursor``.
    """
    size = page_size(first)
    place = None if after is None else _decode(after)
    rows = Assignation.objects.using(DEFAULT_DB_ALIAS).filter(assignation_id__isnull=False)
    seen = [subquery for tracked in scope.models for subquery in _seen(scope, tracked)]
    if not seen:
        return AssignationPage(items=[], has_next_page=False, has_previous_page=False)
    # Two transactions may begin the same assignation at once: the older row counts.
    same = rows.filter(assignation_id=OuterRef("assignation_id")).order_by().values("assignation_id")
    listed = rows.alias(seen=Coalesce(*seen), oldest=Subquery(same.values(oldest=Min("id")))).filter(
        oldest=F("id"), seen__isnull=False
    )
    older = listed if place is None else listed.filter(pk__lt=place)
    found = list(older.order_by("-pk").values_list("pk", "assignation_id")[: size + 1])
    shown = [(pk, id) for pk, id in found[:size] if id is not None]
    infos = _details(scope, [id for _, id in shown], parts)
    return AssignationPage(
        items=[replace(infos[id], cursor=_encode(pk)) for pk, id in shown if id in infos],
        has_next_page=len(found) > size,
        has_previous_page=parts.previous and place is not None and listed.filter(pk__gte=place)[:1].exists(),
    )


def _seen(scope: Scope, tracked: TrackedModel) -> list[Subquery]:
    """Subqueries of ``Assignation`` that give a visible entry of a model, alone or in a run, each NULL without one.

    Scalar ones, because PostgreSQL may make a hash of all that an EXISTS could ask for: of the whole history.
    """
    rows, own = scope.entries(tracked), OuterRef("assignation_id")
    if rows.query.is_empty():
        # A policy that shows none of them: to Django, nothing would come of the whole statement.
        return []
    within = {"history_id__gte": OuterRef("first_id"), "history_id__lte": OuterRef("last_id")}
    entry = Subquery(rows.filter(in_run=True, **within).values("history_id")[:1])
    runs = runs_of(tracked, DEFAULT_DB_ALIAS).filter(assignation_id=own).alias(entry=entry).filter(entry__isnull=False)
    alone = rows.filter(assignation_id=own, in_run=False).values("history_id")[:1]
    return [Subquery(found, output_field=BigIntegerField()) for found in (alone, runs.values("first_id")[:1])]


def _encode(pk: int) -> str:
    return encode_cursor(["assignation", pk])


def _decode(cursor: str) -> int:
    match decode_cursor(cursor):
        case ["assignation", int(pk)] if is_id(pk):
            return pk
    raise BadCursor("This is no cursor of a list of assignations.")


def _details(scope: Scope, ids: Sequence[str], parts: AssignationParts) -> dict[str, AssignationInfo]:
    infos: dict[str, AssignationInfo] = {}
    for id, times in spans(scope, ids).items():
        begun, ended = (span for span in zip(*times.values(), strict=True))
        infos[id] = AssignationInfo(
            id=id, started_at=min(begun), ended_at=max(ended), models=[tracked.label for tracked in times]
        )
    if not infos:
        return infos
    about: dict[str, dict[str, Any]] = {id: {} for id in infos}
    if parts.people:
        _add_people(scope, about, parts.accounts)
    if parts.count:
        for id, count in counts_of_assignations(scope, list(infos)).items():
            about[id]["entry_count"] = count
    if parts.reverts:
        _add_reverts(scope, about)
    return {id: replace(info, **about[id]) for id, info in infos.items()}


def _add_people(scope: Scope, about: dict[str, dict[str, Any]], accounts: bool) -> None:
    taking_part = participants(scope, list(about))
    keys = {key for names, _ in taking_part.values() for key in names}
    gone = deleted_actors(keys) if accounts else set()
    for id, (names, apps) in taking_part.items():
        by_name = sorted(names.items(), key=lambda item: (item[1], item[0]))
        about[id]["users"] = [EntryUser(key, name, key in gone) for key, name in by_name]
        about[id]["apps"] = sorted(apps)


def _add_reverts(scope: Scope, about: dict[str, dict[str, Any]]) -> None:
    rows = Assignation.objects.using(DEFAULT_DB_ALIAS).order_by("pk")
    undone: dict[str, tuple[str | None, str | None]] = {}
    saying = rows.filter(Q(reverts__isnull=False) | Q(reverts_entry__isnull=False), assignation_id__in=about)
    for id, reverts, entry in saying.values_list("assignation_id", "reverts", "reverts_entry"):
        undone[str(id)] = (reverts, entry)
    undoing: dict[str, list[str]] = {id: [] for id in about}
    for id, reverts in rows.filter(reverts__in=about).values_list("assignation_id", "reverts"):
        if id is not None and reverts is not None and id not in undoing[reverts]:
            undoing[reverts].append(id)
    others = {id for reverting in undoing.values() for id in reverting} | {r for r, _ in undone.values() if r}
    shown = spans(scope, sorted(others))
    entries = _visible_entries(scope, [entry for _, entry in undone.values() if entry])
    for id, parts in about.items():
        reverts, entry = undone.get(id, (None, None))
        parts["reverts"] = reverts if reverts in shown else None
        parts["reverts_entry"] = entries.get(entry) if entry else None
        parts["reverted_by"] = [other for other in undoing[id] if other in shown]


def _visible_entries(scope: Scope, texts: Collection[str]) -> dict[str, tuple[str, int]]:
    """``label:history_id`` -> its parts, for those that are visible. One statement."""
    keys: dict[str, tuple[str, int]] = {}
    for text in texts:
        label, _, number = text.rpartition(":")
        if number.isdecimal():
            keys[text] = (label, int(number))
    searches = []
    for tracked in scope.models:
        wanted = [history_id for label, history_id in keys.values() if label == tracked.label]
        searches.append(Search(tracked, scope.entries(tracked).filter(history_id__in=wanted)))
    seen = {(hit.tracked.label, hit.history_id) for hit in find(scope, searches, neighbours=False)}
    return {text: key for text, key in keys.items() if key in seen}
