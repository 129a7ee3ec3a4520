"""``koherent_erase``: wipe an object's values or a person's names from the history."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

import koherent
from koherent.erasure import ActorReport, ErasureReport
from koherent.errors import KoherentError
from koherent.management.arguments import account, interruptible, refused, usage
from koherent.management.progress import progress_bar
from koherent.registry import by_label, tracked_on
from koherent.timeline.filters import object_key


class Command(BaseCommand):
    help = (
        "Wipes values of one object (--model, --object-id, --field) or the names of a person (--actor) from the whole "
        "history. This cannot be undone: it shows what it would do and asks, unless --no-input says otherwise. "
        "Exit status: 0 done, 1 declined, 2 refused, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What goes, and who says so."""
        parser.add_argument("--model", metavar="LABEL", help="app.model of the object")
        parser.add_argument("--object-id", metavar="KEY", help="primary key of the object; it may be gone")
        parser.add_argument("--field", action="append", dest="fields", metavar="NAME", help="repeatable")
        parser.add_argument("--all-fields", action="store_true", help="every field but the primary key")
        parser.add_argument("--live", action="store_true", help="empty the fields of the object's row, too")
        parser.add_argument("--actor", metavar="KEY", help="primary key of an account; it may be gone")
        parser.add_argument(
            "--trace", action="append", dest="traces", metavar="TEXT", help="a further name of theirs; repeatable"
        )
        parser.add_argument("--reason", metavar="TEXT", help="stands on the erasure's entries")
        parser.add_argument("--user", metavar="NAME", help="the account whose erasure it is")
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--no-input", action="store_false", dest="interactive", help="do not ask")
        parser.add_argument(
            "--json", action="store_true", help="print the report as JSON; with --dry-run or --no-input"
        )
        parser.add_argument("--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="its alias")

    def handle(self, *args: Any, **options: Any) -> None:
        """Count, ask, erase, report."""
        with interruptible("Run the same command again: what is erased is not counted any more."):
            self._erase(options)

    def _erase(self, options: dict[str, Any]) -> None:
        asks = options["interactive"] and not options["dry_run"]
        if asks and options["json"]:
            raise usage("--json asks nothing: it goes with --dry-run or --no-input.")
        if asks and not sys.stdin.isatty():
            raise usage("There is nobody to ask: say --dry-run or --no-input.")
        try:
            # Who is not there is told before anybody is asked.
            user = {"user": account(options["user"])} if options["user"] else {}
            work = self._actor(options) if options["actor"] is not None else _object(options)
            if options["dry_run"]:
                self._say(work(dry_run=True), options)
                return
            if asks:
                self._ask(work(dry_run=True))
            with koherent.audit(app="koherent_erase", **user):
                self._say(work(dry_run=False), options)
        except KoherentError as error:
            raise refused(error) from error

    def _ask(self, foreseen: Any) -> None:
        question = f"{_text(foreseen, 'would be')}\nIt cannot be undone. Type 'erase' to go on: "
        if input(question).strip() != "erase":
            raise CommandError("Nothing was erased.")

    def _say(self, report: ErasureReport | ActorReport, options: dict[str, Any]) -> None:
        verb = "would be" if options["dry_run"] else "are"
        self.stdout.write(_json(report) if options["json"] else _text(report, verb))

    def _actor(self, options: dict[str, Any]) -> Callable[..., ActorReport]:
        if any(options[name] for name in ("model", "object_id", "fields", "all_fields", "live")):
            raise usage("--actor is about a person; the values of an object are another erasure.")

        def work(dry_run: bool) -> ActorReport:
            doing, tables = "count" if dry_run else "erase", len(tracked_on(options["database"]))
            with progress_bar(self.stderr, doing, lambda: 2 * tables, "tables") as progress:
                return koherent.erase_actor(
                    options["actor"],
                    traces=options["traces"] or (),
                    reason=options["reason"],
                    dry_run=dry_run,
                    using=options["database"],
                    progress=progress,
                )

        return work


def _text(report: Any, verb: str) -> str:
    if isinstance(report, ActorReport):
        return (
            f"Names of account {report.key}: {report.entries} entries {verb} without the actor's name, "
            f"the metadata of {report.metadata} without theirs."
        )
    return (
        f"{report.label} {report.object_id}: {', '.join(report.fields)} {verb} erased from {report.entries} entries, "
        f"with {report.links} many-to-many rows."
    )


def _object(options: dict[str, Any]) -> Any:
    if options["model"] is None or options["object_id"] is None:
        raise usage("Say what goes: --model and --object-id of an object, or --actor.")
    if bool(options["fields"]) == bool(options["all_fields"]):
        raise usage("Say which values: --field, or --all-fields.")
    tracked = by_label(options["model"])
    if tracked is None:
        raise usage(f"There is no tracked model {options['model']!r}.")
    instance = tracked.model(pk=object_key(tracked, options["object_id"]))
    return partial(
        koherent.erase,
        instance,
        options["fields"],
        live=options["live"],
        reason=options["reason"],
        using=options["database"],
    )


def _json(report: ErasureReport | ActorReport) -> str:
    if isinstance(report, ActorReport):
        return json.dumps(asdict(report))
    return json.dumps(
        {
            "model": report.label,
            "objectId": report.object_id,
            "fields": report.fields,
            "entries": report.entries,
            "links": report.links,
            "historyId": report.history_id,
        }
    )
