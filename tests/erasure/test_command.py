"""``koherent_erase`` as an operator meets it."""

import io
import json

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

import koherent
from example_schema.models import Project
from koherent import registry
from koherent.erasure import ERASED_NAME
from koherent.models import Origin

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    with koherent.audit(user=User.objects.create_user("ada")):
        return Project.objects.create(name="Ada's", description="about Ada")


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("koherent_erase", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def names() -> set[str]:
    return set(Project.history.values_list("name", flat=True))


def test_it_counts_asks_and_erases(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--model", "example_schema.Project", "--object-id", str(project.pk), "--field", "name"]
    assert "name would be erased from 1 entries" in run(*arguments, "--dry-run")
    asked = []

    def answer(text: str) -> str:
        asked.append(text)
        return "yes" if len(asked) == 1 else "erase"

    monkeypatch.setattr("builtins.input", answer)
    monkeypatch.setattr("sys.stdin", Terminal())
    with pytest.raises(CommandError, match="Nothing was erased") as caught:
        run(*arguments)
    assert caught.value.returncode == 1
    assert names() == {"Ada's"}
    assert "name are erased from 2 entries" in run(*arguments, "--user", "ada", "--reason", "on request")
    assert "would be erased from 1 entries" in asked[1]
    assert names() == {""}
    own = Project.history.latest("history_id")
    assert (own.origin, own.app, own.actor_name, own.history_change_reason) == (
        Origin.ERASURE,
        "koherent_erase",
        "ada",
        "on request",
    )


def test_all_fields_as_json(project: Project) -> None:
    key = str(project.pk)
    project.delete()
    found = json.loads(
        run("--model", "example_schema.project", "--object-id", key, "--all-fields", "--no-input", "--json")
    )
    assert found == {
        "model": "example_schema.project",
        "objectId": key,
        "fields": ["name", "description"],
        "entries": 3,
        "links": 0,
        "historyId": Project.history.latest("history_id").pk,
    }


def test_the_live_row_too_where_it_is_asked_for(project: Project) -> None:
    run(
        "--model",
        "example_schema.project",
        "--object-id",
        str(project.pk),
        "--field",
        "description",
        "--live",
        "--no-input",
    )
    project.refresh_from_db()
    assert (project.name, project.description) == ("Ada's", "")


def test_a_person(project: Project) -> None:
    key = str(User.objects.get(username="ada").pk)
    text = run("--actor", key, "--trace", "countess", "--no-input")
    assert f"account {key}: 1 entries are without the actor's name" in text
    assert Project.history.exclude(origin="erasure").get().actor_name == ERASED_NAME


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Say what goes"),
        (["--model", "example_schema.project", "--object-id", "1"], "Say which values"),
        (["--model", "example_schema.project", "--object-id", "1", "--field", "name", "--all-fields"], "which values"),
        (["--model", "nothing.here", "--object-id", "1", "--all-fields"], "no tracked model"),
        (["--model", "example_schema.project", "--object-id", "one", "--all-fields"], "BAD_FILTER"),
        (["--model", "example_schema.project", "--object-id", "999", "--all-fields"], "NOT_FOUND"),
        (["--model", "example_schema.project", "--object-id", "1", "--field", "id"], "BAD_INPUT"),
        (["--actor", "1", "--field", "name"], "another erasure"),
        (["--actor", ""], "BAD_INPUT"),
        (["--actor", "1", "--user", "nobody"], "no account"),
    ],
)
def test_what_is_refused(project: Project, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message) as caught:
        run(*arguments, "--no-input")
    assert caught.value.returncode == 2
    assert names() == {"Ada's"}


def test_it_asks_only_where_somebody_can_answer(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--model", "example_schema.project", "--object-id", str(project.pk), "--field", "name"]
    for stream, more, message in (
        (io.StringIO(), [], "nobody to ask"),
        (Terminal(), ["--json"], "--json asks nothing"),
    ):
        monkeypatch.setattr("sys.stdin", stream)
        with pytest.raises(CommandError, match=message) as caught:
            run(*arguments, *more)
        assert caught.value.returncode == 2
    assert names() == {"Ada's"}


def test_a_bar_counts_the_tables(project: Project) -> None:
    err = Terminal()
    call_command("koherent_erase", "--actor", "7", "--dry-run", stdout=io.StringIO(), stderr=err)
    assert "count: 100%" in err.getvalue()
    assert f"{2 * len(registry.tracked_on())}/" in err.getvalue()
