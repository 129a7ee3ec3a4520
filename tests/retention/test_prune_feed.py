"""A feed cursor that a prune has overtaken is refused: nobody misses an entry without being told."""

import pytest
from django.test import override_settings

from example_schema.models import Tag
from koherent.errors import CursorExpired
from koherent.feed.cursor import current_cursor, parse, read_kept
from koherent.models import Pruned
from koherent.retention import prune
from tests.retention.histories import days_ago

pytestmark = pytest.mark.django_db(transaction=True)


def three_old_versions(name: str = "a") -> None:
    tag = Tag.objects.create(name=name)
    for _ in range(2):
        tag.name += "!"
        tag.save()
    Tag.history.update(history_date=days_ago(30))


def test_a_cursor_from_before_what_went_is_expired() -> None:
    cursor = current_cursor()
    three_old_versions()
    position = parse(cursor)
    assert prune(keep=0).entries == 2
    with pytest.raises(CursorExpired):
        parse(cursor)
    # A reader that was let in before the prune and reads after it learns the same.
    with pytest.raises(CursorExpired):
        read_kept(position, 10)


def test_a_dry_run_expires_nothing() -> None:
    cursor = current_cursor()
    three_old_versions()
    assert prune(keep=0, dry_run=True).entries == 2
    assert len(read_kept(parse(cursor), 10).items) == 3


def test_a_cursor_from_after_what_went_goes_on() -> None:
    three_old_versions()
    # On PostgreSQL: written by a transaction that ended long ago, which no open one of the cluster can be older than.
    Tag.history.update(position=3)
    cursor = current_cursor()
    Tag.objects.create(name="new")
    assert prune(keep=0).entries == 2
    assert len(read_kept(parse(cursor), 10).items) == 1


def test_a_longer_retention_does_not_bring_back_what_went() -> None:
    with override_settings(KOHERENT={"FEED_RETENTION_DAYS": 1}):
        cursor = current_cursor()
        three_old_versions()
        Tag.history.update(history_date=days_ago(2))
        assert prune(keep=0).entries == 2
    with override_settings(KOHERENT={"FEED_RETENTION_DAYS": 100}), pytest.raises(CursorExpired):
        parse(cursor)


def test_the_trace_reaches_as_far_as_the_furthest_prune_and_is_of_this_database() -> None:
    three_old_versions()
    prune(keep=0)
    [first] = Pruned.objects.all()
    three_old_versions("b")
    prune(keep=0)
    [second] = Pruned.objects.all()
    assert second.history_id > first.history_id
    assert second.position >= first.position
    Pruned.objects.update(database="other", position=2**62, history_id=2**62)
    assert not read_kept(parse(current_cursor()), 10).items
