"""A plugin for whole suites: two entries of one statement are a run already, so that all that reads meets runs."""

import pytest


@pytest.fixture(autouse=True)
def _runs_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koherent.writer.RUN_AT_LEAST", 2)
