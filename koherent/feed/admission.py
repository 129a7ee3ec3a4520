"""Lets new subscribers in: those who come at the same time are looked up together."""

import asyncio
import contextvars
from collections.abc import Sequence

from koherent.feed.batch import Caller
from koherent.feed.rights import Terms, Wish, agree


class Admission:
    """The door of one hub, on its event loop: a thousand clients that come back do not wait for each other."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._waiting: list[tuple[Wish, asyncio.Future[Terms]]] = []
        self._turn = asyncio.Lock()

    async def agree(self, wish: Wish) -> Terms:
        """The terms of one new subscriber. Raises ``Unauthenticated``, ``Forbidden``, ``BadFilter``."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Terms] = loop.create_future()
        self._waiting.append((wish, future))
        if len(self._waiting) == 1:
            # In an empty context: the first one's identity is not the others'.
            self._task = loop.create_task(self._admit(), context=contextvars.Context(), name="koherent-feed-admission")
        return await future

    async def _admit(self) -> None:
        # Those who come while others are looked up wait for the next turn, together.
        async with self._turn:
            taken, self._waiting = self._waiting, []
            answers: Sequence[Terms | Exception]
            try:
                answers = await self._caller.call(agree, [wish for wish, _ in taken])
            # Each of them is told, and raises it.
            except Exception as error:  # noqa: BLE001
                answers = [error] * len(taken)
        for (_, future), answer in zip(taken, answers, strict=True):
            if future.done():
                continue
            if isinstance(answer, Exception):
                future.set_exception(answer)
            else:
                future.set_result(answer)
