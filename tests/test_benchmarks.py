"""The benchmarks run: the smallest size, one round, on SQLite."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("kind", "packages", "cases"),
    [
        (
            "writes",
            "plain,koherent",
            [
                "one save(), autocommit",
                "3 saves in one unit",
                "bulk_create of 3",
                "update() of 3",
                "bulk_update of 3",
                "delete() of 3, cascade of 5 each",
            ],
        ),
        ("undo", "koherent", ["undo of 3 changes", "undo of 3 changes", "one object back to an entry"]),
    ],
)
def test_a_benchmark_reports_every_case(kind: str, packages: str, cases: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, *f"-m benchmarks {kind} --packages {packages} --databases sqlite --rounds 1 --size 3".split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.removeprefix("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    times = [row for row in rows if len(row) == 1 + len(packages.split(","))]
    # The first two are the table's header.
    assert [row[0] for row in times[2:] if " / " in row[-1]] == cases
    # koherent leaves an entry with its actor in every case.
    assert "no entry" not in done.stdout
    assert "no actor" not in done.stdout
