"""The benchmarks run: the smallest size, one round, plain Django and koherent on SQLite."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    "first page",
    "page in the middle, by cursor",
    "last page",
    "models",
    "objectId",
    "users: one who often acts",
    "users: one who hardly ever acts",
    "apps",
    "assignationId",
    "assigned: true",
    "assigned: false",
    "actions: UPDATE",
    "actions: CREATE, the oldest of all",
    "since",
    "until",
]


def test_the_benchmarks_report_every_case() -> None:
    packages = "plain,koherent,koherent_10k"
    command = f"-m benchmarks writes undo read growth --packages {packages} --databases sqlite --rounds 1 --size 4"
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.removeprefix("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows if " / " in row[-1]] == [
        "one save(), autocommit",
        "4 saves in one unit",
        "bulk_create of 4",
        "update() of 4",
        "bulk_update of 4",
        "delete() of 4, cascade of 5 each",
        "undo of 4 changes",
        "undo of 4 changes",
        "one object back to an entry",
        "page of 50, all models, 4 entries",
        "page of 50, one object with 50,000 entries",
        *PAGES,
        "100 parents, 3 newest entries of each",
        "1 parent, 3 newest entries",
    ]
    # koherent leaves an entry with its actor in every case.
    assert "no entry" not in done.stdout
    assert "no actor" not in done.stdout
