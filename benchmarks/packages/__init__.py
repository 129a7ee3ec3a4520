"""What is compared. A package's module is imported in its own worker only: two of them share an import name."""

import os
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.packages.base import Package

#: Name on the command line, and the module and class that drive it; the order is the order of the tables' columns.
PACKAGES = {
    "plain": "benchmarks.packages.base:Package",
    "koherent": "benchmarks.packages.koherent:Koherent",
    "simple_history": "benchmarks.packages.simple_history:SimpleHistory",
    "koherent4": "benchmarks.packages.koherent4:Koherent4",
    "pghistory": "benchmarks.packages.pghistory:PgHistory",
    "pghistory_statement": "benchmarks.packages.pghistory:PgHistoryStatement",
    "auditlog": "benchmarks.packages.auditlog:Auditlog",
    "reversion": "benchmarks.packages.reversion:Reversion",
}
TITLES = {
    "plain": "plain Django",
    "koherent": "**koherent**",
    "simple_history": "simple-history",
    "koherent4": "koherent 4.1.1",
    "pghistory": "pghistory (row triggers)",
    "pghistory_statement": "pghistory (statement triggers)",
    "auditlog": "auditlog",
    "reversion": "reversion",
}
#: koherent again, on histories of another size.
SCALES = {"koherent_10k": 10_000, "koherent_1m": 1_000_000, "koherent_10m": 10_000_000}
ORDINARY = frozenset(PACKAGES)
PACKAGES |= dict.fromkeys(SCALES, PACKAGES["koherent"])
TITLES |= {"koherent_10k": "10 thousand", "koherent_1m": "1 million", "koherent_10m": "10 million"}
POSTGRESQL_ONLY = {"pghistory", "pghistory_statement"}


@cache
def current() -> "Package":
    """The package of this worker, as ``BENCH_PACKAGE`` names it."""
    module, name = PACKAGES[os.environ["BENCH_PACKAGE"]].split(":")
    made: Package = getattr(import_module(module), name)()
    return made
