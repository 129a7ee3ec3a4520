"""PostgreSQL only: entries that came from another cluster by dump and restore are found, and made harmless."""

import io

import pytest
from django.core.management import call_command
from django.db import connection

from example_schema.models import Tag
from koherent import registry
from koherent.baseline import record_baseline
from koherent.database_checks import check_positions
from koherent.feed.cursor import current_position, read_since
from koherent.verify import verify

pytestmark = pytest.mark.django_db


def test_restored_entries_are_found_warned_of_and_taken_out_of_the_feed() -> None:
    tracked = registry.for_model(Tag)
    assert tracked is not None
    for number in range(5):
        Tag.objects.create(name=f"t{number}")
    assert list(verify(tracked)) == []
    assert check_positions(None, databases=["default"]) == []
    ids = sorted(Tag.history.values_list("history_id", flat=True))
    Tag.history.filter(history_id__in=ids[:3]).update(position=2**60)
    assert [(f.problem.value, f.model, f.entry, f.count) for f in verify(tracked)] == [
        ("foreign_position", "example_schema.tag", ids[0], 3)
    ]
    [warning] = check_positions(None, databases=["default"])
    assert (warning.id, warning.obj) == ("koherent.W010", Tag)
    assert warning.msg.startswith("3 history entries have positions of another cluster")
    assert record_baseline(tracked, repair=True, dry_run=True).restored == 3
    report = record_baseline(tracked, repair=True, chunk=2)
    assert (report.entries, report.restored) == (0, 3)
    assert sorted(Tag.history.filter(position=0).values_list("history_id", flat=True)) == ids[:3]
    assert list(verify(tracked)) == []
    assert list(read_since(current_position(), 10).items) == []


@pytest.mark.parametrize(("arguments", "verb"), [(["--dry-run"], "would lose"), ([], "lost")])
def test_the_command_says_what_it_made_harmless(arguments: list[str], verb: str) -> None:
    Tag.objects.create(name="t")
    Tag.history.update(position=2**60)
    out = io.StringIO()
    call_command("koherent_baseline", "--repair", "--model", "example_schema.tag", *arguments, stdout=out)
    assert out.getvalue().rstrip().endswith(f"; 1 {verb} the position of another cluster")


def test_the_check_passes_over_tables_that_are_not_there_yet() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE example_schema_historicaltag RENAME COLUMN position TO later")
        cursor.execute("DROP TABLE example_schema_historicalimage")
    assert check_positions(None, databases=["default"]) == []
    assert check_positions(None, databases=[]) == []
    call_command("check", databases=["default"], stdout=io.StringIO())
