"""A project moves from django-simple-history to koherent: its rows stay, no table is rewritten, nothing is fed."""

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.db.migrations.state import ProjectState

from koherent.operations import AdoptHistory

POSTGRES = os.environ.get("EXAMPLE_DB") == "postgres"
#: ``make deep`` sets it to 200,000.
ROWS = int(os.environ.get("ADOPTION_ROWS", "20"))

pytestmark = pytest.mark.timeout(900)


@contextlib.contextmanager
def own_database(folder: Path) -> Iterator[dict[str, str]]:
    """The environment that names a database of its own."""
    if not POSTGRES:
        yield {"EXAMPLE_SQLITE": str(folder / "adoption.sqlite3")}
        return
    name = f"{os.environ.get('PGDATABASE', 'postgres')}_adoption_{os.getpid()}"
    host, user = os.environ.get("PGHOST", "127.0.0.1"), os.environ.get("PGUSER", "postgres")
    dbname = os.environ.get("PGDATABASE", "postgres")
    with psycopg.connect(autocommit=True, host=host, user=user, dbname=dbname) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name}")
        admin.execute(f"CREATE DATABASE {name}")
        yield {"PGDATABASE": name}
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def run(stage: str, folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.adoption", stage, str(folder), str(ROWS)],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
        env={**inherited, **environment},
        cwd=Path(__file__).parent.parent.parent,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """What was there before, what was said to a wider key, and what was seen of the adoption."""
    folder = tmp_path_factory.mktemp("adoption")
    with own_database(folder) as environment:
        yield [run(stage, folder, environment) for stage in ("before", "widen", "adopt")]


@pytest.fixture
def before(stages: Any) -> Any:
    return stages[0]


@pytest.fixture
def adopted(stages: Any) -> Any:
    return stages[2]


def test_every_old_row_keeps_all_that_it_had(before: Any, adopted: Any) -> None:
    assert adopted["rows"] == before["rows"]
    assert len(before["rows"]["Site"]) == min(ROWS + 4, 1_000)


def test_one_migration_brings_every_table_to_the_shape_of_its_field(adopted: Any) -> None:
    assert [line.lstrip(" ?~*") for line in adopted["written"].splitlines()[2:]] == [
        "Adopt the history of lab.photo",
        "Adopt the history of lab.sample",
        "Adopt the history of lab.site",
    ]
    assert adopted["check"].strip() == "No changes detected"


def test_old_rows_have_no_position_and_know_their_fields(adopted: Any) -> None:
    assert adopted["stamps"] == sorted(adopted["field sets"])


def test_no_old_row_reaches_the_feed_and_the_first_new_one_does(adopted: Any) -> None:
    assert adopted["fed before"] == []
    assert adopted["fed after"] == [["lab.sample", 3]]


def test_the_first_change_is_compared_with_the_last_old_row(adopted: Any) -> None:
    assert adopted["change"] == [["price", "1.50", "2.50"]]
    assert adopted["snapshot"] == ["code", "id", "keeper", "price", "site", "tags", "taken_on"]


def test_actors_that_are_still_there_are_kept_by_name(adopted: Any) -> None:
    assert adopted["actors"] == [ROWS + 1]
    assert adopted["named"] == [["+", "ada"], ["~", None], ["+", None]]


def test_what_the_old_history_missed_gets_a_baseline_and_the_trail_is_whole(adopted: Any) -> None:
    assert [found[:2] for found in adopted["missing"]] == [["missing", "lab.site"]]
    assert adopted["baseline"] == 1
    assert adopted["findings"] == []


def test_indexes_are_those_that_reading_needs(adopted: Any) -> None:
    """No index on a single column is left of django-simple-history's, but that of the user's foreign key."""
    for columns in adopted["indexes"].values():
        assert not {"id", "history_date", "slug", "code", "site_id", "keeper_id", "taken_on", "sample_id"} & set(
            columns
        )
        assert "id,history_id" in columns


def test_a_key_is_widened_only_when_that_is_asked_for(stages: Any) -> None:
    assert stages[1]["status"] == 2
    assert "HistoryField(history_id_field=models.AutoField(primary_key=True))" in stages[1]["message"]
    assert "models.BigAutoField(primary_key=True" in stages[1]["files"][0]


def test_indexes_can_be_left_to_a_migration_that_makes_them_concurrently(stages: Any) -> None:
    with_indexes, without = stages[1]["files"]
    assert (with_indexes.count("AddIndex"), without.count("AddIndex")) == (33, 0)
    assert without.count("AddField") == with_indexes.count("AddField")


def test_a_migration_without_the_dependency_is_told_what_it_lacks() -> None:
    with pytest.raises(ImproperlyConfigured, match=re.escape('("koherent", "__first__") among its dependencies')):
        AdoptHistory("lab.site", ["id"], []).database_forwards(
            "lab", connection.schema_editor(collect_sql=True), ProjectState(), ProjectState()
        )


def test_a_data_migration_as_documented_is_recorded(adopted: Any) -> None:
    assert adopted["data migration"] == [
        ["+", "S2", "4.00", "baseline", 0, "migrate", "prices of 2026", []],
        ["~", "S1", "9.99", "baseline", 0, "migrate", "prices of 2026", ["coral", "night"]],
    ]
    assert adopted["findings after data"] == []
    assert adopted["fed after data"] == adopted["fed after"]


def test_plain_neighbours_are_left_alone(adopted: Any) -> None:
    assert adopted["neighbour"] == [["+", "left alone"], ["+", "still plain"]]
    assert "neighbour" not in adopted["migration"]


def test_the_way_back_and_forth_again_keeps_the_rows(before: Any, adopted: Any) -> None:
    assert adopted["columns backwards"] == sorted(
        ["id", "slug", "name", *(f"history_{name}" for name in ("id", "type", "date", "change_reason", "user_id"))]
    )
    assert adopted["count backwards"] == ROWS + 4
    assert adopted["rows again"] == before["rows"]
    assert adopted["check again"].strip() == "No changes detected"


if POSTGRES:

    def test_no_table_is_rewritten(adopted: Any) -> None:
        assert adopted["filenodes after"] == adopted["filenodes before"]
        assert len(adopted["filenodes after"]) == 5
        assert re.search(r'ADD COLUMN "position" bigint DEFAULT 0 NOT NULL', adopted["sql"])
        assert not re.search(r"UPDATE|TYPE (?!text)", adopted["sql"])


if ROWS >= 200_000:

    def test_figures(adopted: Any, record_property: Any) -> None:
        """What docs/adopting.md says of 200 thousand rows."""
        for name in ("migrate", "actors", "verify"):
            record_property(name, round(adopted[f"{name} seconds"], 1))
        assert adopted["migrate seconds"] < (10 if POSTGRES else 60)
