"""docs/koherent4.md, followed from a project on koherent 4.1.1: rows stay, client and task are found, and undone."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from tests.adoption.test_adoption import own_database

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "koherent4.md").read_text(encoding="utf-8")
#: The interpreter of an environment with koherent 4.1.1, which has the same import name.
BEFORE = os.environ["KOHERENT4_PYTHON"]

MODELS = """
from django.db import models
from koherent.fields import ProvenanceField

class Sample(models.Model):
    code = models.CharField(max_length=40)
    provenance = ProvenanceField()
"""
SETTINGS = """
from example_schema.settings import DATABASES
SECRET_KEY = "only-for-this-test"
INSTALLED_APPS = [
    "django.contrib.contenttypes", "django.contrib.auth", "simple_history", "strawberry_django",
    "kante", "authentikate", "koherent", "lab",
]
AUTH_USER_MODEL = "authentikate.User"
AUTHENTIKATE = {"ISSUERS": [], "AUDIENCE": "*", "STATIC_TOKENS": {}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^ +```{language}\n(.*?)^ +```$", TEXT, flags=re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in found]


def run(python: str, script: str, folder: Path, paths: list[Path], told: str = "", **environment: str) -> str:
    done = subprocess.run(
        [python, str(Path(__file__).parent / script)],
        input=told,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        cwd=folder,
        env={
            **os.environ,
            **environment,
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        },
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def moved(folder: Path) -> dict[str, Any]:
    """What is seen after the move; each step as the page has it."""
    lab = folder / "lab"
    (lab / "migrations").mkdir(parents=True)
    (lab / "__init__.py").touch()
    (lab / "migrations" / "__init__.py").touch()
    (lab / "models.py").write_text(MODELS, encoding="utf-8")
    (folder / "settings.py").write_text(SETTINGS, encoding="utf-8")
    # The tree's koherent must not be in the way of 4.1.1, the example's settings may.
    (folder / "example_schema").symlink_to(ROOT / "example_schema")
    with own_database(folder) as environment:
        run(BEFORE, "before.py", folder, [folder], **environment)
        old = lab / "migrations" / "0001_initial.py"
        text, found = re.subn(r"^ +\('koherent', '0003_.*'\),\n", "", old.read_text(), flags=re.MULTILINE)
        text, keys = re.subn(r"\('task', models\.ForeignKey\(.*to='koherent\.task'\)\)", new_column(), text)
        assert (found, keys) == (1, 1)
        old.write_text(text, encoding="utf-8")
        models, migration = blocks("python")
        (lab / "models.py").write_text(models, encoding="utf-8")
        run_commands = [line.removeprefix("$ python manage.py ") for line in blocks("console")[0].splitlines()]
        adopt = "koherent_adopt lab"
        (lab / "migrations" / "0003_remember.py").write_text(migration, encoding="utf-8")
        # The migration behind it is written once the first one is there.
        (lab / "migrations" / "0003_remember.py").rename(folder / "0003_remember.py")
        paths = [folder, ROOT]
        manage(adopt, folder, paths, environment)
        (folder / "0003_remember.py").rename(lab / "migrations" / "0003_remember.py")
        commands = [*run_commands, "makemigrations --check --dry-run"]
        seen: dict[str, Any] = json.loads(
            run(sys.executable, "after.py", folder, paths, json.dumps(commands), **environment)
        )
    return seen


def new_column() -> str:
    """The line that takes the foreign key's place, as the page shows it."""
    (line,) = re.findall(r"^\+ +(\(.*\)),$", blocks("diff")[0], flags=re.MULTILINE)
    return str(line)


def manage(command: str, folder: Path, paths: list[Path], environment: dict[str, str]) -> None:
    subprocess.run(
        [sys.executable, "-m", "django", *command.split()],
        check=True,
        capture_output=True,
        timeout=100,
        cwd=folder,
        env={
            **os.environ,
            **environment,
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        },
    )


@pytest.mark.timeout(600)
def test_old_rows_stay_and_know_their_client_and_task(tmp_path: Path) -> None:
    seen = moved(tmp_path)
    assert seen["rows"] == [
        [1, "S1", "microscope", "task-1", "ada", "change", 0, "microscope"],
        [2, "S2", None, None, None, "change", 0, None],
        [3, "without history", "koherent_baseline", None, None, "baseline", 0, None],
    ]
    assert "is whole" in seen["koherent_verify"]
    assert "No changes detected" in seen["makemigrations --check --dry-run"]
    assert seen["assignations"] == [["task-2", ["notebook"]], ["task-1", ["microscope"]]]
    assert seen["changes"] == [
        ["notebook", "task-2", [["code", "S2", "S3"]]],
        [None, None, [["code", "S1", "S2"]]],
        ["microscope", "task-1", [["code", None, "S1"]]],
    ]
    assert seen["undo"] == [["~", [["S3", "S2"]]]]
