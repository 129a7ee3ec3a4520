"""What all commands have in common: exit statuses, interrupts without a traceback, colours on a terminal only."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class

import koherent
from example_schema.models import Project, Tag

pytestmark = pytest.mark.django_db
COMMANDS = Path(koherent.__file__).parent / "management" / "commands"
NAMES = sorted(path.stem for path in COMMANDS.glob("koherent_*.py"))
WORK = {
    "koherent_adopt_actors": ([], "adopt_actors"),
    "koherent_baseline": ([], "record_baseline"),
    "koherent_erase": (["--model", "example_schema.tag", "--object-id", "7", "--all-fields", "--dry-run"], "_object"),
    "koherent_prune": (["--older-than", "1d"], "prune"),
    "koherent_revert": (["--assignation", "work", "--dry-run"], "revert_assignation"),
    "koherent_verify": ([], "verify"),
}


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def work(db: None) -> None:
    with koherent.audit(assignation_id="work"):
        Project.objects.create(name="Moon")


@pytest.mark.parametrize("name", NAMES)
def test_its_help_says_its_exit_statuses(name: str) -> None:
    assert "Exit status: 0 " in load_command_class("koherent", name).help


@pytest.mark.parametrize("name", WORK)
def test_an_interrupt_has_a_status_and_a_sentence(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, function = WORK[name]

    def interrupted(*args: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"koherent.management.commands.{name}.{function}", interrupted)
    with pytest.raises(CommandError, match=r"^Interrupted\. ") as caught:
        call_command(name, *arguments, stdout=io.StringIO(), stderr=io.StringIO())
    assert caught.value.returncode == 130


@pytest.mark.parametrize(
    ("stream", "options", "coloured"),
    [(Terminal, {}, True), (Terminal, {"no_color": True}, False), (io.StringIO, {}, False)],
)
@pytest.mark.parametrize("command", ["koherent_verify", "koherent_revert"])
def test_colours_are_for_terminals(
    command: str,
    stream: Callable[[], io.StringIO],
    options: dict[str, Any],
    coloured: bool,
    work: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("django.core.management.color.supports_color", lambda: stream is Terminal)
    out = stream()
    arguments = ["--assignation", "work", "--yes"] if command == "koherent_revert" else []
    call_command(command, *arguments, stdout=out, stderr=io.StringIO(), **options)
    assert ("\x1b[" in out.getvalue()) is coloured


def test_a_shell_sees_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["manage.py", "koherent_verify", "--model", "nothing.here"]
    with pytest.raises(SystemExit) as ended:
        load_command_class("koherent", "koherent_verify").run_from_argv(argv)
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    assert told.err.startswith("CommandError: nothing.here is not a tracked model of this database.")


def test_bars_are_for_terminals(work: None) -> None:
    Tag.objects.create(name="raw")
    bars = {}
    for stream in (Terminal, io.StringIO):
        bars[stream] = stream()
        call_command("koherent_verify", stdout=io.StringIO(), stderr=bars[stream])
    assert "example_schema.tag: 100%" in bars[Terminal].getvalue()
    assert bars[io.StringIO].getvalue() == ""
