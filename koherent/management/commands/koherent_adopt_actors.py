"""``koherent_adopt_actors``: keep the names of those who made adopted entries."""

import argparse
from typing import Any

from django.core.management.base import BaseCommand

from koherent.adoption import adopt_actors
from koherent.management.arguments import interruptible
from koherent.management.options import add_walk_options, chosen_models, json_line
from koherent.management.progress import progress_bar


class Command(BaseCommand):
    help = (
        "Copies key and name of the accounts that still exist to adopted history entries, so that they outlive the "
        "accounts. Exit status: 0 done, 2 wrong arguments, 130 interrupted."
    )

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        add_walk_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        with interruptible("What is written is committed; run the same command again to go on."):
            self._adopt(options)

    def _adopt(self, options: dict[str, Any]) -> None:
        using = options["database"]
        for tracked in chosen_models(options["models"], using):
            entries: Any = tracked.history_model._base_manager.using(using)
            with progress_bar(self.stderr, tracked.label, entries.count) as advance:
                written = adopt_actors(tracked, using=using, chunk=options["chunk"], advance=advance)
            record = {"model": tracked.label, "written": written}
            line = f"{tracked.label}: {written} entries have an actor now"
            self.stdout.write(json_line(record) if options["json"] else line)
