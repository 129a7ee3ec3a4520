"""The programs in ``examples/clients``, generated and type-checked by ``make clients``, against a real server.

``make clients-generated`` runs it; ``CLIENTS_PYTHON`` is the interpreter that they are installed for.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from example_schema.demo import prepare, server

CLIENTS = Path(__file__).parents[2] / "examples" / "clients"
PROGRAMS = {
    "ariadne": [os.environ["CLIENTS_PYTHON"], "main.py"],
    "turms": [os.environ["CLIENTS_PYTHON"], "main.py"],
    "typescript": ["node", "build/main.js"],
}


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example's server, on a database of its own."""
    monkeypatch.setenv("EXAMPLE_SQLITE", str(tmp_path / "clients.sqlite3"))
    prepare()
    with server() as running:
        yield running


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_changes_lists_resumes_and_undoes(name: str, address: str) -> None:
    done = subprocess.run(
        [*PROGRAMS[name], address], capture_output=True, text=True, timeout=60, check=False, cwd=CLIENTS / name
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.replace('"', "'").splitlines()
    assert "UPDATE hello: title 'helo' -> 'hello'" in told
    assert [line for line in told if line.startswith("while we were away")] == [
        "while we were away: CREATE helo",
        "while we were away: UPDATE hello",
    ]
    assert re.fullmatch(r"APPLIED: 1 step, as assignation [0-9a-f-]{36}", told[-1])
