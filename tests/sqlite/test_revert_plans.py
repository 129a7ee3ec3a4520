"""SQLite's planner trusts statistics that may be old."""

import pytest
from django.db import connection

from example_schema.models import Dataset, Project
from tests.revert.test_size import changed, undone

pytestmark = pytest.mark.django_db


def test_old_statistics_do_not_make_a_revert_quadratic() -> None:
    dataset = Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters")

    def instructions(name: str, count: int) -> int:
        changed(dataset, name, count)
        ticks = 0

        def tick() -> int:
            nonlocal ticks
            ticks += 1
            return 0

        connection.connection.set_progress_handler(tick, 1000)
        undone(name)
        connection.connection.set_progress_handler(None, 0)
        return ticks

    changed(dataset, "old", 20)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    once = instructions("once", 500)
    assert instructions("twice", 1000) < 3 * once
