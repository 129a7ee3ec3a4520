"""What every write path ends in: ``record()`` writes entries of objects as the database holds them.

Inside ``koherent.atomic()`` an entry may wait in the unit of work (``unit.py``) to be written with others.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

from django.db import connections, models, transaction
from django.utils import timezone

from koherent import writer
from koherent.pausing import is_recording, suspended
from koherent.registry import TrackedModel
from koherent.statements import counts_keys, quote
from koherent.unit import Waiting, unit_of

__all__ = ["is_recording", "link_changes", "record", "record_links", "record_new", "suspended", "writing"]

BATCH = 5_000
# More than these in one statement gain nothing from waiting for others.
WAIT_AT_MOST = 100

#: Objects that a ``delete()`` under way takes: what happens to them on the way is no change.
going: ContextVar[set[tuple[TrackedModel, Any]] | None] = ContextVar("koherent_going", default=None)
#: True inside a write that is recorded by whoever makes it.
is_covered: ContextVar[bool] = ContextVar("koherent_covered", default=False)
_owners: ContextVar[tuple[str, dict[TrackedModel, dict[Any, None]]] | None] = ContextVar(
    "koherent_owners", default=None
)


def record(
    tracked: TrackedModel,
    using: str,
    pks: Sequence[Any],
    action: str,
    *,
    instance: models.Model | None = None,
    links: bool = False,
    may_wait: bool = False,
) -> list[int]:
    """Write an entry for each of ``pks`` as the database holds them now; returns the new history ids.

    For ``"-"`` call before the rows go. A ``"~"`` is written only where a value differs from the latest entry, or,
    with ``links``, where a tracked many-to-many differs. ``instance`` brings django-simple-history's attributes.
    With ``may_wait`` a unit of work may write it later, and nothing is returned.
    """
    if action == "~" and (leaving := going.get()):
        pks = [pk for pk in pks if (tracked, pk) not in leaving]
    if not pks:
        return []
    connection = connections[using]
    moment = getattr(instance, "_history_date", None) or timezone.now()
    by = writer.stamp(tracked, connection, action, instance)
    keep = action == "~" and not links and tracked.record_unchanged
    unit = unit_of(connection)
    # Who goes on after an error here must not be able to commit the change without its entry.
    with transaction.mark_for_rollback_on_error(using):
        if unit is None:
            return _write(tracked, using, pks, action, moment, by, links, keep)
        unit.before(tracked, pks)
        if may_wait and len(pks) <= WAIT_AT_MOST:
            unit.add(tracked, [Waiting(pk, moment, action, by, links, keep) for pk in pks])
            return []
        with unit.passing():
            return _write(tracked, using, pks, action, moment, by, links, keep)


def _write(
    tracked: TrackedModel,
    using: str,
    pks: Sequence[Any],
    action: str,
    moment: Any,
    by: writer.Stamp,
    links: bool,
    keep: bool,
) -> list[int]:
    connection = connections[using]
    written: list[int] = []
    for start in range(0, len(pks), BATCH):
        batch = pks[start : start + BATCH]
        written += writer.write(tracked, connection, batch, action, moment, by, links=links, keep=keep)
    return written


def record_new(tracked: TrackedModel, using: str, pks: Sequence[Any], newest: Any) -> list[int]:
    """Write a ``"+"`` entry for those of ``pks``, and of the rows above ``newest``, that have no live history."""
    connection = connections[using]
    with transaction.mark_for_rollback_on_error(using):
        return writer.write_new(tracked, connection, pks, newest, writer.stamp(tracked, connection, "+"))


def newest_key(tracked: TrackedModel, using: str) -> Any:
    """The highest key of the model's table where the database hands keys out, else None."""
    if not counts_keys(tracked):
        return None
    found = tracked.model._base_manager.using(using).order_by("-pk").values_list("pk", flat=True).first()
    return 0 if found is None else found


def together(using: str) -> AbstractContextManager[Any]:
    """One transaction for a change and its entries.

    Inside another one nothing is opened: an error before the first write, such as a protected object, must leave that
    one usable, as it does without us.
    """
    return nullcontext() if connections[using].in_atomic_block else transaction.atomic(using=using)


class writing:
    """Around a write to ``objects`` (keys; None: all of the model) that is recorded afterwards, inside a transaction.

    A class and no generator, because every ``save()`` pays for it.
    """

    def __init__(self, using: str, objects: Sequence[tuple[TrackedModel, Sequence[Any] | None]]) -> None:
        self._unit = unit_of(connections[using])
        self._objects = objects

    def __enter__(self) -> None:
        if self._unit is not None:
            for tracked, pks in self._objects:
                self._unit.before(tracked, pks)
            self._outside = self._unit.passes(True)
        self._token = is_covered.set(True)

    def __exit__(self, *error: Any) -> None:
        is_covered.reset(self._token)
        if self._unit is not None:
            self._unit.passes(self._outside)


class Returned:
    """An execute wrapper that has an UPDATE return the keys of the rows that it changed."""

    def __init__(self, model: type[models.Model]) -> None:
        self.pk: Any = model._meta.pk
        self.update = f"UPDATE {quote(model._meta.db_table)} SET "
        self.column = f"{quote(model._meta.db_table)}.{quote(self.pk.column)}"
        self.keys: list[Any] = []

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not sql.startswith(self.update):
            return execute(sql, params, many, context)
        result = execute(f"{sql} RETURNING {self.column}", params, many, context)
        keys = [row[0] for row in context["cursor"].fetchall()]
        self.keys += keys if isinstance(self.pk, models.AutoField) else map(self.pk.to_python, keys)
        return result


def record_links(tracked: TrackedModel, using: str, owners: Sequence[Any]) -> None:
    """Many-to-many links of ``owners`` have changed: one entry each, at the end of ``link_changes()`` inside one."""
    database, collected = _owners.get() or (None, {})
    if database == using:
        collected.setdefault(tracked, {}).update(dict.fromkeys(owners))
    else:
        record(tracked, using, owners, "~", links=True, may_wait=True)


@contextmanager
def link_changes(using: str) -> Iterator[None]:
    """What happens to many-to-many links inside is one change, of one transaction."""
    database, _ = _owners.get() or (None, {})
    if database == using or not is_recording():
        yield
        return
    collected: dict[TrackedModel, dict[Any, None]] = {}
    with together(using):
        token = _owners.set((using, collected))
        try:
            yield
        finally:
            _owners.reset(token)
        for tracked, owners in collected.items():
            record_links(tracked, using, list(owners))
