"""Command line: ``python -m benchmarks writes --help``, and ``python -m benchmarks feed --help``."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import driver, report
from benchmarks.cases import CASES, ENTRANTS, KINDS
from benchmarks.packages import PACKAGES


def main(arguments: list[str]) -> None:
    """Run what was asked for and print, or write, its Markdown."""
    if arguments[:1] == ["feed"]:
        # It needs a server and a client, which the environment of the others has not.
        from benchmarks.feed import report as feed

        feed.main(arguments[1:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=list(KINDS), help="what to measure")
    parser.add_argument("--packages", type=_names(list(PACKAGES)), help="names, by comma")
    parser.add_argument("--databases", type=_names([driver.SQLITE, driver.POSTGRESQL]), default="sqlite,postgresql")
    parser.add_argument("--only", type=_names(list(CASES)), help="cases, by comma")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each package in each case (15)")
    parser.add_argument("--processes", type=int, default=1, help="fresh processes of each package, in turn (1)")
    parser.add_argument("--size", type=int, help="at most so many rows a case; figures are promised at the full size")
    parser.add_argument("--output", type=Path, help="write the report here instead of printing it")
    parser.add_argument("--sql", action="store_true", help="print koherent's statements of each case too")
    options = parser.parse_args(arguments)
    cases = {name: case for kind in options.kinds for name, case in KINDS[kind].items()}
    sizes = {name: cases[name].full_size for name in options.only or cases if name in cases}
    if options.size is not None:
        sizes = {name: min(size, options.size) for name, size in sizes.items()}
    packages = options.packages or [name for kind in options.kinds for name in ENTRANTS[kind]]
    packages = list(dict.fromkeys(packages))
    many = {"rounds": options.rounds, "processes": options.processes}
    results = [driver.run(packages, database, sizes, **many) for database in options.databases]
    text = report.markdown(options.kinds, results, "python -m benchmarks " + " ".join(arguments))
    if options.sql:
        text += report.statements(results, "koherent")
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text)


def _names(known: list[str]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        given = [name for name in text.split(",") if name]
        unknown = [name for name in given if name not in known]
        if unknown or not given:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}: choose from {', '.join(known)}")
        return [name for name in known if name in given]

    return parse


if __name__ == "__main__":
    main(sys.argv[1:])
