"""The benchmark of the feed runs: a server, clients and a writer in processes of their own."""

import os

import pytest

from benchmarks.feed.run import BARE, BY_HAND, KOHERENT, Load, measure, rings


@pytest.mark.parametrize("way", [KOHERENT, BY_HAND, BARE])
def test_every_contender_delivers_every_entry(way: str) -> None:
    texts = ['{"objectLabel":"%name%"}'] * 2
    found = measure(way, Load(subscribers=3, users=2, entries=5, timeout=60), os.environ["EXAMPLE_REDIS"], texts)
    assert (found.deliveries, found.missing) == (15, 0)
    assert found.p50 > 0
    assert (found.reads > 0) == (way == KOHERENT)


def test_rings_are_timed() -> None:
    found = rings(os.environ["EXAMPLE_REDIS"], count=5)
    assert len(found) == 5
    assert found == sorted(found)
