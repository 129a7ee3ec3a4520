"""What parts a run: the ids that other transactions take while a statement writes its entries."""

import pytest
from django.db import connection

from example_schema.models import Tag
from koherent.models import Assignation

MANY = 25


@pytest.mark.django_db
def test_ids_that_somebody_else_took_part_a_run() -> None:
    """As two transactions do that write at the same time; here a trigger takes every seventh id."""
    table = Tag.history.model._meta.db_table
    another = f"PERFORM nextval(pg_get_serial_sequence('{table}', 'history_id'))"
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE FUNCTION pg_temp.take() RETURNS trigger LANGUAGE plpgsql AS $$ "
            f"BEGIN IF NEW.history_id % 7 = 0 THEN {another}; END IF; RETURN NEW; END $$; "
            f"CREATE TRIGGER take BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION pg_temp.take()"
        )
    Tag.objects.bulk_create(Tag(name=f"{number}") for number in range(MANY))
    written = list(Tag.history.order_by("history_id").values_list("history_id", flat=True))
    assert len(written) == MANY
    assert written[-1] - written[0] + 1 > MANY
    runs = Assignation.objects.order_by("first_id").values_list("first_id", "last_id")
    assert [id for first, last in runs for id in range(first or 0, (last or 0) + 1)] == written
    assert len(runs) > 2
