"""``koherent_revert``: show what undoing would do, ask, and do exactly that."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import islice
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from koherent import audit, registry
from koherent.errors import KoherentError
from koherent.management.arguments import account, interruptible, refused, usage
from koherent.management.progress import progress_bar
from koherent.revert import Report, RevertPolicy, RevertStatus, Step, revert_assignation, revert_to

#: So many steps are shown, and as many more that have conflicts; --verbosity 2 shows all.
SHOWN = 100

_VERBS = {"+": "create", "~": "change", "-": "delete"}


class Command(BaseCommand):
    help = (
        "Undoes what one assignation did, or gives one object the values of one of its entries. Shows the plan, asks, "
        "and applies exactly what was shown, or nothing. Exit status: 0 applied, or nothing to do; 1 nothing was "
        "written, because of conflicts or at your word; 2 wrong arguments; 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What to undo, and how."""
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("--assignation", metavar="ID", help="undo all that this assignation did")
        what.add_argument("--entry", metavar="LABEL:ID", help="go back to this entry: app.model:history_id")
        policies = [policy.value.lower() for policy in RevertPolicy]
        parser.add_argument(
            "--policy", choices=policies, default=policies[0], help="what to do about conflicts; default: %(default)s"
        )
        parser.add_argument("--expected-plan", metavar="TOKEN", help="apply only if the plan is still this one")
        parser.add_argument("--dry-run", action="store_true", help="only show the plan")
        parser.add_argument("--yes", action="store_true", help="do not ask")
        parser.add_argument("--json", action="store_true", help="print the report as JSON; with --dry-run or --yes")
        parser.add_argument("--reason", metavar="TEXT", help="why, for the history")
        parser.add_argument("--user", metavar="NAME", help="the account that the change is attributed to")

    def handle(self, *args: Any, **options: Any) -> None:
        """Plan, show, ask, apply."""
        if options["json"] and not (options["yes"] or options["dry_run"]):
            raise usage("--json asks nothing: it goes with --dry-run or --yes.")
        if not (options["yes"] or options["dry_run"] or sys.stdin.isatty()):
            raise usage("There is nobody to ask: say --dry-run or --yes.")
        context = {"reason": options["reason"], **({"user": account(options["user"])} if options["user"] else {})}
        whole = interruptible("A revert is written whole or not at all; --dry-run shows what is left to do.")
        try:
            with whole, audit(**context), _Bars(self.stderr) as progress:
                self._revert(_call(options, progress), options)
        except KoherentError as error:
            raise refused(error) from error

    def _revert(self, revert: Callable[..., Report], options: dict[str, Any]) -> None:
        everything = options["verbosity"] > 1
        report = revert(dry_run=True, expected_plan=options["expected_plan"])
        if report.status is RevertStatus.PLANNED and not options["dry_run"]:
            if not options["json"]:
                self._show(report, everything)
            if not options["yes"] and input("Apply this plan? [y/N] ").strip().lower() not in ("y", "yes"):
                raise CommandError("Nothing was written.", returncode=1)
            plan = report.plan
            report = revert(dry_run=False, expected_plan=plan)
            if report.plan != plan and not options["json"]:
                self.stdout.write("Meanwhile something changed; now the plan would be:")
                self._show(report, everything)
        elif not options["json"]:
            self._show(report, everything)
        if options["json"]:
            for part in _json(report):
                self.stdout.write(part, ending="")
        else:
            applied = report.status is RevertStatus.APPLIED
            self.stdout.write(_outcome(report), self.style.SUCCESS if applied else None)
        if report.status is RevertStatus.CONFLICTED:
            raise CommandError("Nothing was written.", returncode=1)

    def _show(self, report: Report, everything: bool) -> None:
        steps = iter(report.steps)
        conflicting = 0
        for step in steps if everything else islice(steps, SHOWN):
            conflicting += bool(step.conflicts)
            self._show_step(step)
        left = 0 if everything else len(report.steps) - SHOWN
        if left > 0:
            self.stdout.write(f"... and {left} more steps; --verbosity 2 shows all.")
            if report.conflict_count > conflicting:
                self.stdout.write("Among them, with conflicts:")
                for step in islice((step for step in steps if step.conflicts), SHOWN):
                    self._show_step(step)

    def _show_step(self, step: Step) -> None:
        self.stdout.write(f"{_VERBS[step.action]} {step.tracked.label} {step.object_id} ({step.object_label})")
        for change in step.changes:
            if change.added is None and change.removed is None:
                self.stdout.write(f"    {change.field}: {_text(change.old)} -> {_text(change.new)}")
            else:
                self.stdout.write(f"    {change.field}: +{_text(change.added or [])} -{_text(change.removed or [])}")
        for conflict in step.conflicts:
            entry = "" if conflict.entry is None else f" (see entry {conflict.entry[0]}:{conflict.entry[1]})"
            self.stdout.write(f"  ! {self.style.ERROR(conflict.code.value)}: {conflict.message}{entry}")


def _call(options: dict[str, Any], progress: "_Bars") -> Callable[..., Report]:
    """The function that plans or applies, with the arguments that stay the same."""
    policy = RevertPolicy[options["policy"].upper()]
    if options["assignation"] is not None:
        return lambda **more: revert_assignation(None, options["assignation"], policy=policy, progress=progress, **more)
    label, _, number = options["entry"].rpartition(":")
    if registry.by_label(label) is None or not (number.isascii() and number.isdigit()):
        raise usage("--entry takes app.model:history_id of a tracked model.")
    return lambda **more: revert_to(None, label, int(number), policy=policy, **more)


def _outcome(report: Report) -> str:
    count = len(report.steps)
    if report.status is RevertStatus.UNCHANGED:
        return "Nothing to do: everything is as wanted already."
    if report.status is RevertStatus.APPLIED:
        return f"Done, as assignation {report.assignation_id}: {len(report.entry_keys)} entries were written."
    conflicts = f"{count} steps, {report.conflict_count} with conflicts."
    return f"Plan {report.plan}: {conflicts}" if report.status is RevertStatus.PLANNED else conflicts


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _json(report: Report) -> Iterator[str]:
    """The report as JSON, step by step: it may be long."""
    head = {
        "status": report.status.value,
        "plan": report.plan,
        "assignationId": report.assignation_id,
        "stepCount": len(report.steps),
        "conflictCount": report.conflict_count,
        "entryCount": len(report.entry_keys),
    }
    yield json.dumps(head)[:-1] + ', "steps": ['
    for number, step in enumerate(report.steps):
        yield (", " if number else "") + json.dumps(_step(step))
    yield "]}\n"


def _step(step: Step) -> dict[str, Any]:
    return {
        "action": {"+": "CREATE", "~": "UPDATE", "-": "DELETE"}[step.action],
        "model": step.tracked.label,
        "objectId": step.object_id,
        "objectLabel": step.object_label,
        "applied": step.applied,
        "changes": [
            {"field": c.field, "old": c.old, "new": c.new}
            if c.added is None and c.removed is None
            else {"field": c.field, "added": c.added, "removed": c.removed}
            for c in step.changes
        ],
        "conflicts": [
            {
                "code": c.code.value,
                "message": c.message,
                "fields": list(c.fields),
                "entry": None if c.entry is None else f"{c.entry[0]}:{c.entry[1]}",
            }
            for c in step.conflicts
        ],
    }


class _Bars:
    """A bar for each thing that is being done, one after the other."""

    def __init__(self, stream: Any) -> None:
        self._stream, self._stack = stream, ExitStack()
        self._doing, self._done = "", 0
        self._advance: Callable[[int], None] = lambda _: None

    def __enter__(self) -> "_Bars":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self, doing: str, done: int, total: int) -> None:
        """Progress of a revert function."""
        if doing != self._doing or done < self._done:
            self._stack.close()
            self._doing, self._done = doing, 0
            self._advance = self._stack.enter_context(progress_bar(self._stream, doing, lambda: total))
        self._advance(done - self._done)
        self._done = done
        if done >= total:
            self._stack.close()
            self._doing = ""
