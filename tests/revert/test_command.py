"""``manage.py koherent_revert``: the plan is shown, asked about, and applied exactly as shown."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from example_schema.models import Dataset, Project, Tag
from koherent import audit
from koherent.models import Assignation
from koherent.revert import revert_assignation

pytestmark = pytest.mark.django_db
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(*arguments, answer=...)``: the exit status and what was printed; without an answer nobody is there."""

    def call(*arguments: str, answer: str | Callable[[], str] | None = None) -> tuple[int, str]:
        out = io.StringIO()
        monkeypatch.setattr("sys.stdin", io.StringIO())
        if answer is not None:
            monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
            monkeypatch.setattr("builtins.input", lambda _: answer() if callable(answer) else answer)
        try:
            call_command("koherent_revert", *arguments, stdout=out, stderr=io.StringIO())
        except CommandError as error:
            return error.returncode, f"{out.getvalue()}{error}"
        return 0, out.getvalue()

    return call


@pytest.fixture
def dataset() -> Dataset:
    with audit(assignation_id="setup"):
        project = Project.objects.create(name="Moon")
        made = Dataset.objects.create(project=project, title="Craters")
        made.tags.add(Tag.objects.create(name="raw"))
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
        made.tags.clear()
    return made


def title() -> str:
    return Dataset.objects.get().title


def test_it_shows_asks_and_applies_what_it_showed(run: Run, dataset: Dataset) -> None:
    User.objects.create_user("ada")
    tag = Tag.objects.get()
    status, text = run("--assignation", "work", "--user", "ada", "--reason", "oops", answer="y")
    assignation = Assignation.objects.get(reverts="work").assignation_id
    assert (status, text.splitlines()) == (
        0,
        [
            f"change example_schema.dataset {dataset.pk} (Seas)",
            '    title: "Seas" -> "Craters"',
            f"    tags: +[{tag.pk}] -[]",
            f"Done, as assignation {assignation}: 1 entries were written.",
        ],
    )
    entry = Dataset.history.latest("history_id")
    assert (entry.title, entry.actor_name, entry.history_change_reason) == ("Craters", "ada", "oops")
    assert run("--assignation", "work", "--yes") == (0, "Nothing to do: everything is as wanted already.\n")


@pytest.mark.usefixtures("dataset")
def test_no_is_no(run: Run) -> None:
    status, text = run("--assignation", "work", answer="")
    assert (status, text.splitlines()[-1], title()) == (1, "Nothing was written.", "Seas")


@pytest.mark.usefixtures("dataset")
def test_what_changed_while_it_asked_is_not_overwritten(run: Run) -> None:
    def somebody_else() -> str:
        Dataset.objects.update(title="Mountains")
        return "y"

    status, text = run("--assignation", "work", answer=somebody_else)
    assert (status, title()) == (1, "Mountains")
    assert "Meanwhile something changed" in text
    assert "CHANGED_SINCE: title changed since." in text


def test_a_conflict_is_shown_with_its_entry_and_a_policy_decides(run: Run, dataset: Dataset) -> None:
    Dataset.objects.update(title="Mountains")
    entry = Dataset.history.latest("history_id")
    for policy in ("abort", "skip_conflicts"):
        status, text = run("--assignation", "work", "--policy", policy, "--yes")
        assert status == 1
        assert f"  ! CHANGED_SINCE: title changed since. (see entry example_schema.dataset:{entry.pk})" in text
        assert text.endswith("1 steps, 1 with conflicts.\nNothing was written.")
    assert run("--assignation", "work", "--policy", "overwrite", "--yes")[0] == 0
    assert (title(), dataset.tags.count()) == ("Craters", 1)


def test_one_object_goes_back_to_an_entry(run: Run, dataset: Dataset) -> None:
    entry = Dataset.history.filter(history_type="+").get()
    status, text = run("--entry", f"example_schema.Dataset:{entry.pk}", "--dry-run")
    assert (status, title()) == (0, "Seas")
    assert text.startswith(f"change example_schema.dataset {dataset.pk} (Seas)\n")
    assert run("--entry", f"example_schema.dataset:{entry.pk}", "--yes")[0] == 0
    assert title() == "Craters"


def test_a_script_reads_json_and_applies_the_plan_that_it_read(run: Run, dataset: Dataset) -> None:
    status, text = run("--assignation", "work", "--dry-run", "--json")
    planned = json.loads(text)
    assert status == 0
    assert planned == {
        "status": "PLANNED",
        "plan": planned["plan"],
        "assignationId": None,
        "stepCount": 1,
        "conflictCount": 0,
        "entryCount": 0,
        "steps": [
            {
                "action": "UPDATE",
                "model": "example_schema.dataset",
                "objectId": str(dataset.pk),
                "objectLabel": "Seas",
                "applied": False,
                "changes": [
                    {"field": "title", "old": "Seas", "new": "Craters"},
                    {"field": "tags", "added": [Tag.objects.get().pk], "removed": []},
                ],
                "conflicts": [],
            }
        ],
    }
    status, text = run("--assignation", "work", "--json", "--yes", "--expected-plan", "another")
    assert (status, json.loads(text.removesuffix("Nothing was written."))["status"]) == (1, "CONFLICTED")
    status, text = run("--assignation", "work", "--json", "--yes", "--expected-plan", planned["plan"])
    assert (status, json.loads(text)["status"], title()) == (0, "APPLIED", "Craters")


@pytest.mark.usefixtures("dataset")
def test_a_long_plan_is_shown_in_part_with_its_conflicts(run: Run) -> None:
    with audit(assignation_id="many"):
        Tag.objects.bulk_create(Tag(name=f"t{number:03}") for number in range(130))
    Tag.objects.filter(name="t120").update(name="theirs")
    status, text = run("--assignation", "many", "--dry-run")
    lines = text.splitlines()
    assert (status, len([line for line in lines if line.startswith("delete ")])) == (1, 101)
    assert "... and 30 more steps; --verbosity 2 shows all." in lines
    assert "(theirs)" in lines[-5]
    text = run("--assignation", "many", "--dry-run", "--verbosity", "2")[1]
    assert len([line for line in text.splitlines() if line.startswith("delete ")]) == 130


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "one of the arguments --assignation --entry is required"),
        (("--assignation", "work", "--entry", "a.b:1"), "not allowed with argument"),
        (("--assignation", "work"), "There is nobody to ask"),
        (("--assignation", "work", "--json"), "--json asks nothing"),
        (("--assignation", "never", "--yes"), "No such assignation. (NOT_FOUND)"),
        (("--assignation", "work", "--yes", "--policy", "force"), "invalid choice"),
        (("--assignation", "work", "--yes", "--user", "nobody"), "There is no account 'nobody'."),
        (("--assignation", "work", "--yes", "--reason", "a\tb"), "(BAD_HEADER)"),
        (("--entry", "example_schema.dataset:x", "--yes"), "--entry takes app.model:history_id"),
        (("--entry", "example_schema.nothing:1", "--yes"), "--entry takes app.model:history_id"),
        (("--entry", "example_schema.dataset:999999", "--yes"), "No such entry. (NOT_FOUND)"),
    ],
)
def test_wrong_arguments_are_status_2(run: Run, dataset: Dataset, arguments: tuple[str, ...], message: str) -> None:
    status, text = run(*arguments)
    # Django gives argparse's own errors the status 1 when a command is called from Python, and 2 on the command line.
    assert message in text
    assert (status, title()) == (1 if "argument" in message or "choice" in message else 2, "Seas")


def test_progress_is_told(dataset: Dataset) -> None:
    told: list[Any] = []
    revert_assignation(None, "work", progress=lambda *what: told.append(what))
    assert told == [("planning", 1, 1), ("writing", 1, 1)]
