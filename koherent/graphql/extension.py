"""The Strawberry extension that attributes every change of an operation."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.schema.schema_converter import GraphQLCoreConverter
from strawberry.types.graphql import OperationType
from strawberry_django.fields.types import OperationInfo, OperationMessage

from koherent.conf import settings
from koherent.context import current_audit, request_audit
from koherent.errors import KoherentError
from koherent.graphql.errors import coded
from koherent.graphql.requests import request_info
from koherent.graphql.resolving import in_sync
from koherent.request import RequestInfo
from koherent.unit import atomic


class KoherentExtension(SchemaExtension):
    """Puts each operation's user, app, assignation id and reason in force while it runs.

    List it last, and as a class: ``extensions=[KoherentExtension]``. Works for queries, mutations and subscriptions,
    sync and async, over HTTP and WebSockets. A request whose headers cannot be used is refused before execution, with
    ``BAD_HEADER`` or ``BAD_ASSIGNATION_ID``.
    """

    _refused: GraphQLError | None = None

    def _request(self) -> RequestInfo:
        operation = self.execution_context
        return request_info(
            operation.context, extensions=operation.operation_extensions, operation_name=operation.operation_name
        )

    def on_operation(self) -> Iterator[None]:
        """Put the request's context in force until the operation, or its stream, has ended."""
        self._refused = None
        try:
            attributed = request_audit(self._request())
        except KoherentError as error:
            # Raised here, it would reach a WebSocket client as a bare "complete": on_validate reports it instead.
            self._refused = coded(error)
            yield
            return
        with attributed:
            yield

    def on_validate(self) -> Iterator[None]:
        """Refuse the operation as validation would, which every transport reports."""
        if self._refused is not None:
            self.execution_context.pre_execution_errors = [self._refused]
        yield

    def on_execute(self) -> Iterator[None]:
        """Give a mutation without an assignation id a fresh one, where ``GENERATE_ASSIGNATION_ID`` asks for it."""
        # Only now is the document parsed, so that its operation is known.
        if (
            not settings().generate_assignation_id
            or self.execution_context.operation_type is not OperationType.MUTATION
            or current_audit().assignation_id is not None
        ):
            yield
            return
        with request_audit(self._request(), generate=True):
            yield

    @classmethod
    def _implements_resolve(cls) -> bool:
        # Strawberry puts ``resolve()`` around every field of every operation: only where the setting needs it.
        return settings().atomic_mutations and super()._implements_resolve()

    def resolve(self, _next: Callable[..., Any], root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        """Run a synchronous root field of a mutation as one unit of work, where ``ATOMIC_MUTATIONS`` asks for it."""
        if info.path.prev is None and settings().atomic_mutations and _is_sync_mutation(info):
            # In a thread, under an event loop: there strawberry-django resolves synchronously, inside the transaction.
            return in_sync(partial(_as_unit, partial(_next, root, info, *args, **kwargs)))
        return _next(root, info, *args, **kwargs)


def _is_sync_mutation(info: Any) -> bool:
    field = info.parent_type.fields.get(info.field_name)
    if info.parent_type is not info.schema.mutation_type or field is None:
        return False
    definition = field.extensions.get(GraphQLCoreConverter.DEFINITION_BACKREF)
    return definition is not None and not definition.is_async


class _Refused(Exception):
    """Rolls back a mutation that reports its failure as data."""


_FAILURES = (OperationMessage.Kind.ERROR, OperationMessage.Kind.PERMISSION, OperationMessage.Kind.VALIDATION)


def _as_unit(resolve: Callable[[], Any]) -> Any:
    """What ``resolve`` returns. Raised or, as strawberry-django's ``OperationInfo``, returned: a failure rolls back."""
    result: Any = None
    try:
        with atomic():
            result = resolve()
            if isinstance(result, OperationInfo) and any(m.kind in _FAILURES for m in result.messages):
                raise _Refused
    except _Refused:
        pass
    return result
