"""All cases by name."""

from benchmarks import read, undo, writes
from benchmarks.case import Case

KINDS: dict[str, dict[str, type[Case]]] = {"writes": writes.CASES, "undo": undo.CASES, "read": read.CASES}
CASES: dict[str, type[Case]] = {name: case for cases in KINDS.values() for name, case in cases.items()}
