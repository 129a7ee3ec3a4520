"""A team sees whether the feed works, and its log lines say what happened in fields."""

import contextlib
import json
import logging
import threading
from typing import Any

import pytest
from channels.layers import channel_layers
from django.contrib.auth.models import User

from example_schema.models import Tag
from koherent.errors import Unauthenticated
from koherent.feed import Health, counters, health, subscribe
from koherent.feed import hub as hubs
from koherent.feed.doorbell import doorbell
from koherent.policy import Viewer
from tests.feed.conftest import do, entries, following
from tests.feed.test_doorbell import Recording

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_process_without_subscribers_is_well() -> None:
    assert health() == Health(subscribers=0, seconds_since_read=None, reading=True, ringing=True, listening=True)
    assert health().ok


async def test_a_hub_that_reads_is_well_from_any_thread(root: Viewer) -> None:
    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        await do(lambda: Tag.objects.create(name="seen"))
        await entries(stream, 1)
        seen: list[Health] = []
        thread = threading.Thread(target=lambda: seen.append(health()))
        thread.start()
        thread.join()
    [found] = seen
    assert (found.subscribers, found.reading, found.ok) == (1, True, found.listening)
    assert found.seconds_since_read is not None
    assert found.seconds_since_read < 20


async def test_a_hub_that_cannot_read_is_not(root: Viewer) -> None:
    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        hubs.hub().last_read -= 1_000
        assert not health().reading
        assert not health().ok


def test_a_layer_that_refuses_shows_until_it_takes_a_message(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    layer = Recording()
    monkeypatch.setitem(channel_layers.backends, "default", layer)
    layer.failure = ConnectionRefusedError("no layer here")
    with caplog.at_level(logging.WARNING, logger="koherent.feed"):
        Tag.objects.create(name="not announced")
        assert doorbell.finish()
    assert (health().ringing, health().ok) == (False, False)
    assert [fields_of(record) for record in caplog.records] == [
        {"event": "ring_failed", "error": "ConnectionRefusedError"}
    ]
    layer.failure = None
    Tag.objects.create(name="announced")
    assert doorbell.finish()
    assert health().ok


def fields_of(record: Any) -> Any:
    return record.koherent


async def test_a_stream_that_ends_for_its_rights_is_counted_and_logged(
    root: Viewer, caplog: pytest.LogCaptureFixture
) -> None:
    before = counters()
    stream = subscribe(root)
    await following(stream)
    with caplog.at_level(logging.INFO, logger="koherent.feed"):
        await do(lambda: User.objects.filter(pk=root.user.pk).update(is_active=False))
        await do(lambda: Tag.objects.create(name="not seen"))
        with pytest.raises(Unauthenticated):
            await following(stream)
    assert counters()["refusals"] - before["refusals"] == 1
    assert {"event": "stream_ended", "code": "UNAUTHENTICATED"} in [
        fields_of(record) for record in caplog.records if hasattr(record, "koherent")
    ]


async def test_lag_is_the_age_of_what_was_delivered_last(root: Viewer) -> None:
    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        await do(lambda: Tag.objects.create(name="seen"))
        await entries(stream, 1)
    assert 0 < counters()["lag"] < 20
    assert json.loads(json.dumps(counters())) == counters()
