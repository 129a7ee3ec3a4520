"""Shared results with graphql-core 3.3, where a class of ours executes each event."""

import asyncio
from typing import Any

from graphql import ExecutionResult

from koherent.graphql.sharing import Delivery, SharingSchema, shared


class CoreSchema(SharingSchema):
    """Shares by its own executor."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        given: Any = self.execution_context_class
        # Strawberry hands this class to graphql-core, which makes one executor for each event.
        sharing = type(f"Sharing{given.__name__}", (_SharingExecutor, given), {"koherent_schema": self})
        self.execution_context_class = sharing


class _SharingExecutor:
    """What executes one event: the result of a ``Delivery`` is the one that all who share it get."""

    root_value: Any
    koherent_schema: SharingSchema

    def execute_operation(self, serially: bool | None = None) -> Any:
        """The result, or something to await."""
        delivery = self.root_value
        if not isinstance(delivery, Delivery):
            return super().execute_operation(serially)  # type: ignore[misc]
        execute = super().execute_operation  # type: ignore[misc]
        found = delivery.result(lambda: shared(execute(serially)))
        return self._awaited(found) if isinstance(found, asyncio.Future) else self.koherent_schema.own(found)

    async def _awaited(self, future: "asyncio.Future[ExecutionResult]") -> ExecutionResult:
        return self.koherent_schema.own(await asyncio.shield(future))
