"""An export gives what its viewer may see, once and in order, and nothing that a spreadsheet would run."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

import koherent
from example_schema.models import Dataset, Project, Tag
from koherent import export, timeline
from koherent.policy import Viewer, scope_for
from koherent.timeline import Filters

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return User.objects.create_superuser("ada", password="not-used")


@pytest.fixture
def reader(accounts: dict[str, User]) -> User:
    """Sees all rows, but no redacted value."""
    return accounts["viewer"]


@pytest.fixture
def dataset(ada: User) -> Dataset:
    with koherent.audit(user=ada, app="desk", assignation_id="task-1", reason="=cmd()", ticket=7):
        project = Project.objects.create(name="=2+5")
        tag = Tag.objects.create(name="night")
        dataset = Dataset.objects.create(project=project, title="Craters", access_notes="only Ada")
        dataset.tags.add(tag)
        dataset.title = "@Craters"
        dataset.save()
        tag.delete()
    return dataset


def run(*arguments: str) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    call_command("koherent_export", *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def records(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(*arguments)[0].splitlines()]


def test_a_record_says_who_what_when_and_why(dataset: Dataset, ada: User) -> None:
    found = records("--all", "--model", "example_schema.dataset", "--action", "update")
    change = found[1]
    entry = timeline.page(export.unrestricted(), Filters(models=["example_schema.dataset"])).entries[1]
    assert change == {
        "cursor": entry.cursor,
        "model": "example_schema.dataset",
        "historyId": entry.history_id,
        "action": "UPDATE",
        "origin": "CHANGE",
        "date": entry.date.isoformat(),
        "objectId": str(dataset.pk),
        "objectLabel": "@Craters",
        "user": {"id": str(ada.pk), "username": "ada", "deleted": False},
        "app": "desk",
        "assignationId": "task-1",
        "reason": "=cmd()",
        "metadata": {"ticket": 7},
        "changes": change["changes"],
        "snapshot": entry.snapshot,
    }
    assert change["changes"][0] == {
        "field": "title",
        "label": "title",
        "old": "Craters",
        "new": "@Craters",
        "oldLabel": None,
        "newLabel": None,
        "added": None,
        "removed": None,
        "redacted": False,
        "erased": False,
    }


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_every_entry_comes_once_oldest_first_and_can_be_gone_on_from(
    dataset: Dataset, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = timeline.page(export.unrestricted()).entries
    expected = [list(entry.key) for entry in reversed(pages)]
    monkeypatch.setattr(export, "BATCH", limit)
    found = records("--all")
    assert [[r["model"], r["historyId"]] for r in found] == expected
    for place, entry in enumerate(found):
        assert records("--all", "--after", entry["cursor"]) == found[place + 1 :]
    assert f"last cursor: {found[-1]['cursor']}" in run("--all")[1]


def test_filters_are_those_of_graphql(dataset: Dataset, ada: User) -> None:
    Project.objects.create(name="Mars")
    total = len(records("--all"))
    assert len(records("--all", "--by", str(ada.pk))) == len(records("--all", "--app", "desk")) == total - 1
    assert len(records("--all", "--assignation", "task-1")) == len(records("--all", "--assigned")) == total - 1
    assert [r["objectLabel"] for r in records("--all", "--unassigned")] == ["Mars"]
    assert [r["model"] for r in records("--all", "--action", "delete")] == ["example_schema.tag"]
    own = records("--all", "--model", "example_schema.dataset", "--object-id", str(dataset.pk))
    assert {r["objectId"] for r in own} == {str(dataset.pk)}
    newest = records("--all")[-1]["date"]
    assert len(records("--all", "--since", newest)) == 1
    assert len(records("--all", "--until", newest)) == total - 1
    assert records("--all", "--until", "1d") == []


def test_a_user_gets_what_the_policy_shows_and_the_operator_everything(dataset: Dataset, reader: User) -> None:
    arguments = ("--model", "example_schema.dataset", "--action", "create")
    [hidden], [shown] = records("--user", reader.get_username(), *arguments), records("--all", *arguments)
    assert hidden["snapshot"]["access_notes"] is None
    assert shown["snapshot"]["access_notes"] == "only Ada"
    assert "only Ada" not in run("--user", reader.get_username())[0]
    assert "only Ada" not in run("--user", reader.get_username(), "--format", "csv")[0]
    seen = [entry.key for entry in export.entries(scope_for(Viewer(user=reader)))]
    assert seen == [entry.key for entry in export.entries(export.unrestricted())]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say for whom"),
        (["--user", "nobody"], "no account"),
        (["--user", "sleeper"], "UNAUTHENTICATED"),
        (["--user", "stranger"], "FORBIDDEN"),
        (["--all", "--model", "nothing.here"], "BAD_FILTER"),
        (["--all", "--object-id", "1"], "BAD_FILTER"),
        (["--all", "--after", "nonsense"], "BAD_CURSOR"),
        (["--all", "--since", "1d", "--until", "2d"], "BAD_FILTER"),
        (["--all", "--since", "yesterday"], "takes an age"),
    ],
)
def test_what_is_refused(arguments: list[str], message: str) -> None:
    User.objects.create_user("sleeper", is_active=False)
    User.objects.create_user("stranger")
    with pytest.raises(CommandError, match=message) as caught:
        run(*arguments)
    assert caught.value.returncode == 2


def test_csv_holds_the_same_and_no_cell_that_runs(dataset: Dataset) -> None:
    expected, text = records("--all"), run("--all", "--format", "csv")[0]
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["cursor"] for row in rows] == [r["cursor"] for r in expected]
    for row, found in zip(rows, expected, strict=True):
        assert json.loads(row["snapshot"]) == found["snapshot"]
        assert json.loads(row["changes"]) == found["changes"]
        assert row["reason"] == "'=cmd()"
        assert not any(value[:1] in set("=+-@\t\r") for value in row.values())
    assert {row["objectLabel"] for row in rows} == {"'=2+5", "night", "Craters", "'@Craters"}
    assert len(run("--all", "--format", "csv", "--after", expected[0]["cursor"])[0].splitlines()) == len(expected) - 1


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1", "'=1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@a", "'@a"),
        ("\t=1", "'\t=1"),
        ("\r", "'\r"),
        ("  =1", "'  =1"),
        ("＝1", "'＝1"),
        ("a=1", "a=1"),
        ("", ""),
        (None, ""),
        (False, "false"),
        ({"a": "=1"}, '{"a": "=1"}'),
        ("\ud800", "\\ud800"),
    ],
)
def test_cells(value: Any, shown: str) -> None:
    assert export.cell(value) == shown


def test_a_file_is_new_private_and_can_be_appended_to(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "trail.ndjson"
    run("--all", "--output", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    whole = path.read_text(encoding="utf-8")
    with pytest.raises(CommandError, match="exists") as caught:
        run("--all", "--output", str(path))
    assert caught.value.returncode == 1
    Tag.objects.create(name="new")
    cursor = json.loads(whole.splitlines()[-1])["cursor"]
    run("--all", "--output", str(path), "--after", cursor)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == records("--all")


def test_an_interrupt_tells_where_to_go_on(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = export.entries

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        for number, entry in enumerate(plain(*args, **kwargs)):
            if number == 2:
                raise KeyboardInterrupt
            yield entry

    whole = records("--all")
    monkeypatch.setattr(export, "entries", interrupted)
    with pytest.raises(CommandError, match="last cursor: ") as caught:
        run("--all")
    assert caught.value.returncode == 130
    monkeypatch.undo()
    cursor = str(caught.value).rpartition("last cursor: ")[2]
    assert records("--all", "--after", cursor) == whole[2:]
