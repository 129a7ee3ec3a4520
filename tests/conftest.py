"""Fixtures that many tests share: the example's accounts, with their different rights."""

import io
import os
from collections.abc import Iterator
from typing import Any

import pytest
from channels.layers import channel_layers
from django.apps import apps
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.db.backends.base.creation import TEST_DATABASE_PREFIX
from django.test import override_settings

from koherent import commits
from koherent.feed.doorbell import Doorbell
from koherent.policy import Viewer


@pytest.fixture(scope="session", autouse=True)
def _fast_passwords() -> Iterator[None]:
    """Real password hashing costs half a second a user, and no test is about it."""
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(autouse=True)
def _channel_layer_of_its_own() -> None:
    """Every test has its own event loop, and a channel layer belongs to the loop that first used it."""
    channel_layers.backends.clear()


@pytest.fixture(scope="session", autouse=True)
def _nobody_else_in_the_test_database(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """The worker threads of finished event loops keep their connections, and PostgreSQL drops no database in use."""
    yield
    with django_db_blocker.unblock():
        for connection in connections.all():
            # A database that no test of this run asks for has not been made.
            is_made = str(connection.settings_dict["NAME"]).startswith(TEST_DATABASE_PREFIX)
            if connection.vendor == "postgresql" and is_made:
                with connection.cursor() as cursor:
                    cursor.execute(
                        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                    )


# `postgres` needs two connections at once, transaction ids and snapshots (`make postgres` runs it); `sqlite` asks
# SQLite's planner what `plans` asks PostgreSQL's.
collect_ignore = ["sqlite" if os.environ.get("EXAMPLE_DB") == "postgres" else "postgres"]
# A million rows, for `make plans`.
if "EXAMPLE_ROWS" not in os.environ:
    collect_ignore.append("plans")
# Drives a real browser: `make browser`.
if "BROWSER" not in os.environ:
    collect_ignore.append("browser")
# Runs generated clients: `make clients-generated`.
if "CLIENTS_PYTHON" not in os.environ:
    collect_ignore.append("clients")
# Builds and installs the package: `make package`.
if "BUILT_PACKAGE" not in os.environ:
    collect_ignore.append("package")
# Needs an environment with koherent 4.1.1 besides: `make koherent4`.
if "KOHERENT4_PYTHON" not in os.environ:
    collect_ignore.append("koherent4")
# A client from npm: `make clients-graphql-ws`. Both servers run on a SQLite file of their own, so once is enough.
if "GRAPHQL_WS" not in os.environ:
    collect_ignore.append("sockets/test_graphql_ws.py")
if os.environ.get("EXAMPLE_DB") == "postgres":
    collect_ignore.append("sockets")
# A project of its own: `pytest --ds=tests.wide.settings tests/wide`.
if not apps.is_installed("tests.wide"):
    collect_ignore.append("wide")
# Another, which needs packages that pin older ones: `make kante`.
if not apps.is_installed("authentikate"):
    collect_ignore.append("kante")


@pytest.fixture
def accounts(db: None) -> dict[str, User]:
    """The accounts of ``seed_example`` by name: curator, importer, viewer (reads only) and admin (superuser)."""
    call_command("seed_example", verbosity=0, stdout=io.StringIO())
    return {user.get_username(): user for user in User.objects.all()}


@pytest.fixture
def admin(db: None) -> User:
    """A superuser."""
    return User.objects.create_superuser("root", password="not-used")


@pytest.fixture
def viewer(admin: User) -> Viewer:
    """Who asks, as a superuser: sees and may everything."""
    return Viewer(user=admin)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[Doorbell]:
    """The doorbell of another process: commits of this one ring it, and no hub here hears but through the layer."""
    other = Doorbell()
    monkeypatch.setattr(commits, "on_committed", [lambda using, keys: other.ring(keys)])
    yield other
    assert other.finish(10.0)
