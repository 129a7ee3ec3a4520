"""The recipe for permissions on single objects, with django-guardian, in a project of its own."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_permissions_on_single_objects() -> None:
    """In a process of its own: django-guardian is an app, with tables and a backend."""
    recipe = (ROOT / "tests" / "guarded" / "policy.py").read_text(encoding="utf-8")
    assert recipe.split("# recipe: guardian")[1].split("# recipe: end")[0].strip() in DOCUMENT
    done = subprocess.run(
        [sys.executable, "-m", "tests.guarded"], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "own": ["mine"],
        "all": ["mine", "other", "tag"],
        "without mine": ["other", "tag"],
        "gone": ["tag"],
        "root": ["mine", "tag"],
    }
