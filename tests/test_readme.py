"""The README's quick start runs as written, in a project of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

# What a project has anyway, and the README need not say.
PROJECT_SETTINGS = """
SECRET_KEY = "only-for-this-test"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "readme.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
"""
RUN = """
import json, sys
import django
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import RequestFactory
call_command("makemigrations", "notes", verbosity=0)
call_command("migrate", verbosity=0)
from notes.schema import schema
request = RequestFactory().post("/", headers={"X-Assignation-Id": "tidy-up-1", "X-App": "notebook"})
request.user = User.objects.create_superuser("ada")
results = [schema.execute_sync(text, context_value={"request": request}) for text in json.load(sys.stdin)]
json.dump([{"data": result.data, "errors": [str(e) for e in result.errors or []]} for result in results], sys.stdout)
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def run_quick_start(folder: Path, *, python: str = sys.executable, tree: Path | None = ROOT) -> list[dict[str, Any]]:
    """What the README's operations give, in a process with koherent from ``tree``, or as it is installed."""
    (folder / "notes").mkdir()
    (folder / "notes" / "__init__.py").touch()
    for block in blocks("python"):
        name = block.splitlines()[0].removeprefix("# ")
        text = block + PROJECT_SETTINGS if name == "settings.py" else block
        (folder / name).write_text(text, encoding="utf-8")
    environment = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "settings",
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, (folder, tree)))),
    }
    done = subprocess.run(
        [python, "-c", RUN],
        input=json.dumps(blocks("graphql")),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=folder,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    results: list[dict[str, Any]] = json.loads(done.stdout)
    return results


def test_the_quick_start_records_shows_and_plans_the_undo(tmp_path: Path) -> None:
    check_quick_start(run_quick_start(tmp_path))


def check_quick_start(results: list[dict[str, Any]]) -> None:
    """That the operations gave what the README promises."""
    created, updated, trail, preview = results
    assert created == {"data": {"createNote": {"id": "1"}}, "errors": []}
    assert updated == {"data": {"updateNote": {"text": "hello"}}, "errors": []}
    by = {"app": "notebook", "user": {"username": "ada"}}
    change = {"field": "text", "old": "helo", "new": "hello"}
    assert trail["errors"] == []
    update, create = (edge["node"] for edge in trail["data"]["history"]["edges"])
    assert trail["data"]["history"]["totalCount"] == 2
    assert update == {"action": "UPDATE", "objectLabel": "hello", **by, "changes": [change]}
    assert {**create, "changes": None} == {"action": "CREATE", "objectLabel": "helo", **by, "changes": None}
    assert {"field": "text", "old": None, "new": "helo"} in create["changes"]
    assert preview["errors"] == []
    report = preview["data"]["revertAssignation"]
    assert report == {"status": "PLANNED", "plan": report["plan"], "stepCount": 1, "conflictCount": 0}


def test_the_commands_that_the_readme_names_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in set(re.findall(r"`make ([a-z-]+)`", README)):
        assert re.search(rf"^{command}:", makefile, flags=re.MULTILINE), command


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
