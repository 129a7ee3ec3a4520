"""What clients are told of errors that no resolver meant for them."""

from django.core.exceptions import ObjectDoesNotExist, PermissionDenied, ValidationError
from graphql import GraphQLError
from strawberry.extensions import MaskErrors


class CodedErrors(MaskErrors):
    """Every error of an execution has a code; of what is unexpected, clients get the code ``INTERNAL`` and no word.

    koherent's own errors have theirs already. Strawberry logs each error with its traceback.
    """

    def __init__(self) -> None:
        super().__init__(should_mask_error=_without_code)

    def anonymise_error(self, error: GraphQLError) -> GraphQLError:
        """The error, with a code."""
        code, message = _told(error)
        return GraphQLError(
            message,
            nodes=error.nodes,
            source=error.source,
            positions=error.positions,
            path=error.path,
            extensions={"code": code},
        )


def _without_code(error: GraphQLError) -> bool:
    """An error without a path is from before the execution: GraphQL's own, which clients know."""
    return error.path is not None and "code" not in (error.extensions or {})


def _told(error: GraphQLError) -> tuple[str, str]:
    original = error.original_error
    if original is None or isinstance(original, GraphQLError):
        return "BAD_INPUT", error.message
    if isinstance(original, ValidationError):
        return "BAD_INPUT", " ".join(original.messages)
    if isinstance(original, ObjectDoesNotExist):
        return "NOT_FOUND", "There is no such object."
    if isinstance(original, PermissionDenied):
        return "FORBIDDEN", "You may not do this."
    return "INTERNAL", "Unexpected error."
