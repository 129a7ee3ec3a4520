"""The snippet of the document that started the project runs as written, and leaves its neighbours alone."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The history rows that ``tests/seed`` left, in a process of its own."""
    database = tmp_path_factory.mktemp("seed") / "seed.sqlite3"
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.seed", str(database)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_founding_snippet_records_who_with_what_and_in_which_context(left: dict[str, Any]) -> None:
    assert left["seed"] == [
        ["+", "first", "ada", "seed", "sync-1"],
        ["~", "second", "ada", "seed", "sync-1"],
        ["+", "first", "ada", "seed", "async-1"],
        ["~", "second", "ada", "seed", "async-1"],
    ]


def test_a_plain_simple_history_model_behaves_as_without_koherent(left: dict[str, Any]) -> None:
    """Promise 8: its own rows, its own (missing) user, its own columns, its own classes."""
    assert left["plain"] == {
        "rows": [["+", "a", None], ["~", "a", None], ["-", "a", None]],
        "columns": [
            "id",
            "name",
            "history_id",
            "history_date",
            "history_change_reason",
            "history_type",
            "history_user_id",
        ],
        "classes": ["django.db.models.manager.Manager", "django.db.models.options.Options"],
    }
