"""All cases by name."""

from benchmarks import growth, read, undo, writes
from benchmarks.case import Case
from benchmarks.packages import ORDINARY, PACKAGES

KINDS: dict[str, dict[str, type[Case]]] = {
    "writes": writes.CASES,
    "undo": undo.CASES,
    "read": read.CASES,
    "growth": growth.CASES,
}
CASES: dict[str, type[Case]] = {name: case for cases in KINDS.values() for name, case in cases.items()}
#: Who takes part when nobody is named.
ENTRANTS: dict[str, list[str]] = {kind: [name for name in PACKAGES if name in ORDINARY] for kind in KINDS}
ENTRANTS["growth"] = ["koherent_10k", "koherent_1m"]
