"""A trail of a million real rows; ``make plans`` asks for it."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection

from koherent.policy import Scope, Viewer, scope_for

ROWS = int(os.environ.get("EXAMPLE_ROWS", "1000000"))
FEW = 10_000
MOSTLY_UNASSIGNED = "CASE WHEN i <= 3 THEN 'small' WHEN i % 10 = 0 THEN 'big' ELSE NULL END"
MOSTLY_ASSIGNED = "CASE WHEN i <= 3 THEN NULL ELSE 'task ' || i / 100 END"
#: Table -> rows, its own columns, their values, assignation.
TABLES = {
    "project": (ROWS, "name, description", "'Name ' || i, ''", MOSTLY_UNASSIGNED),
    "tag": (FEW, "name", "'Name ' || i", MOSTLY_UNASSIGNED),
    "dataset": (
        ROWS // 10,
        "project_id, title, status, access_notes, created_at, updated_at",
        "1, 'Title ' || i, 'draft', '', now(), now()",
        MOSTLY_ASSIGNED,
    ),
}

#: One row a second. Most by user 1 with ``desk``, without assignation, a hundred entries an object, and one object
#: with a tenth of all; a tenth belongs to one assignation; what is rare is at the old end, behind everything else.
LOAD = """
INSERT INTO example_schema_historical{name} (
  history_date, history_type, history_change_reason, history_user_id, app, assignation_id, actor_id, actor_name,
  metadata, origin, position, field_set, id, {columns}
) SELECT
  timestamptz '2020-01-01' + i * interval '1 second',
  CASE WHEN i <= 3 THEN '-' WHEN i % 100 = 0 THEN '+' ELSE '~' END,
  NULL, NULL,
  CASE WHEN i <= 3 THEN 'rare' WHEN i % 4 < 2 THEN 'desk' ELSE NULL END,
  {assignation},
  CASE WHEN i <= 3 THEN 'rare' WHEN i % 3 = 0 THEN (i % 50)::text ELSE '1' END, 'ada',
  '{{}}', 'change', 1, NULL,
  CASE WHEN i % 10 = 5 THEN 1 ELSE 2 + i % ({rows} / 100) END, {values}
FROM generate_series(1, {rows}) AS i
"""


@pytest.fixture(scope="module")
def trail(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A million entries of projects, ten thousand of tags; and datasets, of which all but three are assigned."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        for name, (rows, columns, values, assignation) in TABLES.items():
            cursor.execute(LOAD.format(name=name, rows=rows, columns=columns, values=values, assignation=assignation))
        cursor.execute("VACUUM ANALYZE")
        try:
            yield
        finally:
            cursor.execute(f"TRUNCATE {', '.join(f'example_schema_historical{name}' for name in TABLES)} CASCADE")


@pytest.fixture
def scope(trail: None, db: None) -> Scope:
    """Sees everything."""
    return scope_for(Viewer(user=User.objects.create_superuser("root")))
