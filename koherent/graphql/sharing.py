"""One result for all subscribers that would get the same: what makes them the same, and the result itself."""

import asyncio
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Callable, Hashable, Iterator
from copy import deepcopy
from functools import cached_property
from typing import Any

import strawberry
from graphql import ExecutionResult, FieldNode, Node, VariableNode, Visitor, print_ast, visit
from strawberry.extensions import MaskErrors, SchemaExtension

from koherent.feed import FeedItem
from koherent.graphql.types import HistoryEntry, to_graphql

# Values of these types are told apart by their type and repr.
_PLAIN = (str, int, float, bool, type(None), dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, enum.Enum)


class SharedData(dict[str, Any]):
    """The ``data`` of a result that several subscribers get, and its text in each encoding that was asked for."""

    def __init__(self, data: dict[str, Any]) -> None:
        super().__init__(data)
        self._texts: dict[Hashable, str | bytes] = {}

    def text(self, encoding: Hashable, encode: Callable[[object], str | bytes]) -> str | bytes:
        """The data as ``encode`` writes it, written once for each ``encoding``."""
        if encoding not in self._texts:
            self._texts[encoding] = encode(dict(self))
        return self._texts[encoding]


class SharingSchema(strawberry.Schema):
    """What schemas with shared results have in common, whatever the version of graphql-core."""

    @cached_property
    def changes_results(self) -> bool:
        """Whether some extension may write into a subscription's results, which then must be the subscriber's own."""
        harmless = (SchemaExtension.on_stream_result, MaskErrors.on_stream_result)
        return any(type(extension).on_stream_result not in harmless for extension in self.get_extensions())

    def own(self, result: ExecutionResult) -> ExecutionResult:
        """A subscriber's own result of shared data; its extensions may replace the errors."""
        data: Any = deepcopy(dict(result.data)) if result.data and self.changes_results else result.data
        return ExecutionResult(data, None if result.errors is None else list(result.errors))

    async def event(self, raw: Any, delivery: "Delivery") -> Any:
        """What to hand to graphql-core for a delivery; ``raw`` is its info of the subscription."""
        return delivery


def shared(result: Any) -> Any:
    """A result that may be handed to many, or the future of one."""
    if not isinstance(result, ExecutionResult):

        async def completed() -> ExecutionResult:
            return shared(await result)  # type: ignore[no-any-return]

        # A task of its own: whoever came first may go away while the others wait.
        return asyncio.ensure_future(completed())
    return ExecutionResult(None if result.data is None else SharedData(result.data), result.errors)


class Delivery:
    """An item of the feed on its way to one subscriber; a resolver finds in it what ``HistoryFeedItem`` has.

    ``sharing`` is equal for subscribers to whom the item looks the same; None: they share nothing.
    """

    def __init__(self, item: FeedItem, sharing: Hashable | None) -> None:
        self.item, self.sharing = item, sharing
        self.cursor = item.cursor

    @cached_property
    def entry(self) -> HistoryEntry | None:
        """The entry as GraphQL shows it; None in a checkpoint."""
        return None if self.item.entry is None else to_graphql(self.item.entry)

    def result(self, execute: Callable[[], Any]) -> Any:
        """What ``execute`` gave for the first of all subscribers who share it; it may be a future."""
        memory = None if self.sharing is None else self.item.memory
        if memory is None:
            return execute()
        if self.sharing not in memory:
            memory[self.sharing] = execute()
        return memory[self.sharing]


def sharing_key(raw: Any, language: str | None) -> Hashable | None:
    """What the result of an event depends on besides the event; ``raw`` is graphql-core's info of the subscription.

    None when that cannot be told. Arguments of the subscription itself choose the events and are not in it: clients
    that came back, each with its own cursor, share again.
    """
    nodes = [raw.operation, *(fragment for _, fragment in sorted(raw.fragments.items()))]
    names = set(_variables_below(raw.operation, nodes))
    values = {name: _frozen(value) for name, value in raw.variable_values.items() if name in names}
    if any(value is None for value in values.values()):
        return None
    document = "\n".join(print_ast(node) for node in nodes)
    return raw.schema, document, tuple(sorted(values.items())), language


def _variables_below(operation: Any, nodes: list[Any]) -> Iterator[str]:
    """The names of the variables that are used anywhere but in arguments of the subscription's own field."""
    own: set[int] = set()
    for selection in operation.selection_set.selections:
        if isinstance(selection, FieldNode):
            own.update(id(argument) for argument in selection.arguments or ())
    found: list[str] = []

    class Uses(Visitor):
        def enter_variable_definition(self, node: Node, *_: Any) -> bool:
            return False

        def enter_argument(self, node: Node, *_: Any) -> bool | None:
            return False if id(node) in own else None

        def enter_variable(self, node: VariableNode, *_: Any) -> None:
            found.append(node.name.value)

    for node in nodes:
        visit(node, Uses())
    yield from found


def _frozen(value: Any) -> Hashable | None:
    """A key of a variable's value; None for a value of which nothing tells what it is equal to."""
    if isinstance(value, dict):
        inner = [(name, _frozen(each)) for name, each in value.items()]
        return None if any(each is None for _, each in inner) else ("dict", tuple(sorted(inner)))
    if isinstance(value, list | tuple):
        items = tuple(_frozen(each) for each in value)
        return None if None in items else ("list", items)
    return (type(value).__qualname__, repr(value)) if isinstance(value, _PLAIN) else None
