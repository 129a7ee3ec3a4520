"""Takes old entries out of the history tables, a chunk and a transaction at a time."""

import datetime as dt
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from django.db import DEFAULT_DB_ALIAS, models, router, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Greatest
from django.utils import timezone

from koherent import registry
from koherent.conf import settings
from koherent.errors import BadInput
from koherent.feed.cursor import identity
from koherent.models import Assignation, Pruned
from koherent.registry import TrackedModel, tracked_on
from koherent.retention.rules import ObjectHistory, Row
from koherent.runs import runs_with_entry

BATCH = 5_000
COLUMNS = ("history_id", "history_date", "history_type", "origin", "position", "assignation_id")

#: Old enough that neither an open transaction nor a process that remembers the row (``commits.REMEMBER_SECONDS``)
#: relies on it.
ASSIGNATION_AGE = dt.timedelta(days=1)

#: What makes the row of a run one of its assignation only.
NO_RUN = dict.fromkeys(
    ("model", "first_id", "last_id", "history_date", "history_type", "app", "actor_id", "position"), None
)

logger = logging.getLogger("koherent")
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class ModelReport:
    """What a prune did in one model: ``entries`` that went, with ``links``, the many-to-many rows of theirs."""

    label: str
    entries: int
    links: int


@dataclass(frozen=True, kw_only=True)
class PruneReport:
    """What a prune did, or with ``dry_run`` would do.

    Nothing dated at ``cutoff`` or later was touched. ``assignations`` counts rows of assignations of which no entry is
    left; None in a dry run, which cannot tell.
    """

    cutoff: dt.datetime
    dry_run: bool
    models: tuple[ModelReport, ...]
    assignations: int | None

    @property
    def entries(self) -> int:
        """How many entries went, over all models."""
        return sum(model.entries for model in self.models)


def prune(
    *,
    before: dt.datetime | None = None,
    keep: int | None = None,
    models: Sequence[str] | None = None,
    dry_run: bool = False,
    using: str = DEFAULT_DB_ALIAS,
    progress: Progress | None = None,
) -> PruneReport:
    """Delete entries dated before ``before`` that are not among the newest ``keep`` of their object.

    At least one of the two has to be given. ``models`` are labels; None means all. Never deleted is what the feed may
    still be asked for (``FEED_RETENTION_DAYS``), and an object's newest old entry, which stays as its baseline.
    Commits chunk by chunk, so it can be interrupted and run again. ``progress`` is told how many more entries were
    looked at. Raises ``BadInput``.
    """
    if before is None and keep is None:
        raise BadInput("Say what may go: give before, keep or both.")
    if keep is not None and keep < 0:
        raise BadInput("keep is 0 or more.")
    fed = timezone.now() - dt.timedelta(days=settings().feed_retention_days)
    cutoff = fed if before is None else min(before, fed)
    pruned = registry.chosen(models, using)
    reports = tuple(_Prune(tracked, using, cutoff, keep or 0, dry_run, progress).run() for tracked in pruned)
    assignations = None
    if not dry_run:
        for tracked in pruned:
            _forget_runs(tracked, using, cutoff)
        assignations = _prune_assignations(using, min(fed, timezone.now() - ASSIGNATION_AGE))
    report = PruneReport(cutoff=cutoff, dry_run=dry_run, models=reports, assignations=assignations)
    if not dry_run:
        logger.info("pruned %d entries dated before %s", report.entries, cutoff.isoformat())
    return report


class _Prune:
    """The prune of one model: walks its history by (object, history id), which is an index."""

    def __init__(
        self,
        tracked: TrackedModel,
        using: str,
        cutoff: dt.datetime,
        keep: int,
        dry_run: bool,
        progress: Progress | None,
    ) -> None:
        self.tracked, self.using, self.dry_run, self.progress = tracked, using, dry_run, progress
        self.cutoff, self.keep = cutoff, keep
        self.history: models.QuerySet[models.Model] = tracked.history_model._base_manager.using(using)
        self.entries = self.links = 0

    def run(self) -> ModelReport:
        last: Row | None = None
        here = ObjectHistory(self.cutoff, self.keep)
        while chunk := self._read(last, here.settled):
            going: list[Row] = []
            for row in chunk:
                if last is None or row.pk != last.pk:
                    here = ObjectHistory(self.cutoff, self.keep)
                going += here.add(row)
                last = row
            if going:
                self._remove(going)
            if self.progress is not None:
                self.progress(len(chunk))
        return ModelReport(label=self.tracked.label, entries=self.entries, links=self.links)

    def _read(self, last: Row | None, settled: bool) -> list[Row]:
        """The next entries after ``last``; with ``settled``, the rest of its object is passed over."""
        key = self.tracked.pk_attname
        if last is None:
            return self._rows(self.history, BATCH)
        chunk: list[Row] = []
        if not settled:
            chunk = self._rows(self.history.filter(**{key: last.pk}, history_id__gt=last.history_id), BATCH)
        if len(chunk) < BATCH:
            chunk += self._rows(self.history.filter(**{f"{key}__gt": last.pk}), BATCH - len(chunk))
        return chunk

    def _rows(self, rows: "models.QuerySet[models.Model]", limit: int) -> list[Row]:
        key = self.tracked.pk_attname
        return [Row(*values) for values in rows.order_by(key, "history_id").values_list(key, *COLUMNS)[:limit]]

    def _remove(self, going: list[Row]) -> None:
        ids = [row.history_id for row in going]
        if self.dry_run:
            self.entries += len(ids)
            self.links += sum(self._links(ids, m.history_model).count() for m in self.tracked.m2m)
            return
        with transaction.atomic(using=self.using):
            self._leave_trace(going)
            self._mark_assignations(going)
            for m2m in self.tracked.m2m:
                self.links += self._links(ids, m2m.history_model).delete()[0]
            self.entries += self.history.filter(pk__in=ids).delete()[1].get(self.tracked.history_model._meta.label, 0)

    def _links(self, ids: list[int], model: type[models.Model]) -> "models.QuerySet[models.Model]":
        return model._base_manager.using(self.using).filter(history_id__in=ids)

    def _leave_trace(self, going: list[Row]) -> None:
        """How far the feed can no longer reach back; 0 where it never did, which still tells that something went."""
        if not router.allow_migrate_model(self.using, Pruned):
            return
        fed = [row for row in going if row.position]
        last_id = max((row.history_id for row in fed), default=0)
        last_position = max((row.position for row in fed), default=0)
        place = {"database": identity(self.using), "model": self.tracked.label}
        traces = Pruned.objects.using(self.using)
        # Creating it first makes the UPDATE the one lock that all prunes of a model take in turn.
        traces.get_or_create(**place, defaults={"history_id": last_id, "position": last_position})
        traces.filter(**place).update(
            history_id=Greatest("history_id", last_id), position=Greatest("position", last_position)
        )

    def _mark_assignations(self, going: list[Row]) -> None:
        """Undoing what is left of an assignation would not undo it."""
        ids = {row.assignation_id for row in going} - {None}
        if ids and router.allow_migrate_model(self.using, Assignation):
            rows = Assignation.objects.using(self.using).filter(assignation_id__in=ids, pruned_at=None)
            rows.update(pruned_at=timezone.now())


def _forget_runs(tracked: TrackedModel, using: str, cutoff: dt.datetime) -> None:
    """Take away a model's runs, dated before ``cutoff``, that have no entry left; their assignations keep the rows."""
    runs = runs_with_entry(tracked, using).filter(history_date__lt=cutoff).order_by("history_date", "first_id")
    rows = page = runs.values_list("pk", "entry", "history_date", "first_id")
    while found := list(page[:BATCH]):
        empty = Assignation.objects.using(using).filter(pk__in=[pk for pk, entry, _, _ in found if entry is None])
        empty.filter(assignation_id=None).delete()
        empty.update(**NO_RUN)
        date, first = found[-1][2:]
        # The first condition is implied by the second; it lets the index be entered at the right place.
        page = rows.filter(Q(history_date__gt=date) | Q(first_id__gt=first), history_date__gte=date)


def _prune_assignations(using: str, horizon: dt.datetime) -> int:
    """Delete the rows, older than ``horizon``, of assignations that have no entry in any model; returns how many.

    A run is taken for entries: when it has none, the prune of its model sees to it.
    """
    if not router.allow_migrate_model(using, Assignation):
        return 0
    assignations = Assignation.objects.using(using).order_by()
    alone = [tracked.history_model._base_manager.using(using).filter(in_run=False) for tracked in tracked_on(using)]
    deleted = 0
    for keys in _assignation_chunks(using, horizon):
        empty = assignations.filter(pk__in=keys)
        for entries in (*alone, assignations.filter(model__isnull=False)):
            empty = empty.filter(~Exists(entries.filter(assignation_id=OuterRef("assignation_id"))))
        deleted += empty.delete()[0]
    return deleted


def _assignation_chunks(using: str, horizon: dt.datetime) -> Iterator[list[int]]:
    rows = Assignation.objects.using(using).filter(model=None, started_at__lt=horizon).order_by("pk")
    last = 0
    while keys := list(rows.filter(pk__gt=last).values_list("pk", flat=True)[:BATCH]):
        yield keys
        last = keys[-1]
