"""The snippet of the document that started the project runs as written."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_the_founding_snippet_records_who_with_what_and_in_which_context(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.seed", str(tmp_path / "seed.sqlite3")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
        cwd=Path(__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        ["+", "first", "ada", "seed", "sync-1"],
        ["~", "second", "ada", "seed", "sync-1"],
        ["+", "first", "ada", "seed", "async-1"],
        ["~", "second", "ada", "seed", "async-1"],
    ]
