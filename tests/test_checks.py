"""What ``manage.py check`` says about tracked models."""

from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import DEFAULT_DB_ALIAS

from example_schema.models import Project
from koherent.checks import check_databases

pytestmark = pytest.mark.django_db


def _messages() -> list[tuple[str, Any]]:
    return [(str(message.id), message.obj) for message in check_databases(None)]


def test_the_example_has_nothing_to_complain_of() -> None:
    assert [message for message in run_checks() if str(message.id).startswith("koherent.")] == []


def test_a_second_database_is_named(settings: Any) -> None:
    class Router:
        def db_for_write(self, model: Any, **hints: Any) -> str | None:
            return "other" if model is Project else None

    settings.DATABASE_ROUTERS = [Router()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("koherent.checks.connections", {DEFAULT_DB_ALIAS: Vendor("sqlite"), "other": Vendor("oracle")})
        assert _messages() == [("koherent.E009", Project), ("koherent.W003", Project)]


class Vendor:
    """A connection, as far as the check looks at it."""

    def __init__(self, vendor: str) -> None:
        self.vendor = vendor
