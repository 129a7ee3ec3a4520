"""Command line: ``python -m benchmarks writes --help``."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import driver, report, writes
from benchmarks.packages import PACKAGES


def main(arguments: list[str]) -> None:
    """Run what was asked for and print, or write, its Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("kind", choices=["writes"], help="what to measure")
    parser.add_argument(
        "--packages", metavar="NAMES", type=_names(list(PACKAGES)), default=list(PACKAGES), help="default: all"
    )
    parser.add_argument("--databases", type=_names([driver.SQLITE, driver.POSTGRESQL]), default="sqlite,postgresql")
    parser.add_argument(
        "--only", metavar="CASES", type=_names(list(writes.CASES)), default=list(writes.CASES), help="cases"
    )
    parser.add_argument("--rounds", type=int, default=15, help="turns of each package in each case (15)")
    parser.add_argument(
        "--size", type=int, help="at most so many rows in each case; the figures are promised at the full sizes"
    )
    parser.add_argument("--output", type=Path, help="write the report here instead of printing it")
    parser.add_argument("--sql", action="store_true", help="print koherent's statements of each case too")
    options = parser.parse_args(arguments)
    sizes = {case: writes.SIZES[case] for case in options.only}
    if options.size is not None:
        sizes = {case: min(size, options.size) for case, size in sizes.items()}
    results = [driver.run(options.packages, database, sizes, options.rounds) for database in options.databases]
    text = report.markdown("Writes", results, "python -m benchmarks " + " ".join(arguments))
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
