"""A commit rings once, a rollback never, and no channel layer can harm the change."""

import asyncio
import logging
import threading
import time
from statistics import median
from typing import Any

import pytest
from channels.layers import BaseChannelLayer, channel_layers
from django.db import transaction

from example_schema.models import Tag
from koherent.feed.doorbell import ROWS, Doorbell, connect, doorbell, layer_of_feed

pytestmark = pytest.mark.django_db(transaction=True)


class Recording(BaseChannelLayer):  # type: ignore[misc]
    """A layer that keeps what it is given, or does as ``failure`` says."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.failure: Exception | None = None
        self.hang = False
        self.threads: set[str] = set()

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self.threads.add(threading.current_thread().name)
        if self.failure is not None:
            raise self.failure
        if self.hang:
            await asyncio.sleep(3600)
        self.sent.append((group, message))


@pytest.fixture
def layer(monkeypatch: pytest.MonkeyPatch) -> Recording:
    """A channel layer under the test's eyes, in place of the configured one."""
    made = Recording()
    monkeypatch.setitem(channel_layers.backends, "default", made)
    monkeypatch.setattr(doorbell, "_failing", False)
    return made


def test_a_commit_rings_and_a_rollback_does_not(layer: Recording) -> None:
    with transaction.atomic():
        Tag.objects.create(name="gone")
        transaction.set_rollback(True)
    assert doorbell.finish()
    assert layer.sent == []
    Tag.objects.create(name="kept")
    assert doorbell.finish()
    row = ["example_schema.tag", Tag.history.get().history_id]
    assert layer.sent == [("koherent.feed", {"type": "koherent.feed", "from": doorbell.process, "rows": [row]})]


def test_a_savepoint_that_is_rolled_back_rings_for_nothing(layer: Recording) -> None:
    rung: list[None] = []
    poke = lambda: rung.append(None)  # noqa: E731
    doorbell.add(poke)
    try:
        with transaction.atomic(), transaction.atomic():
            Tag.objects.create(name="gone")
            transaction.set_rollback(True)
        assert doorbell.finish()
        assert (rung, layer.sent) == ([], [])
        with transaction.atomic():
            with transaction.atomic():
                Tag.objects.create(name="gone too")
                transaction.set_rollback(True)
            Tag.objects.create(name="kept")
    finally:
        doorbell.remove(poke)
    assert doorbell.finish()
    row = ["example_schema.tag", Tag.history.get().history_id]
    assert [message["rows"] for _, message in layer.sent] == [[row]]


def test_of_many_rows_the_message_only_says_so(layer: Recording) -> None:
    with transaction.atomic():
        for number in range(ROWS + 1):
            Tag.objects.create(name=f"tag {number}")
    assert doorbell.finish()
    assert [message["rows"] for _, message in layer.sent] == ["many"]


def test_the_first_ring_makes_no_layer_in_the_committing_thread(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    """Making one imports and may connect: it is the background thread's work."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": f"{__name__}.Recording"}}
    made: list[str] = []
    monkeypatch.setattr(Recording, "__init__", lambda self: made.append(threading.current_thread().name))
    bell = Doorbell()
    bell.ring()
    assert bell.finish(10)
    assert made == ["koherent-doorbell"]


def test_a_transaction_of_many_rows_rings_few_times(layer: Recording) -> None:
    rung: list[None] = []
    poke = lambda: rung.append(None)  # noqa: E731
    doorbell.add(poke)
    try:
        with transaction.atomic():
            for number in range(50):
                Tag.objects.create(name=f"tag {number}")
    finally:
        doorbell.remove(poke)
    assert doorbell.finish()
    assert rung
    assert 1 <= len(layer.sent) <= 50


def test_a_layer_that_refuses_costs_one_log_line(layer: Recording, caplog: pytest.LogCaptureFixture) -> None:
    layer.failure = ConnectionRefusedError("no layer here")
    with caplog.at_level(logging.WARNING, logger="koherent.feed"):
        for name in ("a", "b", "c"):
            Tag.objects.create(name=name)
            assert doorbell.finish()
    assert Tag.objects.count() == 3
    assert len(caplog.records) == 1
    layer.failure = None
    Tag.objects.create(name="d")
    assert doorbell.finish()
    assert len(layer.sent) == 1


def test_a_layer_that_hangs_keeps_nobody_waiting(layer: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koherent.feed.doorbell.SEND_SECONDS", 0.2)
    layer.hang = True
    Tag.objects.create(name="quick")
    assert not doorbell.finish(0)
    assert doorbell.finish(10)
    assert Tag.objects.filter(name="quick").exists()


@pytest.mark.parametrize("state", ["up", "refusing", "hanging"])
def test_the_committing_thread_hardly_waits(layer: Recording, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the layer does, it does it in another thread; 0.2 ms is what a commit may wait for it."""
    monkeypatch.setattr("koherent.feed.doorbell.SEND_SECONDS", 0.2)
    layer.failure = ConnectionRefusedError("no layer here") if state == "refusing" else None
    layer.hang = state == "hanging"
    bell, waited = Doorbell(), list[float]()
    for number in range(200):
        began = time.perf_counter()
        bell.ring([("example_schema.tag", number)])
        waited.append(time.perf_counter() - began)
    assert median(waited) < 0.0002
    assert bell.finish(20)
    assert layer.threads == {"koherent-doorbell"}


def test_the_in_memory_layer_and_no_layer_are_not_sent_to(settings: Any) -> None:
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    assert layer_of_feed() is None
    settings.KOHERENT = {"FEED_LAYER": "unknown"}
    assert layer_of_feed() is None


def test_connecting_twice_rings_once() -> None:
    from koherent import commits

    connect()
    connect()
    assert len([hook for hook in commits.on_committed if getattr(hook, "__module__", "") == connect.__module__]) == 1


def test_local_hubs_are_poked_from_the_committing_thread() -> None:
    bell, seen = Doorbell(), list[str]()
    bell.add(lambda: seen.append(threading.current_thread().name))
    bell.ring()
    assert seen == [threading.current_thread().name]
