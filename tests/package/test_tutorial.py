"""docs/tutorial.md, followed word by word with the built wheel in an empty folder, ends with a working subscription."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
BLOCK = re.compile(r'^```(python|console)(?: title="([^"]*)")?\n(.*?)^```$', flags=re.MULTILINE | re.DOTALL)
WAIT_SECONDS = 60.0


def commands(block: str) -> str:
    """What is typed, as a script that stops at the first failure."""
    return "set -e\n" + "\n".join(line.removeprefix("$ ") for line in block.splitlines())


@contextmanager
def terminal(script: str, folder: Path, log: Path, environment: dict[str, str]) -> Iterator[None]:
    """A terminal in which something keeps running."""
    with log.open("wb") as out:
        # Its last command takes the shell's place, so that it is the one to be ended.
        *before, last = script.splitlines()
        shell = ["bash", "-c", "\n".join([*before, f"exec {last}"])]
        process = subprocess.Popen(shell, cwd=folder, env=environment, stdout=out, stderr=out)
        try:
            yield
        finally:
            process.terminate()
            process.wait(20)


def wait_for(text: str, log: Path) -> None:
    """Until a terminal has printed it; fails with what it printed instead."""
    deadline = time.monotonic() + WAIT_SECONDS
    while text not in log.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.05)


@pytest.mark.timeout(600)
def test_it_ends_with_a_working_subscription(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=100)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    kept = ("DJANGO_", "PYTHON", "EXAMPLE_", "VIRTUAL_ENV", "COV_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"}
    logs: list[Path] = []
    with ExitStack() as open_terminals:
        activate = ""
        for language, title, block in BLOCK.findall(TEXT):
            typed = block.replace("8000", port)
            if language == "python":
                name, _, adding = title.partition(" ")
                with (tmp_path / name).open("a" if adding else "w", encoding="utf-8") as file:
                    file.write(typed)
            elif title:
                log = tmp_path / f"terminal-{len(logs)}.log"
                open_terminals.enter_context(terminal(commands(typed), tmp_path, log, environment))
                wait_for("watching" if logs else "Listening on TCP", log)
                logs.append(log)
            else:
                done = subprocess.run(
                    ["bash", "-c", activate + commands(typed)], cwd=tmp_path, env=environment, timeout=400, check=False
                )
                assert done.returncode == 0, typed
                activate = ". venv/bin/activate\n"  # the first terminal stays in it
        _, watcher = logs
        (promised,) = re.findall(r"^```text\n(.*?)^```$", TEXT, flags=re.MULTILINE | re.DOTALL)
        wait_for(promised, watcher)
