"""Writes the steps of a plan set-wise, and their entries. Values are copied from history inside the database."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from koherent import recorder
from koherent.registry import TrackedModel
from koherent.revert import copying
from koherent.revert.links import coming, going
from koherent.revert.parking import park
from koherent.revert.plan import Plan
from koherent.revert.steps import NO_SOURCE, Planned
from koherent.revert.types import Key, Progress
from koherent.revert.values import Model, all_rows, batches, concrete
from koherent.saving import fits_one_statement
from koherent.writer import stamp, write_and_begin

Steps = dict[TrackedModel, list[Planned]]


class Writer:
    """Writes ``steps``, some or all of a plan's."""

    def __init__(self, plan: Plan, steps: list[Planned], progress: Progress | None) -> None:
        self.plan, self.progress = plan, progress
        self.written: list[Key] = []
        self.done, self.total = 0, len(steps)
        self.deletions: Steps = {}
        self.changes: Steps = {}
        self.creations: Steps = {}
        kinds = {"-": self.deletions, "~": self.changes, "+": self.creations}
        for step in steps:
            kinds[step.action].setdefault(step.tracked, []).append(step)
        self.by_key = {step.key: step for step in steps}
        self.touched: dict[TrackedModel, set[Any]] = defaultdict(set)

    def single_change(self) -> Planned | None:
        """The step, if there is only one and ``write_change()`` can write it."""
        step = next(iter(self.by_key.values()))
        if self.total > 1 or step.action != "~" or not any(source != NO_SOURCE for source in step.sources):
            return None
        alone = not step.tracked.model._meta.get_parent_list()
        if not alone or not fits_one_statement(step.tracked, connections[DEFAULT_DB_ALIAS]):
            return None
        return step

    def write_change(self, step: Planned, assignation_id: str, links: Mapping[str, str]) -> list[Key]:
        """PostgreSQL: a single change, its entry and the row of the assignation in one statement."""
        connection, tracked = connections[DEFAULT_DB_ALIAS], step.tracked
        update, params = copying.update_of_one(step)
        by = stamp(tracked, connection, "~")
        ids = write_and_begin(tracked, connection, update, params, by, assignation_id, links)
        self.tell(1)
        return [(tracked.label, history_id) for history_id in ids]

    def write(self) -> list[Key]:
        """Returns the keys of the new entries."""
        for tracked, steps in self.deletions.items():
            self.record(tracked, [step.pk for step in steps], "-")
        self.let_go()
        for tracked in {**self.changes, **self.deletions}:
            self.vacate(tracked)
        # Changes come before deletions: a database that cascades by itself would take the changed rows along.
        for tracked, steps in self.changes.items():
            for batch in batches(steps):
                copying.update(tracked, batch)
                self.tell(len(batch))
            self.touched[tracked].update(step.pk for step in steps)
        for tracked, steps in self.deletions.items():
            self.delete(tracked, [step.pk for step in steps])
            self.tell(len(steps))
        for tracked, steps in self.creations.items():
            for batch in batches(steps):
                copying.insert(tracked, batch)
                self.tell(len(batch))
        for kind in (self.changes, self.creations):
            for tracked, steps in kind.items():
                if tracked.m2m:
                    self.write_links(tracked, steps)
        for tracked, steps in self.creations.items():
            self.record(tracked, [step.pk for step in steps], "+")
        for tracked, pks in self.touched.items():
            self.record(tracked, sorted(pks, key=str), "~", links=True)
        return self.written

    def vacate(self, tracked: TrackedModel) -> None:
        """Rows that hold unique values which others get let go of them first, or go themselves."""
        model, integrity = concrete(tracked.model), self.plan.integrity
        for held, unique, pks in [*integrity.uniques.vacated, *integrity.constraints.vacated]:
            if held is model:
                left = park(tracked, unique, [self.by_key[model, pk] for pk in pks])
                copying.update(tracked, [step for step in left if step.action == "~"])
                self.delete(tracked, [step.pk for step in left if step.action == "-"])

    def tell(self, count: int) -> None:
        """So many more objects have been written."""
        self.done += count
        if self.progress is not None:
            self.progress("writing", self.done, self.total)

    def record(self, tracked: TrackedModel, pks: list[Any], action: str, links: bool = False) -> None:
        """Write entries of the rows as they are in the database now."""
        ids = recorder.record(tracked, DEFAULT_DB_ALIAS, pks, action, links=links)
        self.written += [(tracked.label, history_id) for history_id in ids]

    def let_go(self) -> None:
        """Entries of the trail lose their reference to a deleted account, as when it is deleted by other means."""
        nulls: dict[tuple[Model, str], set[Any]] = defaultdict(set)
        for steps in self.deletions.values():
            for step in steps:
                for relation, pk in self.plan.integrity.referrers.left(step, self.by_key):
                    nulls[relation.model, relation.field.name].add(pk)
        for (model, name), pks in nulls.items():
            for batch in batches(list(pks)):
                all_rows(model).filter(pk__in=batch).update(**{name: None})

    def delete(self, tracked: TrackedModel, pks: list[Any]) -> None:
        """Rows, their links and nothing else: the plan knows of every other row that refers to them."""
        relations: list[Any] = [r for r in tracked.model._meta.get_fields(include_hidden=True) if r.auto_created]
        links = {
            (r.related_model, r.field.attname)
            for r in relations
            if not r.concrete and r.one_to_many and r.related_model._meta.auto_created
        }
        links |= {(m2m.through, m2m.source_attname) for m2m in tracked.m2m}
        for batch in batches(pks):
            for through, attname in links:
                all_rows(through).filter(**{f"{attname}__in": batch})._raw_delete(DEFAULT_DB_ALIAS)
            for table in (tracked.model, *tracked.model._meta.get_parent_list()):
                all_rows(table).filter(pk__in=batch)._raw_delete(DEFAULT_DB_ALIAS)

    def write_links(self, tracked: TrackedModel, steps: list[Planned]) -> None:
        """Many-to-many links go and come as the plan says."""
        for m2m in tracked.m2m:
            gone: list[tuple[Any, Any]] = []
            come: list[tuple[int, Any]] = []
            for step in steps:
                if m2m.name not in step.links_then:
                    continue
                gone += [(step.pk, target) for target in going(step, m2m.name)]
                come += [(step.link_sources[m2m.name, target], target) for target in coming(step, m2m.name)]
            for pairs in batches(gone):
                copying.delete_links(m2m, pairs)
            for pairs in batches(come):
                copying.insert_links(m2m, pairs)
