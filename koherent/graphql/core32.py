"""Shared results with graphql-core 3.2, which lets nobody choose what executes a subscription's events.

There an event that is an exception becomes the error of its result: so the result travels as one, and is unpacked.
"""

import asyncio
from contextvars import ContextVar
from typing import Any

from graphql import DocumentNode, ExecutionResult, execute

from koherent.graphql.sharing import Delivery, SharingSchema, shared

# The variables of the operation as its client sent them.
_sent: ContextVar[dict[str, Any] | None] = ContextVar("koherent_variables", default=None)


class Answer(Exception):
    """A finished result on its way through graphql-core."""

    def __init__(self, result: ExecutionResult) -> None:
        super().__init__("the result of an event")
        self.result = result


class CoreSchema(SharingSchema):
    """Shares by handing finished results to graphql-core."""

    async def stream(
        self, query: str | None, variable_values: dict[str, Any] | None = None, *args: Any, **kw: Any
    ) -> Any:
        """Strawberry's, which an operation's task calls first of all."""
        _sent.set(variable_values)
        return await super().stream(query, variable_values, *args, **kw)

    async def event(self, raw: Any, delivery: Delivery) -> Any:
        """What to hand to graphql-core for a delivery: its result, executed unless somebody else's is the same."""
        document = DocumentNode(definitions=(raw.operation, *raw.fragments.values()))

        def work() -> Any:
            return shared(execute(raw.schema, document, delivery, raw.context, _sent.get()))

        found = delivery.result(work)
        return Answer(await asyncio.shield(found) if isinstance(found, asyncio.Future) else found)

    async def _handle_execution_result(self, context: Any, result: Any, *args: Any, **kw: Any) -> Any:
        answer = result.errors[0].original_error if getattr(result, "errors", None) else None
        if isinstance(answer, Answer):
            result = self.own(answer.result)
        return await super()._handle_execution_result(context, result, *args, **kw)
