"""Whatever way a row is written, the trail holds exactly what was changed, by whom, and in what context."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connections

import koherent
from tests.wide.links import LINK_TABLES
from tests.wide.managers import MANAGER_TABLES
from tests.wide.paths import KINDS, ROW_PATHS, Path, RowsCase
from tests.wide.relations import RELATION_TABLES
from tests.wide.snapshot import snapshot
from tests.wide.trail import Case, Watch

pytestmark = pytest.mark.django_db(databases=["default", "other"])

Cell = tuple[Callable[[], Case], Path]
CELLS: dict[str, Cell] = {
    f"{kind}: {path.name}": (lambda kind=kind: RowsCase(KINDS[kind]), path) for kind in KINDS for path in ROW_PATHS
} | {
    f"{table}: {path.name}": (given, path)
    for table, (given, paths) in (LINK_TABLES | RELATION_TABLES | MANAGER_TABLES).items()
    for path in paths
}
# What waits in a unit of work is a key; two kinds of it are enough there.
IN_UNITS = {name: cell for name, cell in CELLS.items() if not name.startswith(("uuid:", "text:"))}
TWINS = {name: cell for name, cell in CELLS.items() if cell[1].twin is not None}


def refusal(path: Path) -> AbstractContextManager[Any]:
    return nullcontext() if path.raises is None else pytest.raises(path.raises)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_sync(cell: Cell, ada: User) -> None:
    given, path = cell
    watch = Watch(given(), ada)
    with watch.audit(), refusal(path):
        path.write(watch.case)
    watch.check(path.entries)


@pytest.mark.parametrize("cell", IN_UNITS.values(), ids=IN_UNITS)
def test_in_a_unit_of_work(cell: Cell, ada: User) -> None:
    """Entries that wait are the same entries."""
    given, path = cell
    watch = Watch(given(), ada)
    with koherent.atomic(), koherent.atomic(using="other"), watch.audit(), refusal(path):
        path.write(watch.case)
    watch.check(path.entries)


def in_front(execute: Any, sql: Any, *rest: Any) -> Any:
    """An execute wrapper as teams have one, to find a statement's origin in the database's log."""
    return execute(f"/* view */ {sql}", *rest)


@pytest.mark.parametrize("unit", [nullcontext, koherent.atomic], ids=["plain", "unit"])
@pytest.mark.parametrize("cell", IN_UNITS.values(), ids=IN_UNITS)
def test_with_a_comment_in_front_of_every_statement(cell: Cell, unit: Any, ada: User) -> None:
    given, path = cell
    watch = Watch(given(), ada)
    commenting = connections["default"].execute_wrapper(in_front), connections["other"].execute_wrapper(in_front)
    with commenting[0], commenting[1], unit(), watch.audit(), refusal(path):
        path.write(watch.case)
    watch.check(path.entries)


@pytest.mark.parametrize("cell", IN_UNITS.values(), ids=IN_UNITS)
def test_in_the_unit_of_work_that_made_its_objects(cell: Cell, ada: User) -> None:
    """Entries of the objects wait themselves when the objects are written to again."""
    given, path = cell
    with koherent.atomic(), koherent.atomic(using="other"):
        watch = Watch(given(), ada, waiting=True)
        with watch.audit(), refusal(path):
            path.write(watch.case)
    watch.check(path.entries)
    now = snapshot()
    assert now.recorded == now.live


@pytest.mark.parametrize("cell", TWINS.values(), ids=TWINS)
def test_async(cell: Cell, ada: User) -> None:
    given, path = cell
    watch = Watch(given(), ada)

    async def write() -> None:
        assert path.twin is not None
        async with watch.audit():
            await path.twin(watch.case)

    with refusal(path):
        async_to_sync(write)()
    watch.check(path.entries)
