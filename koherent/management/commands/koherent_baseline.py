"""``koherent_baseline``: begin the trail of rows that were there before it."""

import argparse
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from koherent.baseline import REASON, BaselineReport, record_baseline
from koherent.management.arguments import interruptible
from koherent.management.options import add_walk_options, chosen_models, json_line
from koherent.management.progress import progress_bar
from koherent.verify import size


class Command(BaseCommand):
    help = (
        "Writes a history entry for each row of a tracked model that has none, a chunk and a transaction at a time. "
        "Interrupted, it can simply be run again. Exit status: 0 done, 2 wrong arguments, 130 interrupted."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_walk_options(parser)
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--reason", default=REASON, help=f"the entries' reason; default: {REASON}")
        parser.add_argument(
            "--repair",
            action="store_true",
            help="also write entries for rows that differ from their latest entry, and for rows that are gone",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with interruptible("What is written is committed; run the same command again to go on."):
            self._write(options)

    def _write(self, options: dict[str, Any]) -> None:
        using = options["database"]
        for tracked in chosen_models(options["models"], using):
            with progress_bar(self.stderr, tracked.label, lambda tracked=tracked: size(tracked, using)) as advance:  # type: ignore[misc]
                report = record_baseline(
                    tracked,
                    using=using,
                    chunk=options["chunk"],
                    reason=options["reason"],
                    repair=options["repair"],
                    dry_run=options["dry_run"],
                    advance=advance,
                )
            self.stdout.write(json_line(_record(report)) if options["json"] else _line(report))


def _line(report: BaselineReport) -> str:
    what = "would be written" if report.dry_run else "written"
    parts = [f"{report.created} created"]
    if report.changed is not None and report.deleted is not None:
        parts += [f"{report.changed} changed", f"{report.deleted} deleted"]
    line = f"{report.model}: {report.entries} entries {what} ({', '.join(parts)})"
    verb = "would lose" if report.dry_run else "lost"
    if report.restored:
        line += f"; {report.restored} {verb} the position of another cluster"
    return f"{line}; {report.detached} {verb} a run that knew nothing of them" if report.detached else line


def _record(report: BaselineReport) -> dict[str, Any]:
    record = asdict(report)
    record["dryRun"] = record.pop("dry_run")
    return record
