"""Histories of any age: rows of history made by hand, because recording dates everything now."""

import datetime as dt
import random
from collections import defaultdict
from typing import Any, NamedTuple

from django.utils import timezone

from koherent.models import Origin

DAY = dt.timedelta(days=1)


class Told(NamedTuple):
    """What an oracle needs to know of an entry."""

    pk: Any
    history_id: int
    date: dt.datetime
    action: str
    origin: str


def days_ago(days: float) -> dt.datetime:
    """A moment in the past."""
    return timezone.now() - days * DAY


def write(model: Any, rows: list[dict[str, Any]]) -> list[Any]:
    """History rows with the given values, in this order."""
    history = model.history.model
    made: list[Any] = history.objects.bulk_create([history(**row) for row in rows])
    return made


def told(model: Any) -> list[Told]:
    """All entries of a model, by id."""
    history = model.history.model
    columns = (history._meta.get_field(model._meta.pk.name).attname, *Told._fields[1:2])
    names = [*columns, "history_date", "history_type", "origin"]
    return [Told(*values) for values in history.objects.order_by("history_id").values_list(*names)]


def chance_history(chance: random.Random, objects: list[Any], length: int) -> list[tuple[Any, str, str, dt.datetime]]:
    """(object, action, origin, date) of a possible history, with equal dates and clocks that run backwards."""
    alive: dict[Any, bool] = {}
    moment, entries = days_ago(60), list[tuple[Any, str, str, dt.datetime]]()
    for _ in range(length):
        pk = chance.choice(objects)
        if not alive.get(pk, False):
            action = "+"
        else:
            action = chance.choice("~~~-")
        origin = Origin.BASELINE if pk not in alive and chance.random() < 0.3 else Origin.CHANGE
        alive[pk] = action != "-"
        moment += chance.choice([-3, 0, 0, 1, 2, 4]) * DAY
        entries.append((pk, action, str(origin), min(moment, timezone.now())))
    return entries


def expected_to_go(entries: list[Told], cutoff: dt.datetime, keep: int | None) -> set[int]:
    """The rules of a prune, in words of their own: what goes of these entries."""
    objects: dict[Any, list[Told]] = defaultdict(list)
    for entry in entries:
        objects[entry.pk].append(entry)
    going: set[int] = set()
    for own in objects.values():
        young = [place for place, entry in enumerate(own) if entry.date >= cutoff]
        end = min([len(own) - (keep or 0), *young])
        oldest_kept = end - 1
        while oldest_kept > 0 and own[oldest_kept].action == "+" and own[oldest_kept].origin != Origin.BASELINE:
            oldest_kept -= 1
        going |= {entry.history_id for entry in own[: max(oldest_kept, 0)]}
    return going
