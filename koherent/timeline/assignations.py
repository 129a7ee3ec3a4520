"""Assignations: units of work, summed up from their visible entries in a constant number of statements."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Exists, Max, Min, OuterRef, Q

from koherent.errors import BadCursor
from koherent.models import Assignation
from koherent.policy import Scope
from koherent.timeline.cursors import decode_cursor, encode_cursor, is_id
from koherent.timeline.entries import EntryUser, deleted_actors
from koherent.timeline.filters import storable
from koherent.timeline.pages import page_size


@dataclass(frozen=True, kw_only=True)
class AssignationInfo:
    """One unit of work, as far as the viewer sees its entries.

    ``users``, ``apps`` and ``models`` in the order of their first entry (models by label). ``reverts``: the id of the
    assignation that this one undid; ``reverts_entry``: (label, history id) of the entry that it went back to;
    ``reverted_by``: the ids of the reverts of this one, oldest first.
    """

    id: str
    started_at: dt.datetime
    ended_at: dt.datetime
    users: list[EntryUser]
    apps: list[str]
    models: list[str]
    entry_count: int
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


@dataclass
class _Sum:
    started_at: dt.datetime
    ended_at: dt.datetime
    count: int = 0
    models: list[str] = field(default_factory=list)
    apps: dict[str, dt.datetime] = field(default_factory=dict)
    # Account's key -> (first seen, last seen, name when last seen)
    users: dict[str, tuple[dt.datetime, dt.datetime, str]] = field(default_factory=dict)


def assignation(scope: Scope, id: str) -> AssignationInfo | None:
    """One assignation; None when it is unknown or none of its entries is visible."""
    infos = _details(scope, [id] if storable(id) else [])
    return infos.get(id)


def assignations(scope: Scope, *, first: int | None = None, after: str | None = None) -> AssignationPage:
    """The assignations with visible entries, by their beginning, newest first.

    Raises ``BadPage``, ``LimitExceeded``, ``BadCursor``.
    """
    size = page_size(first)
    rows = Assignation.objects.using(DEFAULT_DB_ALIAS)
    # Two transactions may begin the same assignation at once: the older row counts.
    older = rows.filter(assignation_id=OuterRef("assignation_id"), pk__lt=OuterRef("pk"))
    visible = Q()
    for tracked in scope.models:
        visible |= Q(Exists(scope.entries(tracked).filter(assignation_id=OuterRef("assignation_id"))))
    listed = rows.filter(~Exists(older), visible).order_by("-pk")
    if after is not None:
        listed = listed.filter(pk__lt=_decode(after))
    found = list(listed.values_list("pk", "assignation_id")[: size + 1])
    shown = found[:size]
    infos = _details(scope, [id for _, id in shown], cursors={id: _encode(pk) for pk, id in shown})
    return AssignationPage(
        items=[infos[id] for _, id in shown if id in infos],
        has_next_page=len(found) > size,
        has_previous_page=after is not None,
    )


def _encode(pk: int) -> str:
    return encode_cursor(["assignation", pk])


def _decode(cursor: str) -> int:
    match decode_cursor(cursor):
        case ["assignation", int(pk)] if is_id(pk):
            return pk
    raise BadCursor("This is no cursor of a list of assignations.")


def _details(scope: Scope, ids: Sequence[str], *, cursors: dict[str, str] | None = None) -> dict[str, AssignationInfo]:
    if not ids:
        return {}
    sums = _sums(scope, ids)
    rows = Assignation.objects.using(DEFAULT_DB_ALIAS).order_by("pk")
    undone: dict[str, tuple[str | None, str | None]] = {}
    for id, reverts, entry in rows.filter(assignation_id__in=ids).values_list(
        "assignation_id", "reverts", "reverts_entry"
    ):
        undone.setdefault(id, (reverts, entry))
    undoing: dict[str, list[str]] = {}
    for id, reverts in rows.filter(reverts__in=ids).values_list("assignation_id", "reverts"):
        if reverts is not None and id not in undoing.setdefault(reverts, []):
            undoing[reverts].append(id)
    others = {id for reverting in undoing.values() for id in reverting} | {r for r, _ in undone.values() if r}
    shown = _visible_ids(scope, others)
    entries = _visible_entries(scope, [entry for _, entry in undone.values() if entry])
    gone = deleted_actors({key for total in sums.values() for key in total.users})
    infos = {}
    for id, total in sums.items():
        reverts, entry = undone.get(id, (None, None))
        infos[id] = AssignationInfo(
            id=id,
            started_at=total.started_at,
            ended_at=total.ended_at,
            users=[
                EntryUser(key, name, key in gone)
                for key, (_, _, name) in sorted(total.users.items(), key=lambda item: (item[1][0], item[0]))
            ],
            apps=sorted(total.apps, key=lambda app: (total.apps[app], app)),
            models=total.models,
            entry_count=total.count,
            reverts=reverts if reverts in shown else None,
            reverts_entry=entries.get(entry) if entry else None,
            reverted_by=[other for other in undoing.get(id, []) if other in shown],
            cursor=(cursors or {}).get(id, ""),
        )
    return infos


def _sums(scope: Scope, ids: Sequence[str]) -> dict[str, _Sum]:
    """One statement for each model."""
    sums: dict[str, _Sum] = {}
    for tracked in scope.models:
        groups = (
            scope.entries(tracked)
            .filter(assignation_id__in=ids)
            .values_list("assignation_id", "actor_id", "actor_name", "app")
            .annotate(started=Min("history_date"), ended=Max("history_date"), entries=Count("history_id"))
        )
        for id, actor, name, app, started, ended, entries in groups.order_by():
            total = sums.setdefault(id, _Sum(started, ended))
            total.started_at, total.ended_at = min(total.started_at, started), max(total.ended_at, ended)
            total.count += entries
            if tracked.label not in total.models:
                total.models.append(tracked.label)
            if app is not None:
                total.apps[app] = min(total.apps.get(app, started), started)
            if actor is not None:
                since, until, known = total.users.get(actor, (started, ended, name or ""))
                latest = known if until > ended else name or ""
                total.users[actor] = (min(since, started), max(until, ended), latest)
    return sums


def _visible_ids(scope: Scope, ids: Collection[str]) -> set[str]:
    """Those of the assignations that have a visible entry."""
    seen: set[str] = set()
    if ids:
        for tracked in scope.models:
            rows = scope.entries(tracked).filter(assignation_id__in=ids)
            seen.update(rows.values_list("assignation_id", flat=True).distinct())
    return seen


def _visible_entries(scope: Scope, texts: Sequence[str]) -> dict[str, tuple[str, int]]:
    """``label:history_id`` -> its parts, for those that are visible."""
    keys: dict[str, tuple[str, int]] = {}
    for text in texts:
        label, _, number = text.rpartition(":")
        if number.isdecimal():
            keys[text] = (label, int(number))
    seen: set[tuple[str, int]] = set()
    for tracked in {t for label, _ in keys.values() if (t := scope.tracked(label)) is not None}:
        wanted = [history_id for label, history_id in keys.values() if label == tracked.label]
        found = scope.entries(tracked).filter(history_id__in=wanted).values_list("history_id", flat=True)
        seen.update((tracked.label, history_id) for history_id in found)
    return {text: key for text, key in keys.items() if key in seen}
