"""The demo tells its story to the end, on a real server, as ``make demo`` runs it."""

import os
import subprocess
import sys
from pathlib import Path

from example_schema.demo import image, records

ROOT = Path(__file__).parent.parent


def test_the_demo_runs_to_its_end_and_misses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "example_schema.demo"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        cwd=ROOT,
        env={**os.environ, "EXAMPLE_SQLITE": str(tmp_path / "demo.sqlite3")},
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert "APPLIED: 301 steps" in done.stdout
    assert "CONFLICTED: nothing was written" in done.stdout
    assert "302 entries were waiting: now 606 of 606, none missed" in done.stdout
    assert "GraphiQL: http://127.0.0.1:8000/graphql" in done.stdout


def test_the_demo_data_are_a_few_hundred_different_images() -> None:
    rows = records()
    assert len({row["name"] for row in rows}) == len(rows) == 300
    assert image(rows[0], "7") == {
        "dataset": {"set": "7"},
        "name": "reef-north-001-dapi.tif",
        "width": 1920,
        "height": 1080,
        "exposureMs": "206.678",
        "extra": {"site": "reef-north", "channel": "dapi", "depth_m": 21.9},
    }
