"""The Strawberry extension that attributes every change of an operation."""

from collections.abc import Iterator

from graphql import GraphQLError
from strawberry.extensions import SchemaExtension
from strawberry.types.graphql import OperationType

from koherent.conf import settings
from koherent.context import current_audit, request_audit
from koherent.errors import KoherentError
from koherent.graphql.errors import coded
from koherent.graphql.requests import request_info
from koherent.request import RequestInfo


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
