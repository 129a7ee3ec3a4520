"""``koherent_prune``: delete old history."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import DEFAULT_DB_ALIAS, connections

from koherent import registry
from koherent.errors import KoherentError
from koherent.management.arguments import interruptible, moment, refused, usage
from koherent.management.progress import progress_bar
from koherent.retention import PruneReport, prune


class Command(BaseCommand):
    help = (
        "Deletes old history, a chunk and a transaction at a time. An object's newest old entry stays as its baseline, "
        "and nothing goes that is younger than FEED_RETENTION_DAYS. Interrupted, it can simply be run again. "
        "Exit status: 0 done, 2 wrong arguments, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """What may go."""
        parser.add_argument("--older-than", metavar="AGE", help="an age (12h, 30d, 8w, 2y), a date or a time")
        parser.add_argument("--keep", type=int, metavar="N", help="keep the newest N entries of each object")
        parser.add_argument(
            "--model", action="append", dest="models", metavar="LABEL", help="app.model; may be repeated; default: all"
        )
        parser.add_argument("--dry-run", action="store_true", help="only count")
        parser.add_argument("--json", action="store_true", help="print the report as JSON")
        parser.add_argument(
            "--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="alias of the database"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prune, and say what went."""
        if options["older_than"] is None and options["keep"] is None:
            raise usage("Say what may go: --older-than, --keep or both.")
        before = moment("--older-than", options["older_than"])
        using, labels = options["database"], options["models"]

        def total() -> int:
            histories = [tracked.history_model._base_manager.using(using) for tracked in registry.chosen(labels, using)]
            return sum(history.count() for history in histories)

        try:
            with (
                interruptible("What is deleted is committed; run the same command again to go on."),
                progress_bar(self.stderr, "prune", total) as progress,
            ):
                report = prune(
                    before=before,
                    keep=options["keep"],
                    models=labels,
                    dry_run=options["dry_run"],
                    using=using,
                    progress=progress,
                )
        except KoherentError as error:
            raise refused(error) from error
        self.stdout.write(_as_json(report) if options["json"] else _as_text(report))


def _as_json(report: PruneReport) -> str:
    return json.dumps(
        {
            "cutoff": report.cutoff.isoformat(),
            "dryRun": report.dry_run,
            "entries": report.entries,
            "links": sum(model.links for model in report.models),
            "assignations": report.assignations,
            "models": [{"model": m.label, "entries": m.entries, "links": m.links} for m in report.models],
        }
    )


def _as_text(report: PruneReport) -> str:
    lines = [f"{m.label}: {m.entries} entries, {m.links} many-to-many rows" for m in report.models if m.entries]
    verb = "would be deleted" if report.dry_run else "deleted"
    lines.append(f"{report.entries} entries dated before {report.cutoff.isoformat(timespec='seconds')} {verb}.")
    if report.assignations:
        lines.append(f"{report.assignations} assignations have no entries left and are no longer listed.")
    return "\n".join(lines)
