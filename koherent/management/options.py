"""What koherent's commands have in common: options, labels of models, lines of JSON."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

from koherent import registry
from koherent.errors import BadInput
from koherent.management.arguments import usage
from koherent.registry import TrackedModel
from koherent.verify import CHUNK, MAX_CHUNK


def add_walk_options(parser: argparse.ArgumentParser) -> None:
    """``--model``, ``--database``, ``--chunk`` and ``--json`` of commands that walk whole tables."""
    parser.add_argument(
        "--model", action="append", dest="models", metavar="LABEL", help="app.model; may be repeated; default: all"
    )
    parser.add_argument(
        "--database", default=DEFAULT_DB_ALIAS, choices=tuple(connections), help="alias of the database"
    )
    parser.add_argument(
        "--chunk", type=_chunk, default=CHUNK, metavar="ROWS", help=f"rows in one statement; default: {CHUNK}"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")


def _chunk(text: str) -> int:
    number = int(text)
    if not 1 <= number <= MAX_CHUNK:
        raise argparse.ArgumentTypeError(f"1 to {MAX_CHUNK}")
    return number


def chosen_models(labels: Sequence[str] | None, using: str) -> list[TrackedModel]:
    """The tracked models to walk; raises the ``CommandError`` of wrong usage for an unknown label."""
    try:
        return registry.chosen(labels, using)
    except BadInput as error:
        raise usage(str(error)) from error


def json_line(record: Mapping[str, Any]) -> str:
    """A record as one line."""
    return json.dumps(record, separators=(",", ":"))
