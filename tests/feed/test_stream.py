"""A subscriber gets every entry after its cursor, in order, and is told when it may not go on."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import transaction

import koherent
from example_schema.models import Dataset, Project, Tag
from koherent.errors import BadCursor, BadFilter, CursorExpired, FeedOverflow, Forbidden, Unauthenticated
from koherent.feed import FeedItem, counters, current_cursor, subscribe
from koherent.feed import hub as hubs
from koherent.feed import stream as streams
from koherent.policy import Viewer
from koherent.timeline import Filters
from tests.feed.conftest import do, entries, following, names

pytestmark = pytest.mark.django_db(transaction=True)


async def test_the_first_item_is_a_checkpoint_and_changes_follow_live(root: Viewer) -> None:
    async with contextlib.aclosing(subscribe(root)) as stream:
        first = await following(stream)
        assert first.entry is None
        await do(lambda: Project.objects.create(name="Atlas"))
        [item] = await entries(stream, 1)
    assert item.entry is not None
    entry = item.entry
    assert (entry.tracked.label, entry.action, entry.row.name) == ("example_schema.project", "+", "Atlas")


async def test_a_ring_does_not_wait_for_the_poll(root: Viewer, settings: Any) -> None:
    settings.KOHERENT = {"FEED_POLL_SECONDS": 600.0}
    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        for name in ("one", "two", "three"):
            await do(lambda name=name: Tag.objects.create(name=name))
            assert names(await entries(stream, 1)) == [name]


@pytest.mark.usefixtures("_without_doorbell")
async def test_a_lost_doorbell_delays_and_does_not_lose(root: Viewer, settings: Any) -> None:
    settings.KOHERENT = {"FEED_POLL_SECONDS": 0.05}
    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        await do(lambda: Tag.objects.create(name="unheard"))
        assert names(await entries(stream, 1)) == ["unheard"]


async def test_a_rollback_delivers_nothing(root: Viewer) -> None:
    def fail() -> None:
        with transaction.atomic():
            Tag.objects.create(name="never")
            with transaction.atomic():
                Tag.objects.create(name="never either")
            transaction.set_rollback(True)

    def partly() -> None:
        with transaction.atomic():
            with transaction.atomic():
                Tag.objects.create(name="savepoint")
                transaction.set_rollback(True)
            Tag.objects.create(name="kept")

    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        await do(fail)
        await do(partly)
        assert names(await entries(stream, 1)) == ["kept"]


async def test_a_resumed_stream_gets_what_it_missed_then_goes_on_live(root: Viewer) -> None:
    await do(lambda: Tag.objects.create(name="before"))
    cursor = await do(current_cursor)
    await do(lambda: [Tag.objects.create(name=f"missed {number}") for number in range(5)])
    async with contextlib.aclosing(subscribe(root, after=cursor)) as stream:
        assert (await following(stream)).entry is None
        missed = await entries(stream, 5)
        await do(lambda: Tag.objects.create(name="live"))
        live = await entries(stream, 1)
    assert names(missed + live) == [*(f"missed {number}" for number in range(5)), "live"]


async def test_every_cursor_resumes_exactly_after_its_entry(root: Viewer, settings: Any) -> None:
    settings.KOHERENT = {"FEED_QUEUE": 3}
    start = await do(current_cursor)

    def write() -> None:
        with transaction.atomic():
            for number in range(4):
                Tag.objects.create(name=f"t{number}")
                Project.objects.create(name=f"p{number}")

    await do(write)
    async with contextlib.aclosing(subscribe(root, after=start)) as stream:
        whole = await entries(stream, 8)
    assert sorted(names(whole)) == [*(f"p{number}" for number in range(4)), *(f"t{number}" for number in range(4))]
    for number, item in enumerate(whole[:-1]):
        async with contextlib.aclosing(subscribe(root, after=item.cursor)) as stream:
            assert names(await entries(stream, 7 - number)) == names(whole[number + 1 :])


async def test_what_is_committed_while_a_stream_replays_is_not_lost(
    root: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seam between replay and live: write after the replay's last read, before its entries are handed out."""
    cursor = await do(current_cursor)
    await do(lambda: Tag.objects.create(name="missed"))
    async with contextlib.aclosing(subscribe(root, after=cursor)) as stream:
        await following(stream)
        [missed] = await entries(stream, 1)
        await do(lambda: Tag.objects.create(name="in the seam"))
        [seam] = await entries(stream, 1)
        await do(lambda: Tag.objects.create(name="live"))
        [live] = await entries(stream, 1)
    assert names([missed, seam, live]) == ["missed", "in the seam", "live"]


async def test_filters_apply_to_live_and_missed_entries(root: Viewer) -> None:
    cursor = await do(current_cursor)

    def write(prefix: str) -> None:
        with koherent.audit(app="importer", assignation_id="run-1"):
            project = Project.objects.create(name=f"{prefix} project")
            Dataset.objects.create(project=project, title="a title")
        Project.objects.create(name=f"{prefix} other")

    filters = Filters(models=["example_schema.Project"], apps=["importer"], assignation_id="run-1", actions=["+"])
    await do(write, "missed")
    async with contextlib.aclosing(subscribe(root, filters, cursor)) as stream:
        missed = await entries(stream, 1)
        await do(write, "live")
        assert names(missed + await entries(stream, 1)) == ["missed project", "live project"]


async def test_an_empty_list_matches_nothing_and_a_checkpoint_comes_anyway(
    root: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "CHECKPOINT_SECONDS", 0.05)
    async with contextlib.aclosing(subscribe(root, Filters(apps=[]))) as stream:
        first = await following(stream)
        await do(lambda: Tag.objects.create(name="hidden"))
        later = [await following(stream) for _ in range(5)]
    assert [item.entry for item in [first, *later]] == [None] * 6


@pytest.mark.parametrize("cursor", ["", "x", "bm90IGpzb24", "e30", "W10", "é", "bnVsbA", "A" * 70_000])
async def test_a_malformed_cursor_is_refused(root: Viewer, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await following(subscribe(root, after=cursor))


async def test_a_bad_filter_is_refused(root: Viewer) -> None:
    with pytest.raises(BadFilter):
        await following(subscribe(root, Filters(models=["example_schema.unknown"])))


async def test_a_cursor_of_another_database_is_expired(root: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    cursor = await do(current_cursor)
    monkeypatch.setattr("koherent.feed.cursor.identity", lambda using="default": "another")
    with pytest.raises(CursorExpired):
        await following(subscribe(root, after=cursor))


async def test_a_cursor_older_than_the_retention_is_expired(root: Viewer, settings: Any) -> None:
    cursor = await do(current_cursor)
    settings.KOHERENT = {"FEED_RETENTION_DAYS": -1}
    with pytest.raises(CursorExpired):
        await following(subscribe(root, after=cursor))


async def test_nobody_and_nobody_with_rights_get_no_stream(root: Viewer) -> None:
    plain = await do(lambda: User.objects.create_user("plain"))
    with pytest.raises(Unauthenticated):
        await following(subscribe(Viewer(user=None)))
    with pytest.raises(Forbidden):
        await following(subscribe(Viewer(user=plain)))


async def test_a_deactivated_account_ends_the_stream_with_its_last_cursor(root: Viewer) -> None:
    stream = subscribe(root)
    first = await following(stream)
    await do(lambda: User.objects.filter(pk=root.user.pk).update(is_active=False))
    await do(lambda: Tag.objects.create(name="too late"))
    with pytest.raises(Unauthenticated) as caught:
        await following(stream)
    assert caught.value.extensions == {"code": "UNAUTHENTICATED", "cursor": first.cursor}


async def test_a_deactivated_account_ends_an_idle_stream(root: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CHECKPOINT_SECONDS", 0.05)
    stream = subscribe(root)
    await following(stream)
    await do(lambda: User.objects.filter(pk=root.user.pk).delete())
    with pytest.raises(Unauthenticated):
        await entries(stream, 1)


async def test_a_lost_model_permission_ends_the_stream(root: Viewer) -> None:
    def clerk() -> User:
        user = User.objects.create_user("clerk")
        user.user_permissions.set(
            Permission.objects.filter(codename__in=["view_historicaltag", "view_historicalproject"])
        )
        return user

    user = await do(clerk)
    stream = subscribe(Viewer(user=user))
    await following(stream)
    await do(lambda: Dataset.objects.create(project=Project.objects.create(name="seen"), title="not seen"))
    assert names(await entries(stream, 1)) == ["seen"]
    await do(lambda: user.user_permissions.remove(Permission.objects.get(codename="view_historicaltag")))
    await do(lambda: Project.objects.create(name="not delivered"))
    with pytest.raises(Forbidden) as caught:
        await following(stream)
    assert "cursor" in caught.value.extensions


async def drain(stream: AsyncGenerator[FeedItem, None], taken: list[str]) -> None:
    """Read until the stream ends; ``taken`` gets the objects' names."""
    async for item in stream:
        taken += names([item])


async def test_who_does_not_keep_up_is_ended_and_can_resume(
    root: Viewer, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.KOHERENT = {"FEED_QUEUE": 2}
    monkeypatch.setattr(hubs, "PATIENCE_SECONDS", 0.05)
    slow, quick = subscribe(root), subscribe(root)
    await following(slow)
    await following(quick)
    await do(lambda: Tag.objects.create(name="first"))
    assert names([*await entries(slow, 1), *await entries(quick, 1)]) == ["first", "first"]
    keeping_up = asyncio.create_task(entries(quick, 9))
    for number in range(9):
        await do(lambda number=number: Tag.objects.create(name=f"burst {number}"))
        await asyncio.sleep(0)
    assert names(await keeping_up) == [f"burst {number}" for number in range(9)]
    taken: list[str] = []
    with pytest.raises(FeedOverflow) as caught:
        await asyncio.wait_for(drain(slow, taken), 20)
    cursor = caught.value.extensions["cursor"]
    assert isinstance(cursor, str)
    async with contextlib.aclosing(subscribe(root, after=cursor)) as resumed:
        taken += names(await entries(resumed, 9 - len(taken)))
    await quick.aclose()
    assert taken == [f"burst {number}" for number in range(9)]


async def test_the_last_subscriber_ends_the_hub(root: Viewer) -> None:
    before = asyncio.all_tasks()
    one, two = subscribe(root), subscribe(root)
    await following(one)
    await following(two)
    shared = hubs.hub()
    assert len(shared) == 2
    await one.aclose()
    assert hubs.hub() is shared
    await two.aclose()
    assert asyncio.all_tasks() == before
    assert hubs._hubs.get(asyncio.get_running_loop()) is None


async def test_the_hub_reads_once_for_all_subscribers(root: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    from koherent.feed import cursor as cursors

    reads: list[int] = []
    read_since = cursors.read_since

    def counted(*args: Any, **kwargs: Any) -> Any:
        batch = read_since(*args, **kwargs)
        reads.append(len(batch.items))
        return batch

    several = [subscribe(root) for _ in range(5)]
    for stream in several:
        await following(stream)
    monkeypatch.setattr(cursors, "read_since", counted)
    await do(lambda: Tag.objects.create(name="shared"))
    assert [names(await entries(stream, 1)) for stream in several] == [["shared"]] * 5
    assert [count for count in reads if count] == [1]
    for stream in several:
        await stream.aclose()


async def test_a_failing_read_is_tried_again(root: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    from django.db import OperationalError

    from koherent.feed import cursor as cursors

    read_since, failures = cursors.read_since, [OperationalError("gone"), OperationalError("still gone")]

    def failing(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return read_since(*args, **kwargs)

    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        monkeypatch.setattr(cursors, "read_since", failing)
        await do(lambda: Tag.objects.create(name="after the outage"))
        assert names(await entries(stream, 1)) == ["after the outage"]
    assert failures == []


async def test_the_counters_tell_what_the_feed_did(root: Viewer) -> None:
    before = counters()
    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        await do(lambda: Tag.objects.create(name="counted"))
        await entries(stream, 1)
        during = counters()
    names_of = ("subscribers", "rings", "entries", "deliveries", "overflows")
    assert [during[name] - before[name] for name in names_of] == [1, 1, 1, 1, 0]
    assert counters()["subscribers"] == before["subscribers"]
    assert during["reads"] > before["reads"]
    assert during["last_read"] > before["last_read"]
