"""Promise 8: models that django-simple-history tracks alone behave, row by row, as in a project without koherent."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def left(which: str, database: Path) -> dict[str, Any]:
    """What ``tests.neighbour`` printed, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.neighbour", which, str(database)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("neighbours")
    return left("without", folder / "without.sqlite3"), left("with", folder / "with.sqlite3")


def test_their_rows_users_tables_signals_and_classes_are_what_they_were(both: Any) -> None:
    without, with_koherent = both
    assert with_koherent == without


def test_the_comparison_compares_something(both: Any) -> None:
    rows = both[0]["rows"]
    assert len(rows) > 20
    # By nobody, by the request's user, by the instance's, and by the one given to the bulk helper.
    assert {row[5] for row in rows} == {None, "ada", "bob"}
    assert {row[6] for row in rows} == {None, "because", "bulk"}
    assert len(both[0]["links"]) > 2
    assert dict(both[0]["signals"])["post_create HistoricalPlain"] > 10
