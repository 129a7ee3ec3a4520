"""``koherent_schema``: our part of the GraphQL API as SDL."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from graphql import GraphQLSyntaxError

from koherent.graphql.sdl import breaking_changes, dangerous_changes, own_sdl
from koherent.management.arguments import usage


class Command(BaseCommand):
    help = (
        "Prints the SDL of koherent's part of the API, with the history types of this project's models; or, with "
        "--against, what moved since another SDL. Exit status: 0 done, 1 a client of the other SDL would break, "
        "2 wrong arguments."
    )
    # The SDL is the same whatever is in the database.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Where to, or what to compare with."""
        what = parser.add_mutually_exclusive_group()
        what.add_argument("--path", metavar="FILE", help="write it there instead of printing it")
        what.add_argument("--against", metavar="FILE", help="report the changes since the SDL in this file")
        parser.add_argument("--json", action="store_true", help="with --against: print the report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Print, write, or compare."""
        if options["against"] is not None:
            self._compare(options["against"], options["json"])
        elif options["json"]:
            raise usage("--json goes with --against: the SDL itself is no JSON.")
        elif options["path"] is None:
            self.stdout.write(own_sdl(), ending="")
        else:
            try:
                Path(options["path"]).write_text(own_sdl(), encoding="utf-8")
            except OSError as error:
                raise usage(f"{options['path']} cannot be written: {error}.") from error

    def _compare(self, path: str, as_json: bool) -> None:
        old, new = _read(path), own_sdl()
        try:
            breaking, dangerous = breaking_changes(old, new), dangerous_changes(old, new)
        except (GraphQLSyntaxError, TypeError) as error:
            # graphql-core raises TypeError for an SDL that parses and is none.
            raise usage(f"{path} is no SDL: {error}") from error
        if as_json:
            self.stdout.write(json.dumps({"breaking": breaking, "dangerous": dangerous}))
        else:
            for change in breaking:
                self.stdout.write(f"{self.style.ERROR('breaking')} {change}")
            for change in dangerous:
                self.stdout.write(f"{self.style.WARNING('dangerous')} {change}")
        if breaking:
            raise CommandError(f"{len(breaking)} changes break clients of {path}.")
        if not as_json:
            self.stdout.write(self.style.SUCCESS(f"Clients of {path} go on working."))


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise usage(f"{path} cannot be read: {error}.") from error
