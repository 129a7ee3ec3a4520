"""Between joining, replaying and following live nothing falls through: somebody commits at every step."""

import asyncio
from collections import Counter
from contextlib import aclosing
from typing import Any

import pytest

from example_schema.models import Tag
from koherent.feed import current_cursor, stream, subscribe
from koherent.feed.counters import counted
from koherent.feed.cursor import read_kept
from koherent.feed.hub import Hub
from koherent.policy import Viewer
from tests.feed.conftest import do, entries, following, names

pytestmark = pytest.mark.django_db(transaction=True)
STEPS = 12


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of what is committed right before and right after each step that reads, the hub's and the stream's."""
    made: list[str] = []
    call = Hub.call

    async def commit(name: str) -> None:
        await do(lambda: Tag.objects.create(name=name))
        made.append(name)

    async def watched(self: Hub, function: Any, *args: Any, **kwargs: Any) -> Any:
        step = len(made) // 2
        if step >= STEPS:
            return await call(self, function, *args, **kwargs)
        made_before, made_after = f"before {step} {function.__name__}", f"after {step} {function.__name__}"
        await commit(made_before)
        result = await call(self, function, *args, **kwargs)
        read = counted.entries
        await commit(made_after)
        # What a replay has just not seen is handed out live before the replay goes on.
        while function is read_kept and counted.entries == read:
            await asyncio.sleep(0.005)
        return result

    monkeypatch.setattr(Hub, "call", watched)
    return made


@pytest.mark.parametrize("batch", [1, 2, 500])
async def test_a_resumed_stream_misses_nothing_at_any_step(
    root: Viewer, committed: list[str], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "READ_LIMIT", batch)
    cursor = await do(current_cursor)
    missed = [f"missed {number}" for number in range(5)]
    for name in missed:
        await do(lambda name=name: Tag.objects.create(name=name))
    seen: Counter[str] = Counter()
    async with aclosing(subscribe(root, after=cursor)) as items:
        while len(committed) < 2 * STEPS or not {*missed, *committed} <= set(seen):
            seen.update(names(await entries(items, 1)))
    assert set(seen.values()) == {1}


async def test_a_new_stream_misses_nothing_after_its_first_checkpoint(root: Viewer, committed: list[str]) -> None:
    seen: Counter[str] = Counter()
    async with aclosing(subscribe(root)) as items:
        checkpoint = await following(items)
        assert checkpoint.entry is None
        before = set(committed)
        while len(committed) < 2 * STEPS or not set(committed) - before <= set(seen):
            seen.update(names(await entries(items, 1)))
    assert set(seen.values()) == {1}
    # What was committed before the checkpoint may have been counted in, but never came twice; what came after is here.
    assert set(committed) - before
