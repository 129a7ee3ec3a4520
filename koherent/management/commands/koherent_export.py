"""``koherent_export``: the trail as NDJSON or CSV."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from django.core.management.base import BaseCommand, CommandError, CommandParser

from koherent import export, timeline
from koherent.errors import KoherentError
from koherent.management.arguments import INTERRUPTED, account, moment, refused, usage
from koherent.management.progress import progress_bar
from koherent.policy import Action, Scope, Viewer, scope_for
from koherent.timeline import Filters

ACTIONS = {name.lower(): action for action, name in export.ACTIONS.items()}


class Command(BaseCommand):
    help = (
        "Writes the trail, oldest entry first, as NDJSON or CSV. Say for whom: --user NAME writes what that account "
        "may see, --all writes everything, redacted values too. The last cursor is printed at the end, also after an "
        "interrupt; --after goes on from it. Exit status: 0 done, 1 the output failed, 2 refused, 130 interrupted."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """For whom, what, and where to."""
        whom = parser.add_mutually_exclusive_group()
        whom.add_argument("--user", metavar="NAME", help="the account whose view it is")
        whom.add_argument("--all", action="store_true", help="everything, whatever the policy says")
        parser.add_argument("--format", choices=("ndjson", "csv"), default="ndjson", help="default: ndjson")
        parser.add_argument("--output", metavar="FILE", help="a new file, or with --after one to append to")
        parser.add_argument("--after", metavar="CURSOR", help="go on behind this entry; CSV then has no header")
        parser.add_argument("--model", action="append", dest="models", metavar="LABEL", help="app.model; repeatable")
        parser.add_argument("--object-id", metavar="KEY", help="one object's history; needs exactly one --model")
        parser.add_argument("--by", action="append", metavar="KEY", help="changed by this account's key; repeatable")
        parser.add_argument("--app", action="append", dest="apps", metavar="NAME", help="changed with it; repeatable")
        parser.add_argument("--assignation", metavar="ID", help="of this assignation")
        assigned = parser.add_mutually_exclusive_group()
        assigned.add_argument("--assigned", action="store_true", default=None, help="of any assignation")
        assigned.add_argument("--unassigned", action="store_false", dest="assigned", help="of none")
        parser.add_argument("--action", action="append", dest="actions", choices=tuple(ACTIONS), help="repeatable")
        parser.add_argument("--since", metavar="TIME", help="at this time or later: an age, a date or a time")
        parser.add_argument("--until", metavar="TIME", help="before this time")

    def handle(self, *args: Any, **options: Any) -> None:
        """Stream it."""
        if bool(options["user"]) == bool(options["all"]):
            raise usage("Say for whom: --user NAME for what that account may see, --all for everything.")
        filters = _filters(options)
        try:
            scope = export.unrestricted() if options["all"] else scope_for(Viewer(user=account(options["user"])))
            filters.resolve(scope)
            cursor = self._stream(scope, filters, options)
        except KoherentError as error:
            raise refused(error) from error
        if cursor is not None:
            # Without the colour of errors.
            self.stderr.write(_reached(cursor), lambda text: text)

    def _stream(self, scope: Scope, filters: Filters, options: dict[str, Any]) -> str | None:
        cursor: str | None = options["after"]
        try:
            with (
                self._output(options["output"], append=cursor is not None) as out,
                progress_bar(self.stderr, "export", lambda: timeline.count(scope, filters)) as progress,
            ):
                csv = options["format"] == "csv"
                write = export.table(out, header=cursor is None) if csv else export.ndjson(out)
                for entry in export.entries(scope, filters, after=cursor):
                    write(entry)
                    cursor = entry.cursor
                    progress(1)
        except KeyboardInterrupt:
            raise CommandError(f"Interrupted. {_reached(cursor)}", returncode=INTERRUPTED) from None
        except BrokenPipeError:
            # Python would complain once more when it flushes what nobody reads.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError("Nobody reads the output any more.") from None
        except OSError as error:
            raise CommandError(f"The output failed: {error}. {_reached(cursor)}") from error
        return cursor

    @contextmanager
    def _output(self, path: str | None, *, append: bool) -> Iterator[TextIO]:
        if path is None:
            # Django's wrapper ends every write with a new line of its own.
            yield cast("TextIO", getattr(self.stdout, "_out", self.stdout))
            return
        # Personal data: for nobody but the owner of the process.
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_EXCL)
        with open(os.open(path, flags, 0o600), "w", encoding="utf-8", newline="") as out:
            yield out


def _reached(cursor: str | None) -> str:
    return "Nothing was written." if cursor is None else f"last cursor: {cursor}"


def _filters(options: dict[str, Any]) -> Filters:
    actions = options["actions"]
    return Filters(
        models=options["models"],
        object_id=options["object_id"],
        users=options["by"],
        apps=options["apps"],
        assignation_id=options["assignation"],
        assigned=options["assigned"],
        actions=None if actions is None else [cast("Action", ACTIONS[action]) for action in actions],
        since=moment("--since", options["since"]),
        until=moment("--until", options["until"]),
    )
