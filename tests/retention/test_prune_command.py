"""``koherent_prune`` as an operator meets it."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from example_schema.models import Project
from koherent.management.commands import koherent_prune
from tests.retention.histories import days_ago, write

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _two_projects() -> None:
    for pk in (1, 2):
        write(
            Project,
            [
                {"id": pk, "name": str(age), "history_type": "~", "history_date": days_ago(age)}
                for age in (50, 40, 30, 1)
            ],
        )


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("koherent_prune", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_a_dry_run_counts_and_a_run_deletes_what_it_counted() -> None:
    arguments = ("--older-than", "35d", "--model", "example_schema.Project")
    counted = json.loads(run(*arguments, "--dry-run", "--json"))
    assert Project.history.count() == 8
    assert counted == {
        "cutoff": counted["cutoff"],
        "dryRun": True,
        "entries": 2,
        "links": 0,
        "assignations": None,
        "models": [{"model": "example_schema.project", "entries": 2, "links": 0}],
    }
    text = run(*arguments)
    assert "example_schema.project: 2 entries, 0 many-to-many rows" in text
    assert "2 entries dated before" in text
    assert Project.history.count() == 6
    assert json.loads(run(*arguments, "--json"))["entries"] == 0


@pytest.mark.parametrize(
    ("age", "entries"),
    [
        ("1w", 4),
        ("45d", 0),
        ("840h", 2),
        ("1y", 0),
        (days_ago(35).date().isoformat(), 2),
        (days_ago(35).isoformat(), 2),
    ],
    ids=["weeks", "days", "hours", "years", "date", "time"],
)
def test_ages_dates_and_times(age: str, entries: int) -> None:
    assert json.loads(run("--older-than", age, "--dry-run", "--json"))["entries"] == entries


def test_the_newest_of_each_object_stay() -> None:
    assert json.loads(run("--keep", "2", "--json"))["entries"] == 2
    assert Project.history.filter(id=1).count() == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--older-than, --keep or both"),
        (["--older-than", "soon"], "takes an age"),
        (["--older-than", "2026-02-30"], "takes an age"),
        (["--older-than", "999999y"], "takes an age"),
        (["--keep", "-1"], "BAD_INPUT"),
        (["--keep", "1", "--model", "nothing.here"], "BAD_INPUT"),
    ],
)
def test_wrong_arguments_change_nothing(arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        run(*arguments)
    assert caught.value.returncode == 2
    assert Project.history.count() == 8


def test_an_interrupt_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(koherent_prune, "prune", interrupted)
    with pytest.raises(CommandError, match="run the same command again") as caught:
        run("--keep", "1")
    assert caught.value.returncode == 130


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_and_a_pipe_none() -> None:
    for stream, shown in ((Terminal(), True), (io.StringIO(), False)):
        call_command("koherent_prune", "--keep", "1", "--dry-run", stdout=io.StringIO(), stderr=stream)
        assert ("8/8" in stream.getvalue()) == shown
