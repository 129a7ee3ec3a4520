"""What has been recorded since a moment, and whether it is what was expected."""

from typing import Any

from django.db import DEFAULT_DB_ALIAS, models

from koherent import export, registry, timeline
from koherent.registry import TrackedModel
from koherent.testing.matching import Expected, line
from koherent.timeline import Entry


class AuditTrail:
    """The entries of the default database that were written since this object was made; policies hide none of them."""

    def __init__(self) -> None:
        self._begin = {tracked: _newest(tracked) for tracked in registry.tracked_on()}

    def entries(self, target: Any = None) -> list[Entry]:
        """The entries since then, oldest first; of ``target`` alone, which is an object or a tracked model's class.

        Raises ``TypeError`` for a target whose model is not tracked.
        """
        tracked = None if target is None else _tracked(target)
        keys = []
        for one, begin in self._begin.items():
            if tracked is None or one is tracked:
                rows: Any = one.history_model._default_manager.using(DEFAULT_DB_ALIAS).filter(history_id__gt=begin)
                if isinstance(target, models.Model):
                    rows = rows.filter(**{one.pk_attname: target.pk})
                keys += [(one.label, history_id) for history_id in rows.values_list("history_id", flat=True)]
        found = timeline.load(export.unrestricted(), keys)
        return sorted(found, key=lambda entry: entry.position)

    def assert_recorded(self, target: Any = None, *, times: int | None = None, **expected: Any) -> list[Entry]:
        """That ``target`` (an object, a tracked model's class, or any) has an entry as ``expected``; returns those.

        ``times`` says how many; without it, at least one. What may be expected: ``action`` ("create", "update",
        "delete"), ``origin`` ("change", "revert", ...), ``user`` (an account, or None), ``app``, ``assignation_id``,
        ``reason``, ``metadata`` (at least these) and ``changes``, by field: the new value, or a tuple of old and new;
        of a many-to-many field the list of keys that came, or a tuple of those that came and went. An update's changes
        are exactly these, ``auto_now`` fields aside; a creation's or deletion's at least these.

        Raises ``AssertionError`` with all that was recorded, and ``TypeError`` for an expectation that is none.
        """
        wanted = Expected(**expected)
        entries = self.entries(target)
        matching = [entry for entry in entries if not wanted.mismatches(entry)]
        if (times is None and matching) or len(matching) == times:
            return matching
        raise AssertionError(_explain(wanted, entries, len(matching), times))

    def assert_nothing_recorded(self, target: Any = None) -> None:
        """That there is no entry (of ``target``). Raises ``AssertionError`` with those there are."""
        entries = self.entries(target)
        if entries:
            raise AssertionError("\n".join(["Nothing was to be recorded, but:", *(f"  {line(e)}" for e in entries)]))


def _newest(tracked: TrackedModel) -> int:
    rows: Any = tracked.history_model._default_manager.using(DEFAULT_DB_ALIAS)
    newest = rows.order_by("-history_id").values_list("history_id", flat=True).first()
    return 0 if newest is None else int(newest)


def _tracked(target: Any) -> TrackedModel:
    model = target if isinstance(target, type) else type(target)
    tracked = registry.for_model(model)
    if tracked is None:
        raise TypeError(f"{model.__name__} is not tracked: it has no HistoryField.")
    return tracked


def _explain(wanted: Expected, entries: list[Entry], found: int, times: int | None) -> str:
    number = "an entry" if times is None else f"{times} entries"
    text = [f"Expected {number} with {wanted}; {found} of the {len(entries)} that were recorded are so:"]
    for entry in entries:
        text.append(f"  {line(entry)}")
        text += [f"      {mismatch}" for mismatch in wanted.mismatches(entry)]
    return "\n".join(text)
