"""From an entry, or an assignation, to steps and conflicts. Reads only, in batches of objects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import DEFAULT_DB_ALIAS
from django.db.models import Count, Value

from koherent import registry
from koherent.errors import HistoryPruned
from koherent.models import Assignation
from koherent.registry import TrackedModel
from koherent.revert.authorise import Guard
from koherent.revert.delta import delta_of
from koherent.revert.integrity import Integrity
from koherent.revert.later import name_later_entries
from koherent.revert.live import read_live
from koherent.revert.nulling import nulling_steps
from koherent.revert.order import depths, in_order
from koherent.revert.pair import read_pair
from koherent.revert.planner import Planner
from koherent.revert.references import Referrers
from koherent.revert.steps import Planned
from koherent.revert.types import Progress
from koherent.revert.validity import check_clean
from koherent.revert.values import BATCH, all_rows, batches, concrete
from koherent.revert.versions import Versions, in_assignation

# SQLite takes so many parts of a UNION, and more.
UNION = 100


@dataclass(eq=False)
class Plan:
    """The steps, deletions first, and what the checks know about them."""

    steps: list[Planned]
    integrity: Integrity

    def settle(self) -> None:
        """Leave out the conflicting steps, and with them those that depend on them, until the rest stands."""
        while True:
            fresh = [step for step in self.steps if step.conflicts and not step.skipped]
            if not fresh:
                return
            for step in fresh:
                step.skipped = True
            active = {step.key for step in self.steps if not step.skipped}
            for step in self.steps:
                if not step.causes <= active:
                    step.skipped = True
            self.integrity.check([step for step in self.steps if not step.skipped])


@dataclass(frozen=True, kw_only=True)
class Planning:
    """How to plan: under row locks or not, for whom (``guard``), and whom to tell how far it is."""

    guard: Guard
    lock: bool = False
    progress: Progress | None = None

    def tell(self, done: int, total: int) -> None:
        """So many objects have been planned."""
        if self.progress is not None:
            self.progress("planning", done, total)


def objects_of(assignation_id: str) -> dict[TrackedModel, int]:
    """How many objects of each model an assignation wrote entries for."""
    here = registry.tracked_on()
    found: dict[str, int] = {}
    for models in batches(here, UNION):
        counts = [
            all_rows(tracked.history_model)
            .filter(in_assignation(tracked, assignation_id))
            .order_by()
            .values("assignation_id")
            .annotate(objects=Count(tracked.pk_attname, distinct=True))
            .values_list(Value(tracked.label), "objects")
            for tracked in models
        ]
        found.update(dict(counts[0].union(*counts[1:], all=True).order_by() if len(counts) > 1 else counts[0]))
    return {tracked: found[tracked.label] for tracked in here if tracked.label in found}


def entry_plan(versions: Versions, history_id: int, planning: Planning) -> Plan:
    """The plan to give an object the values of one of its entries. Raises ``NotFound``."""
    tracked = versions.tracked
    planner = Planner(tracked, planning.guard.label)
    pair = read_pair(versions, history_id, planning.lock)
    if pair is None:
        version = versions.one(history_id)
        planner.live = read_live(tracked, [version.pk], planning.lock)
    else:
        version, planner.live = pair
    step = planner.to_version(version.pk, version)
    steps = [] if step is None else [step]
    planning.guard.check(tracked, {version.id: version.pk}, steps)
    return _checked(steps, planning)


def assignation_plan(assignation_id: str, objects: Mapping[TrackedModel, int], planning: Planning) -> Plan:
    """The plan to undo an assignation that wrote about ``objects``. Raises ``HistoryPruned``."""
    steps: list[Planned] = []
    done, total = 0, sum(objects.values())
    depth = depths({concrete(tracked.model) for tracked in objects})
    # Rows are locked in the order in which Django deletes: a cascade under way and we must not wait for each other.
    for tracked in sorted(objects, key=lambda t: (-depth[concrete(t.model)], t.label)):
        count = objects[tracked]
        versions = Versions(tracked)
        planner = Planner(tracked, planning.guard.label)
        for ids in versions.batches_of(assignation_id) if count > BATCH else [None]:
            objects_done, planned = _undo_batch(assignation_id, ids, versions, planner, planning)
            steps += planned
            done += objects_done
            planning.tell(done, total)
    rows = Assignation.objects.using(DEFAULT_DB_ALIAS).filter(assignation_id=assignation_id)
    if rows.filter(pruned_at__isnull=False).exists():
        raise HistoryPruned("Some entries of the assignation were pruned: it can no longer be undone as a whole.")
    return _checked(steps, planning)


def _undo_batch(
    assignation_id: str, ids: Sequence[int] | None, versions: Versions, planner: Planner, planning: Planning
) -> tuple[int, list[Planned]]:
    """How many objects these entries are about, and their steps."""
    tracked = versions.tracked
    objects, previous = versions.of_assignation(assignation_id, ids)
    live = planner.live = read_live(tracked, sorted(objects), planning.lock)
    deltas = {pk: delta_of(tracked, rows, previous) for pk, rows in objects.items()}
    newest = versions.newest(
        pk for pk, delta in deltas.items() if delta.existed and delta.exists and pk not in live.rows
    )
    final = versions.read(newest.values())
    planned: dict[Any, Planned] = {}
    for pk, delta in deltas.items():
        step = planner.undo(pk, delta, final[newest[pk]] if pk in newest else None)
        if step is not None:
            planned[pk] = step
    own = {version.id: pk for pk, rows in objects.items() for version in rows}
    planning.guard.check(tracked, own, planned.values())
    name_later_entries(versions, planned, deltas)
    return len(objects), list(planned.values())


def _checked(steps: list[Planned], planning: Planning) -> Plan:
    referrers = Referrers(steps)
    ordered = in_order([*steps, *nulling_steps(steps, referrers, planning.guard, planning.lock)])
    integrity = Integrity(ordered, referrers, planning.guard.scope)
    integrity.check(ordered)
    check_clean(ordered)
    return Plan(ordered, integrity)
