"""What may go of one object's history, whatever it looks like."""

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from koherent.retention.rules import ObjectHistory, Row
from tests.retention.histories import Told, expected_to_go

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HISTORIES = st.lists(
    st.tuples(st.sampled_from("+~-"), st.sampled_from(["change", "baseline"]), st.integers(0, 9)), max_size=12
)


@given(HISTORIES, st.integers(0, 10), st.integers(0, 5))
def test_exactly_what_the_rules_say_goes(history: list[tuple[str, str, int]], day: int, keep: int) -> None:
    rows = [
        Row(1, number, START + dt.timedelta(days=date), action, origin, 1)
        for number, (action, origin, date) in enumerate(history, 1)
    ]
    cutoff = START + dt.timedelta(days=day)
    rules = ObjectHistory(cutoff, keep)
    went: list[int] = []
    for row in rows:
        if rules.settled:
            assert not list(rules.add(row))
        else:
            went += [gone.history_id for gone in rules.add(row)]
    entries = [Told(*row[:5]) for row in rows]
    assert set(went) == expected_to_go(entries, cutoff, keep)
    assert len(went) == len(set(went))


def test_only_what_can_still_matter_is_remembered() -> None:
    rules = ObjectHistory(START + dt.timedelta(days=10**5), keep=3)
    for number in range(1, 1_000):
        list(rules.add(Row(1, number, START + dt.timedelta(days=number), "~", "change", 1)))
        assert len(rules._old) <= 4
