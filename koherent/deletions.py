"""The entries of a ``delete()``, whatever it cascades to: one statement for each model, before the first row goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import connections, models

from koherent import recorder, registry
from koherent.registry import M2MTracked, TrackedModel
from koherent.statements import quote
from koherent.wrappers import outermost


class _Deletions:
    """What Django's collector has announced so far."""

    def __init__(self, using: str) -> None:
        self.using = using
        self.objects: dict[TrackedModel, list[Any]] = {}
        self.links: dict[tuple[TrackedModel, M2MTracked, str], list[Any]] = {}
        self.owners: dict[TrackedModel, dict[Any, None]] = {}

    def __call__(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        """Django's execute wrapper: the collector's first writing statement is the last moment to read the rows."""
        if (self.objects or self.links) and str(sql).lstrip()[:6].upper() in ("DELETE", "UPDATE"):
            self.flush()
        if recorder.is_covered.get() or not isinstance(sql, str) or not sql.startswith("UPDATE"):
            return execute(sql, params, many, context)
        # SET_DEFAULT and SET() make their UPDATE past all managers.
        tracked = next((t for t in registry.tracked_models() if sql.startswith(f"UPDATE {_table(t)} ")), None)
        if tracked is None:
            return execute(sql, params, many, context)
        returned = recorder.Returned(tracked.model)
        result = returned(execute, sql, params, many, context)
        recorder.record(tracked, self.using, returned.keys, "~", may_wait=True)
        return result

    def flush(self) -> None:
        """Record what was announced."""
        while self.links:
            (tracked, m2m, attname), values = self.links.popitem()
            for start in range(0, len(values), recorder.BATCH):
                owners = owners_of(m2m, self.using, attname, values[start : start + recorder.BATCH])
                self.owners.setdefault(tracked, {}).update(dict.fromkeys(owners))
        # In the order in which Django deletes them, so that two deletions wait for each other and no more.
        objects, self.objects = self.objects, {}
        for tracked, pks in objects.items():
            recorder.record(tracked, self.using, pks, "-")


_current: ContextVar[_Deletions | None] = ContextVar("koherent_deletions", default=None)


@contextmanager
def deletions(using: str) -> Iterator[None]:
    """Collect what a ``delete()`` announces; the many-to-many owners that lose links are recorded at its end."""
    if _current.get() is not None or not recorder.is_recording():
        yield
        return
    collected = _Deletions(using)
    token, going = _current.set(collected), recorder.going.set(set())
    try:
        with recorder.together(using):
            with outermost(connections[using], collected):
                yield
            for tracked, owners in collected.owners.items():
                recorder.record_links(tracked, using, list(owners))
    finally:
        _current.reset(token)
        recorder.going.reset(going)


def announce(tracked: TrackedModel, using: str, pk: Any) -> None:
    """An object is about to go: its last values are recorded, with those of others when a ``delete()`` collects."""
    collected = _of(using)
    if collected is None:
        recorder.record(tracked, using, [pk], "-")
        return
    collected.objects.setdefault(tracked, []).append(pk)
    leaving = recorder.going.get()
    if leaving is not None:
        leaving.add((tracked, pk))


def announce_loss(tracked: TrackedModel, m2m: M2MTracked, using: str, attname: str, value: Any) -> bool:
    """The links whose ``attname`` is ``value`` are about to go; False when no ``delete()`` collects."""
    collected = _of(using)
    if collected is None:
        return False
    collected.links.setdefault((tracked, m2m, attname), []).append(value)
    return True


def _table(tracked: TrackedModel) -> str:
    return quote(tracked.model._meta.db_table)


def _of(using: str) -> _Deletions | None:
    collected = _current.get()
    return collected if collected is not None and collected.using == using else None


def owners_of(m2m: M2MTracked, using: str, attname: str, values: list[Any]) -> list[Any]:
    """The owners of the links whose ``attname`` is one of ``values``."""
    links: models.QuerySet[Any] = m2m.through._base_manager.using(using).filter(**{f"{attname}__in": values})
    found = links.order_by(m2m.source_attname).values_list(m2m.source_attname, flat=True).distinct()
    return list(found)
