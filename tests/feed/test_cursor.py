"""A position covers exactly what lies before it, and a read never skips."""

import json
from typing import Any

import pytest
from django.db import transaction

from example_schema.models import Project, Tag
from koherent.errors import BadCursor, CursorExpired
from koherent.feed.cursor import Key, Position, Snapshot, _in_object_order, current_position, parse, read_since
from koherent.feed.sealing import seal, unseal

TAG = "example_schema.tag"


def encoded(**changes: Any) -> str:
    return seal(json.dumps({**json.loads(unseal(current_position().cursor)), **changes}))


@pytest.mark.parametrize(
    "text", ["", "1", "1:2", "0:1:", "3:2:", "1:5:4,3", "1:5:5", "2:5:1", "1:5:3,3", "1:2:;", "x:y:"]
)
def test_a_snapshot_that_postgresql_would_not_take_is_a_bad_cursor(text: str) -> None:
    with pytest.raises(BadCursor):
        Snapshot.parse(text)


def test_a_snapshot_sees_what_had_ended() -> None:
    snapshot = Snapshot.parse("10:15:10,12")
    assert [number for number in range(8, 17) if snapshot.sees(number)] == [8, 9, 11, 13, 14]
    assert str(snapshot) == "10:15:10,12"


def test_a_position_within_a_batch_covers_the_batch_up_to_its_key() -> None:
    position = Position(
        database="d", time=0, snapshot=Snapshot.parse("10:10:"), until=Snapshot.parse("13:13:"), key=Key(11, TAG, 5)
    )
    assert position.covers(Key(9, TAG, 99))
    assert position.covers(Key(11, TAG, 5))
    assert not position.covers(Key(11, TAG, 6))
    assert not position.covers(Key(13, TAG, 1))


def test_the_entries_of_an_object_come_in_the_order_of_their_ids() -> None:
    keys = [Key(1, TAG, 4), Key(1, "a.b", 1), Key(1, TAG, 9), Key(2, TAG, 3)]
    places = [place for place, _ in _in_object_order(keys, ["1", "1", "2", "1"])]
    assert places == [3, 1, 2, 0]


@pytest.mark.django_db(transaction=True)
class TestReading:
    def test_a_cursor_comes_back_as_the_position_it_was(self) -> None:
        Tag.objects.create(name="x")
        position = current_position()
        assert parse(position.cursor) == position

    def test_pages_of_every_size_give_every_entry_once(self) -> None:
        start = current_position()
        with transaction.atomic():
            for number in range(3):
                Tag.objects.create(name=f"t{number}")
                Project.objects.create(name=f"p{number}")
        Tag.objects.create(name="t3")
        whole = read_since(start, 100)
        assert len(whole.items) == 7
        assert not whole.more
        for limit in range(1, 9):
            position, seen, more = start, list[tuple[str, int]](), True
            while more:
                batch = read_since(position, limit)
                assert len(batch.items) <= limit
                seen += [item.pair for item in batch.items]
                position, more = parse(batch.position.cursor), batch.more
            assert sorted(seen) == sorted(item.pair for item in whole.items)
            assert not read_since(position, limit).items

    def test_rows_at_position_0_are_never_fed(self) -> None:
        start = current_position()
        Tag.objects.create(name="adopted")
        history: Any = Tag.history
        history.update(position=0)
        Tag.objects.create(name="changed")
        batch = read_since(start, 10)
        assert [history.get(pk=item.key.history_id).name for item in batch.items] == ["changed"]

    @pytest.mark.parametrize(
        "changes",
        [{"t": "now"}, {"db": 1}, {"s": "9:1:", "i": None}, {"i": {TAG: -1}, "s": None}, {"s": "1:1:", "i": 0, "n": 1}],
    )
    def test_a_changed_cursor_is_bad(self, changes: dict[str, Any]) -> None:
        with pytest.raises(BadCursor):
            parse(encoded(**changes))

    @pytest.mark.parametrize("changes", [{"t": 0}, {"t": 2**40}, {"db": "other"}, {"v": 99}])
    def test_a_cursor_of_another_time_or_place_is_expired(self, changes: dict[str, Any]) -> None:
        with pytest.raises(CursorExpired):
            parse(encoded(**changes))

    def test_a_cursor_from_the_future_is_expired(self) -> None:
        position = current_position()
        future: dict[str, Any] = {"i": {TAG: 10**9}} if position.snapshot is None else {"s": f"{10**15}:{10**15}:"}
        with pytest.raises(CursorExpired):
            parse(encoded(**future))
