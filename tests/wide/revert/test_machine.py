"""Random work on three linked models, undone and redone in any order, beside a model of it in memory.

``REVERT_EXAMPLES`` says how many runs; ``make deep`` does many.
"""

import copy
import itertools
import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from koherent import audit, timeline
from koherent.policy import Viewer, scope_for
from koherent.revert import Report, RevertPolicy, RevertStatus, revert_assignation
from tests.wide.models import Box, Mark, Shelf

EXAMPLES = int(os.environ.get("REVERT_EXAMPLES", "15"))
NAMES = [f"n{number}" for number in range(8)]

#: model -> key as text -> field -> value as JSON has it; many-to-many fields are sets.
State = dict[str, dict[str, dict[str, Any]]]
Draw = Callable[[Any], Any]


def in_database() -> State:
    """What the tables hold."""
    found: State = {"shelf": {}, "box": {}, "mark": {}}
    for shelf in Shelf.objects.all():
        above = None if shelf.above_id is None else str(shelf.above_id)
        found["shelf"][str(shelf.pk)] = {"name": shelf.name, "above": above}
    for mark in Mark.objects.all():
        found["mark"][str(mark.pk)] = {"name": mark.name}
    for box in Box.objects.prefetch_related("marks"):
        found["box"][str(box.pk)] = {
            "code": box.code,
            "shelf": str(box.shelf_id),
            "spare": None if box.spare_id is None else str(box.spare_id),
            "marks": {mark.pk for mark in box.marks.all()},
        }
    return found


def in_order(options: Iterable[Any]) -> list[Any]:
    """The same for the same run: keys by their numbers, anything else as it comes."""
    given = list(options)
    return sorted(given, key=lambda key: (len(key), key)) if all(isinstance(key, str) for key in given) else given


class Work:
    """Each change is made to the tables and to the state in memory."""

    def __init__(self, state: State, draw: Draw, numbers: Iterator[int]) -> None:
        self.state, self.draw, self.numbers = state, draw, numbers

    def change(self) -> None:
        """One change of any kind that is possible now."""
        shelves, boxes, marks = (self.state[name] for name in ("shelf", "box", "mark"))
        possible = [self.create_shelf, self.create_mark]
        if shelves:
            possible += [self.create_box, self.move_shelf, self.rename_shelf, self.delete_shelf]
        if boxes:
            possible += [self.move_box, self.spare_box, self.number_boxes, self.mark_box, self.delete_box]
        if len(shelves) > 1:
            possible.append(self.swap_shelves)
        if len(boxes) > 1:
            possible.append(self.swap_boxes)
        if marks:
            possible.append(self.delete_mark)
        self.one(possible)()

    def one(self, options: Any) -> Any:
        return self.draw(st.sampled_from(in_order(options)))

    def maybe(self, options: Any) -> Any:
        return self.draw(st.none() | st.sampled_from(in_order(options)))

    def free(self, model: str) -> str | None:
        left = [name for name in NAMES if name not in {row["name"] for row in self.state[model].values()}]
        return self.one(left) if left else None

    def create_shelf(self) -> None:
        name, above = self.free("shelf"), self.maybe(self.state["shelf"]) if self.state["shelf"] else None
        if name is not None:
            made = Shelf.objects.create(id=uuid.UUID(int=next(self.numbers)), name=name, above_id=above)
            self.state["shelf"][str(made.pk)] = {"name": name, "above": above}

    def create_mark(self) -> None:
        name = self.free("mark")
        if name is not None:
            self.state["mark"][str(Mark.objects.create(id=next(self.numbers), name=name).pk)] = {"name": name}

    def create_box(self) -> None:
        code = max((row["code"] for row in self.state["box"].values()), default=0) + self.draw(st.integers(1, 3))
        shelf, spare = self.one(self.state["shelf"]), self.maybe(self.state["shelf"])
        made = Box.objects.create(id=next(self.numbers), code=code, shelf_id=uuid.UUID(shelf), spare_id=spare)
        self.state["box"][str(made.pk)] = {"code": code, "shelf": shelf, "spare": spare, "marks": set()}

    def rename_shelf(self) -> None:
        key, name = self.one(self.state["shelf"]), self.free("shelf")
        if name is not None:
            shelf = Shelf.objects.get(pk=key)
            shelf.name = name
            shelf.save()
            self.state["shelf"][key]["name"] = name

    def move_shelf(self) -> None:
        key, above = self.one(self.state["shelf"]), self.maybe(self.state["shelf"])
        Shelf.objects.filter(pk=key).update(above=above)
        self.state["shelf"][key]["above"] = above

    def move_box(self) -> None:
        key, shelf = self.one(self.state["box"]), self.one(self.state["shelf"])
        Box.objects.filter(pk=key).update(shelf=shelf)
        self.state["box"][key]["shelf"] = shelf

    def spare_box(self) -> None:
        key, spare = self.one(self.state["box"]), self.maybe(self.state["shelf"])
        box = Box.objects.get(pk=key)
        box.spare_id = None if spare is None else uuid.UUID(spare)
        box.save(update_fields=["spare"])
        self.state["box"][key]["spare"] = spare

    def number_boxes(self) -> None:
        Box.objects.update(code=F("code") + 100)
        for row in self.state["box"].values():
            row["code"] += 100

    def mark_box(self) -> None:
        key = self.one(self.state["box"])
        marks = {int(mark) for mark in in_order(self.state["mark"]) if self.draw(st.booleans())}
        Box.objects.get(pk=key).marks.set(marks)
        self.state["box"][key]["marks"] = marks

    def swap_shelves(self) -> None:
        self.swap(Shelf, "shelf", "name", "between")

    def swap_boxes(self) -> None:
        self.swap(Box, "box", "code", -1)

    def swap(self, model: Any, label: str, field: str, between: Any) -> None:
        keys = self.draw(st.permutations(in_order(self.state[label])))[:2]
        rows = [self.state[label][key] for key in keys]
        one, other = (row[field] for row in rows)
        for key, value in ((keys[0], between), (keys[1], one), (keys[0], other)):
            model.objects.filter(pk=key).update(**{field: value})
        rows[0][field], rows[1][field] = other, one

    def delete_shelf(self) -> None:
        key = self.one(self.state["shelf"])
        Shelf.objects.get(pk=key).delete()
        del self.state["shelf"][key]
        self.state["box"] = {k: row for k, row in self.state["box"].items() if row["shelf"] != key}
        for rows, field in ((self.state["box"], "spare"), (self.state["shelf"], "above")):
            for row in rows.values():
                row[field] = None if row[field] == key else row[field]

    def delete_box(self) -> None:
        key = self.one(self.state["box"])
        Box.objects.filter(pk=key).delete()
        del self.state["box"][key]

    def delete_mark(self) -> None:
        key = self.one(self.state["mark"])
        Mark.objects.get(pk=key).delete()
        del self.state["mark"][key]
        for row in self.state["box"].values():
            row["marks"].discard(int(key))


def as_planned(state: State, report: Report) -> State:
    """The state after the steps of a report that were applied, and nothing else."""
    state = copy.deepcopy(state)
    for step in report.steps:
        if not step.applied:
            continue
        rows = state[step.tracked.label.removeprefix("wide.")]
        if step.action == "-":
            del rows[step.object_id]
            continue
        if step.action == "+":
            names = sorted(step.tracked.names - {"id"})
            rows[step.object_id] = {name: set() if name == "marks" else None for name in names}
        row = rows[step.object_id]
        for change in step.changes:
            if change.added is not None and change.removed is not None:
                row[change.field] = (row[change.field] | set(change.added)) - set(change.removed)
            else:
                assert step.action == "+" or change.old == row[change.field]
                row[change.field] = change.new
    return state


class Machine(RuleBasedStateMachine):
    """``last`` is the newest assignation, while nothing came after it, and the state before it."""

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.scope = scope_for(Viewer(user=User.objects.create_superuser("root")))
        self.state = in_database()
        # Keys of our own: the database's differ from run to run.
        self.numbers = itertools.count(1)
        self.moments: list[tuple[Any, State]] = []
        self.assignations: list[str] = []
        self.last: tuple[str, State] | None = None

    @rule(data=st.data(), changes=st.integers(1, 5))
    def work(self, data: Any, changes: int) -> None:
        """A new assignation does something."""
        before, name = copy.deepcopy(self.state), f"w{len(self.moments)}"
        self._do(data, changes, name)
        if self.state != before or self._has_entries(name):
            self.assignations.append(name)
            self.last = (name, before)

    @precondition(lambda self: self.assignations)
    @rule(data=st.data(), own=st.booleans())
    def edit(self, data: Any, own: bool) -> None:
        """Somebody without an assignation does something, or an earlier assignation goes on."""
        self._do(data, 1, data.draw(st.sampled_from(self.assignations)) if own else None)
        self.last = None

    def _do(self, data: Any, changes: int, assignation_id: str | None) -> None:
        work = Work(self.state, data.draw, self.numbers)
        with nullcontext() if assignation_id is None else audit(assignation_id=assignation_id):
            for _ in range(changes):
                work.change()
        self.state = work.state

    @staticmethod
    def _has_entries(name: str) -> bool:
        return any(m.history.filter(assignation_id=name).exists() for m in (Shelf, Box, Mark))

    @precondition(lambda self: self.last is not None)
    @rule()
    def undo_the_last(self) -> None:
        """What nobody touched since is exactly as before; undoing that again is the identity."""
        assert self.last is not None
        name, before = self.last
        after = copy.deepcopy(self.state)
        report = revert_assignation(None, name)
        assert report.status is (RevertStatus.UNCHANGED if before == after else RevertStatus.APPLIED), report
        self.state = before
        self.last = None
        if report.assignation_id is not None:
            self.assignations.append(report.assignation_id)
            self.last = (report.assignation_id, after)

    @precondition(lambda self: self.assignations)
    @rule(data=st.data(), policy=st.sampled_from(RevertPolicy))
    def undo_any(self, data: Any, policy: RevertPolicy) -> None:
        """Whatever came later: all that the plan said happens, or nothing, and nothing else."""
        name = data.draw(st.sampled_from(self.assignations))
        before = copy.deepcopy(self.state)
        planned = revert_assignation(None, name, policy=policy, dry_run=True)
        assert in_database() == before
        report = revert_assignation(None, name, policy=policy, expected_plan=planned.plan)
        assert report.plan == planned.plan
        expected = RevertStatus.APPLIED if planned.status is RevertStatus.PLANNED else planned.status
        assert report.status is expected, report
        if policy is RevertPolicy.ABORT:
            assert (report.status is RevertStatus.CONFLICTED) == (report.conflict_count > 0)
        if report.assignation_id is None:
            return
        self.state = as_planned(before, report)
        self.assignations.append(report.assignation_id)
        self.last = (report.assignation_id, before)

    @invariant()
    def tables_are_as_they_should(self) -> None:
        """What is in memory is in the tables."""
        assert in_database() == self.state
        self.moments.append((timezone.now(), copy.deepcopy(self.state)))
        while timezone.now() <= self.moments[-1][0]:
            pass

    def teardown(self) -> None:
        """The trail tells what was at every time; then nothing is left for the next run."""
        try:
            for moment, state in self.moments[:: max(1, len(self.moments) // 5)]:
                self._as_of(moment, state)
        finally:
            transaction.set_rollback(True)
            self.atomic.__exit__(None, None, None)

    def _as_of(self, moment: Any, state: State) -> None:
        for model, rows in state.items():
            ever = {key for _, one in self.moments for key in one[model]}
            for key in ever:
                entry = timeline.as_of(self.scope, f"wide.{model}", key, moment)
                if key not in rows:
                    assert entry is None or entry.action == "-"
                    continue
                assert entry is not None
                assert entry.action != "-"
                snapshot = {name: value for name, value in entry.snapshot.items() if name != "id"}
                if "marks" in snapshot:
                    snapshot["marks"] = set(snapshot["marks"])
                assert snapshot == rows[key]


@pytest.mark.django_db
@pytest.mark.timeout(3600)
def test_random_work_undone_in_any_order_agrees_with_its_model_in_memory() -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
