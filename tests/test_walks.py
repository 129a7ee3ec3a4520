"""A walk gives every entry that was there at its start exactly once, in order, whatever is written meanwhile."""

import datetime as dt
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

import koherent
from example_schema.models import Image, Project, Tag
from koherent import timeline
from koherent.policy import Scope, Viewer, scope_for
from koherent.registry import tracked_models
from koherent.timeline import EVERYTHING, Filters, Wanted

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
Key = tuple[str, int]

#: Few moments, so that many entries share one; clocks that run backwards.
moments = st.integers(0, 4)
actions = st.sampled_from("+~-")
entries = st.lists(st.tuples(st.sampled_from([Project, Tag, Image]), moments, actions, st.integers(1, 3)), max_size=14)
sizes = st.lists(st.integers(1, 5), min_size=1, max_size=6)


def write(model: Any, moment: int, action: str, key: int) -> None:
    """One entry, as if written at that moment."""
    own: Any = {Project: {"name": f"{key}"}, Tag: {"name": f"{key}"}}.get(model)
    if own is None:
        own = {"dataset_id": 1, "name": f"{key}", "width": 1, "height": 1}
        row = model.history.model(id=f"00000000-0000-0000-0000-{key:012d}", **own)
    else:
        row = model.history.model(id=key, **own)
    row.history_type, row.history_date = action, START + dt.timedelta(seconds=moment)
    row.save()


def in_order() -> list[Key]:
    """All entries in browsing order, by sorting them in Python."""
    found = []
    for tracked in tracked_models():
        rows = tracked.history_model._default_manager.values_list("history_date", "history_id")
        found += [(date, tracked.label, history_id) for date, history_id in rows]
    return [(label, history_id) for _, label, history_id in sorted(found, reverse=True)]


def walk(
    scope: Scope, sizes: list[int], between: Callable[[], None], *, backwards: bool, filters: Filters
) -> list[Key]:
    keys: list[Key] = []
    cursor = None
    for number in range(1000):
        size = sizes[number % len(sizes)]
        window: dict[str, Any] = {"last": size, "before": cursor} if backwards else {"first": size, "after": cursor}
        page = timeline.page(scope, filters, wanted=Wanted(changes=number % 2 == 0), **window)
        assert len(page.entries) <= size
        found = [entry.key for entry in page.entries]
        keys = found + keys if backwards else keys + found
        if not (page.has_previous_page if backwards else page.has_next_page):
            return keys
        cursor = page.entries[0 if backwards else -1].cursor
        between()
    raise AssertionError("The walk does not end.")


class Walks(TestCase):
    """Hypothesis writes the histories."""

    def setUp(self) -> None:
        self.scope = scope_for(Viewer(user=User.objects.create_superuser("root")))

    @given(entries, entries, sizes, st.booleans(), st.sampled_from([None, ["+"], ["~", "-"]]))
    @settings(max_examples=60, deadline=None)
    def test_every_entry_once_and_in_order(
        self, before: Any, meanwhile: Any, sizes: list[int], backwards: bool, actions: Any
    ) -> None:
        for entry in before:
            write(*entry)
        filters = Filters(actions=actions)
        labels = {
            tracked.label: set(
                tracked.history_model._default_manager.filter(
                    **{} if actions is None else {"history_type__in": actions}
                ).values_list("pk", flat=True)
            )
            for tracked in tracked_models()
        }
        there = [(label, history_id) for label, history_id in in_order() if history_id in labels[label]]
        coming = iter(meanwhile)

        def between() -> None:
            for entry in (next(coming, None), next(coming, None)):
                if entry is not None:
                    write(*entry)

        walked = walk(self.scope, sizes, between, backwards=backwards, filters=filters)
        assert len(walked) == len(set(walked))
        known = set(there)
        assert [key for key in walked if key in known] == there
        # What came meanwhile may be among them, and then it is in its place.
        assert walked == [key for key in in_order() if key in set(walked)]


class Pasts(TestCase):
    """As-of, compared with what a loop over all entries says."""

    @given(st.lists(st.tuples(moments, actions, st.integers(1, 3)), max_size=12), st.integers(-1, 5))
    @settings(max_examples=60, deadline=None)
    def test_the_highest_id_of_those_dated_before_is_in_force(self, written: Any, moment: int) -> None:
        scope = scope_for(Viewer(user=User.objects.get_or_create(username="root", is_superuser=True)[0]))
        seen: set[int] = set()
        for second, action, key in written:
            # What an object begins with is its creation: nothing was pruned.
            write(Project, second, action if key in seen else "+", key)
            Project.history.filter(history_id=Project.history.latest("history_id").history_id).update(
                name=f"{len(seen)} {second} {action}"
            )
            seen.add(key)
        at = START + dt.timedelta(seconds=moment)
        expected: dict[int, Any] = {}
        for row in Project.history.order_by("history_id"):
            if row.history_date <= at:
                expected[row.id] = row
        there = {key: row.name for key, row in expected.items() if row.history_type != "-"}
        assert {past.pk: past.name for past in koherent.as_of(Project, at)} == there
        for key in (1, 2, 3):
            entry = timeline.as_of(scope, "example_schema.project", str(key), at)
            assert (None if entry is None else entry.history_id) == (
                expected[key].history_id if key in expected else None
            )


BIG = """
INSERT INTO example_schema_historicalproject
  (history_date, history_type, metadata, origin, position, id, name, description)
WITH RECURSIVE numbers(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM numbers WHERE i < 100000)
SELECT {date}, '~', '{{}}', 'change', 1, 1, 'name', 'text' FROM numbers
"""
DATES = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S', '2026-01-01', '+' || i || ' seconds')",
    "postgresql": "timestamptz '2026-01-01' + i * interval '1 second'",
}


@pytest.mark.django_db
def test_a_page_of_an_object_with_a_hundred_thousand_entries_needs_little_memory(viewer: Viewer) -> None:
    with connection.cursor() as cursor:
        cursor.execute(BIG.format(date=DATES[connection.vendor]))
    scope = scope_for(viewer)
    filters = Filters(models=["example_schema.project"], object_id="1")
    [newest] = timeline.page(scope, filters, first=1).entries
    cursors, oldest = {"after": newest.cursor}, Project.history.earliest("history_id").history_id
    tracemalloc.start()
    try:
        for window in ({"first": 50}, {"first": 50, **cursors}, {"last": 50}):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            page = timeline.page(scope, filters, wanted=EVERYTHING, **window)
            _, peak = tracemalloc.get_traced_memory()
            assert len(page.entries) == 50
            assert all(entry.changes is not None or entry.history_id == oldest for entry in page.entries)
            assert peak - before < 2_000_000
    finally:
        tracemalloc.stop()
