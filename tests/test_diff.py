"""Values on their way to JSON, and what counts as a change."""

import datetime as dt
import decimal
import json
import uuid
from typing import Any

import pytest

from koherent import diff
from koherent.registry import TrackedModel, by_label


def tracked(name: str) -> TrackedModel:
    found = by_label(f"example_schema.{name}")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (True, True),
        (3, 3),
        (2**53, 2**53),
        (2**53 + 1, str(2**53 + 1)),
        (-(2**60), str(-(2**60))),
        (1.5, 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (decimal.Decimal("1E+3"), "1000"),
        (decimal.Decimal("0.100"), "0.100"),
        (dt.timedelta(days=1, seconds=2), "P1DT00H00M02S"),
        (dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))), "2026-01-01T00:00:00+00:00"),
        (dt.date(2026, 1, 1), "2026-01-01"),
        (dt.time(1, 2), "01:02:00"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"\x00\xff", "AP8="),
        (memoryview(b"\x00\xff"), "AP8="),
        ({"a": [decimal.Decimal("1.5"), 2**70]}, {"a": ["1.5", str(2**70)]}),
        ({2, 1}, [1, 2]),
    ],
)
def test_values_become_json(value: Any, expected: Any) -> None:
    assert diff.to_json(None, value) == expected
    assert json.loads(json.dumps(diff.to_json(None, value), allow_nan=False)) == expected


@pytest.mark.parametrize(
    ("old", "new", "equal"),
    [
        (decimal.Decimal("1.0"), decimal.Decimal("1.00"), True),
        (True, 1, False),
        ({"a": True}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ([1], [1.0], False),
        (b"a", memoryview(b"a"), True),
        (None, "", False),
    ],
)
def test_sameness(old: Any, new: Any, equal: bool) -> None:
    assert diff.same(old, new) is equal


OLD = {"id": 1, "project_id": 1, "title": "a", "status": "draft", "access_notes": "", "tags": [1, 2]}


def test_only_what_differs_is_listed() -> None:
    new = {**OLD, "title": "b", "status": "published", "tags": [2, 3]}
    changes = {change.field: change for change in diff.compare(tracked("dataset"), OLD, new)}
    assert set(changes) == {"title", "status", "tags"}
    assert (changes["title"].label, changes["title"].old, changes["title"].new) == ("title", "a", "b")
    assert (changes["status"].old_label, changes["status"].new_label) == ("Draft", "Published")
    assert (changes["tags"].added, changes["tags"].removed) == ([3], [1])


def test_initial_and_last_values_list_no_nulls_and_no_key() -> None:
    image = {"id": uuid.uuid4(), "name": "x", "width": 1, "exposure_ms": None}
    created = diff.compare(tracked("image"), None, image)
    assert {change.field: (change.old, change.new) for change in created} == {"name": (None, "x"), "width": (None, 1)}
    gone = diff.compare(tracked("image"), image, None)
    assert {change.field: (change.old, change.new) for change in gone} == {"name": ("x", None), "width": (1, None)}


def test_redacted_values_do_not_show_not_even_by_their_absence() -> None:
    hidden = {"access_notes", "tags"}
    for notes, links in ((None, []), ("secret", [1])):
        created = diff.compare(tracked("dataset"), None, {**OLD, "access_notes": notes, "tags": links}, redacted=hidden)
        shown = [change for change in created if change.redacted]
        assert [change.field for change in shown] == ["access_notes", "tags"]
        assert all((c.old, c.new, c.added, c.removed) == (None, None, None, None) for c in shown)
    assert diff.compare(tracked("dataset"), OLD, OLD, redacted=hidden) == ()
    [change] = diff.compare(tracked("dataset"), OLD, {**OLD, "access_notes": "secret"}, redacted=hidden)
    assert (change.field, change.redacted, change.new) == ("access_notes", True, None)


def test_a_field_that_one_version_lacks_is_passed_over() -> None:
    without = {name: value for name, value in OLD.items() if name not in ("title", "tags")}
    assert diff.compare(tracked("dataset"), without, {**OLD, "title": "new", "tags": []}) == ()


def test_erased_fields_are_marked() -> None:
    [change] = diff.compare(tracked("dataset"), OLD, {**OLD, "title": ""}, erased={"title"})
    assert (change.erased, change.old, change.new) == (True, "a", "")
