"""``koherent_verify``: whether the trail is whole."""

import argparse
from collections import Counter
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from koherent.management.arguments import interruptible, moment
from koherent.management.options import add_walk_options, chosen_models, json_line
from koherent.management.progress import progress_bar
from koherent.verify import Finding, size, verify


class Command(BaseCommand):
    help = (
        "Compares each row of a tracked model with its latest entry, and each object's entries with each other. "
        "Exit status: 0 the trail is whole, 1 something was found, 2 wrong usage, 130 interrupted."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_walk_options(parser)
        parser.add_argument(
            "--since",
            metavar="AGE",
            help="do not compare older entries with each other: an age (30d), a date or a time",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        with interruptible("Not everything was looked at."):
            self._verify(options)

    def _verify(self, options: dict[str, Any]) -> None:
        using, as_json = options["database"], options["json"]
        since = moment("--since", options["since"])
        models = chosen_models(options["models"], using)
        found: Counter[str] = Counter()
        for tracked in models:
            with progress_bar(self.stderr, tracked.label, lambda tracked=tracked: size(tracked, using)) as advance:  # type: ignore[misc]
                for finding in verify(tracked, using=using, chunk=options["chunk"], since=since, advance=advance):
                    found[finding.problem] += finding.count
                    self.stdout.write(json_line(_record(finding)) if as_json else self._line(finding))
        total = sum(found.values())
        if as_json:
            self.stdout.write(json_line({"models": [t.label for t in models], "found": total, "problems": dict(found)}))
        if total:
            counts = ", ".join(f"{count} {problem}" for problem, count in sorted(found.items()))
            raise CommandError(f"The trail is not whole: {counts}.")
        if not as_json:
            self.stdout.write(self.style.SUCCESS(f"The trail of {len(models)} models is whole."))

    def _line(self, finding: Finding) -> str:
        name = finding.model if finding.object_id is None else f"{finding.model} {finding.object_id}"
        entry = "" if finding.entry is None else f" (entry {finding.entry})"
        return f"{self.style.ERROR(finding.problem.value)} {name}{entry}: {finding.message}"


def _record(finding: Finding) -> dict[str, Any]:
    record = asdict(finding)
    record["objectId"] = record.pop("object_id")
    return record
