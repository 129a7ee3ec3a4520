"""The benchmarks run: the smallest size, one round, plain Django and koherent on SQLite."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def test_the_write_benchmark_reports_every_case_of_both_packages() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks", "writes", "--packages", "plain,koherent", "--databases", "sqlite"]
    done = subprocess.run(
        [*command, "--rounds", "1", "--size", "3"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows if len(row) == 3 and " / " in row[1]] == [
        "one save(), autocommit",
        "3 saves in one unit",
        "bulk_create of 3",
        "update() of 3",
        "bulk_update of 3",
        "delete() of 3, cascade of 5 each",
    ]
    # koherent leaves an entry with its actor in every case.
    assert "no entry" not in done.stdout
    assert "no actor" not in done.stdout
