"""The benchmark of the feed runs: a server, clients and a writer in processes of their own."""

import os

from benchmarks.feed.run import KOHERENT, Load, measure


def test_every_subscriber_gets_every_entry() -> None:
    load = Load(subscribers=3, users=2, entries=5, timeout=60)
    found = measure(KOHERENT, load, os.environ["EXAMPLE_REDIS"])
    assert (found.deliveries, found.missing) == (15, 0)
    assert found.p50 > 0
    assert found.reads > 0
    assert all("%name%" in sample for sample in found.samples)
