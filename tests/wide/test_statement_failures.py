"""Promise 1 under failure: whichever SQL statement of a write fails, the trail and the rows agree afterwards.

Each path of the tables is run once for each of its statements k = 1, 2, ..., and the k-th is made to fail.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.db import DatabaseError, connections, router, transaction
from django.db.models import ProtectedError, RestrictedError

import koherent
from koherent.models import Assignation
from tests.wide.links import LINK_TABLES
from tests.wide.managers import MANAGER_TABLES
from tests.wide.paths import KINDS, ROW_PATHS, Path, RowsCase
from tests.wide.relations import RELATION_TABLES
from tests.wide.snapshot import Snapshot, snapshot
from tests.wide.trail import Case

pytestmark = pytest.mark.django_db(databases=["default", "other"], transaction=True)

TABLES: dict[str, tuple[Callable[[], Case], list[Path]]] = {
    "rows": (lambda: RowsCase(KINDS["integer"]), ROW_PATHS),
    **LINK_TABLES,
    **RELATION_TABLES,
    **MANAGER_TABLES,
}
#: More statements than any path needs.
BOUND = 200


class InjectedFailure(DatabaseError):
    """The failure of the k-th statement."""


@contextmanager
def failing(number: int) -> Iterator[list[str]]:
    """Make the statement of that number fail, on whichever database; yields what failed."""
    seen, failed = [], []

    def execute(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        if len(seen) == number:
            failed.append(sql)
            raise InjectedFailure(sql)
        return execute(sql, params, many, context)

    with ExitStack() as stack:
        for connection in connections.all():
            stack.enter_context(connection.execute_wrapper(execute))
        yield failed


Atomic = Callable[..., AbstractContextManager[None]]


@contextmanager
def atomically(atomic: Atomic = transaction.atomic) -> Iterator[None]:
    """A transaction, or a savepoint, on each database."""
    with ExitStack() as stack:
        for alias in connections:
            stack.enter_context(atomic(using=alias))
        yield


def autocommit(number: int, write: Callable[[], object]) -> bool:
    """Nobody opened a transaction."""
    with failing(number) as failed, suppress(InjectedFailure):
        write()
    return bool(failed)


def unit(number: int, write: Callable[[], object]) -> bool:
    """The unit's own statements, before its commit, fail too."""
    with failing(number) as failed, suppress(InjectedFailure), atomically(koherent.atomic):
        write()
    return bool(failed)


def savepoint(number: int, write: Callable[[], object], atomic: Atomic = transaction.atomic) -> bool:
    """The caller's transaction goes on after the failed part was rolled back."""
    with atomically(atomic), failing(number) as failed, suppress(InjectedFailure), atomically(atomic):
        write()
    return bool(failed)


def unit_savepoint(number: int, write: Callable[[], object]) -> bool:
    """The same in a unit of work, whose entries wait beyond the savepoint."""
    return savepoint(number, write, koherent.atomic)


def swallowed(number: int, write: Callable[[], object]) -> bool:
    """The caller goes on as if nothing had been; where Django forbids that, all is rolled back."""
    with atomically(), failing(number) as failed, suppress(InjectedFailure):
        write()
    return bool(failed)


def complaint(path: Path, before: Snapshot, after: Snapshot) -> str | None:
    """What is wrong, or None: the trail tells the rows as they are, and no more."""
    new = after.entries - before.entries
    if after.recorded != after.live:
        return "the trail and the rows differ"
    if after.live == before.live and new:
        return "entries without a change"
    if new > len(path.entries):
        return "more entries than changes"
    if after.in_runs != after.of_runs:
        return "runs without their entries, or entries without their run"
    if after.assignations and not new:
        return "an assignation without an entry"
    return None


def clean() -> None:
    """Empty the tables of this project; quicker than flushing the database once for each statement."""
    with atomically():
        models: list[Any] = [*apps.get_app_config("wide").get_models(include_auto_created=True), Assignation]
        for model in models:
            if not model._meta.proxy:
                alias = router.db_for_write(model)
                model._base_manager.using(alias).order_by()._raw_delete(alias)


MODES = [(mode, table) for mode in (autocommit, savepoint, unit) for table in TABLES]
# What these ask is how Django's transactions go on, and not which path it was.
MODES += [(mode, table) for mode in (swallowed, unit_savepoint) for table in ("rows", "forward", "on_delete")]


@pytest.mark.parametrize(("around", "table"), MODES, ids=lambda part: getattr(part, "__name__", part))
def test_both_or_neither(around: Callable[[int, Callable[[], object]], bool], table: str, ada: User) -> None:
    given, paths = TABLES[table]
    broken: list[tuple[str, int, str]] = []
    for path in paths:
        case, before = _begin(given)
        for number in range(1, BOUND):
            failed = around(number, partial(_write, path, case.copy(), ada))
            after = snapshot()
            wrong = complaint(path, before, after)
            if wrong is not None:
                broken.append((path.name, number, wrong))
            if not failed:
                break
            if after != before:
                case, before = _begin(given)
        else:
            pytest.fail(f"{path.name} never ends")
    assert broken == []


def _begin(given: Callable[[], Case]) -> tuple[Case, Snapshot]:
    clean()
    with atomically():
        case = given()
    return case, snapshot()


def _write(path: Path, case: Case, user: User) -> None:
    with koherent.audit(user=user, assignation_id="task-1"), suppress(ProtectedError, RestrictedError):
        path.write(case)
