"""The errors that koherent raises: one family, one code each, with fields that a client can switch on."""

from typing import ClassVar


class KoherentError(Exception):
    """Base of all koherent errors.

    ``code`` is the stable name that clients see in ``extensions.code``; ``fields`` are further JSON-ready values.
    """

    code: ClassVar[str] = "KOHERENT"

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields

    @property
    def extensions(self) -> dict[str, object]:
        """What goes into the ``extensions`` of a GraphQL error."""
        return {"code": self.code, **self.fields}


class Unauthenticated(KoherentError):
    """No user, or an account that is not active. Log in."""

    code = "UNAUTHENTICATED"


class Forbidden(KoherentError):
    """The user may not do this. Ask for the permission."""

    code = "FORBIDDEN"


class NotFound(KoherentError):
    """A mutation named an entry or an assignation that does not exist or is not visible."""

    code = "NOT_FOUND"


class BadId(KoherentError):
    """An entry's id that koherent never gave out."""

    code = "BAD_ID"


class BadCursor(KoherentError):
    """A cursor that koherent never gave out."""

    code = "BAD_CURSOR"


class BadPage(KoherentError):
    """``first`` or ``last`` below 0, or both."""

    code = "BAD_PAGE"


class BadFilter(KoherentError):
    """A filter that cannot match: an unknown model label, ``since`` after ``until``, ``objectId`` without one model."""

    code = "BAD_FILTER"


class BadInput(KoherentError):
    """An argument outside its range."""

    code = "BAD_INPUT"


class BadHeader(KoherentError):
    """An attribution header that is too long or holds control characters."""

    code = "BAD_HEADER"


class BadAssignationId(KoherentError):
    """An empty or over-long assignation id, or one with control characters."""

    code = "BAD_ASSIGNATION_ID"


class LimitExceeded(KoherentError):
    """More than a limit in ``KOHERENT`` allows. Ask for less, or raise the setting."""

    code = "LIMIT_EXCEEDED"


class CursorExpired(KoherentError):
    """A feed cursor of another database, or older than the retention. Read the trail, then subscribe anew."""

    code = "CURSOR_EXPIRED"


class HistoryPruned(KoherentError):
    """The time asked for lies before the oldest entry that is kept."""

    code = "HISTORY_PRUNED"


class FeedOverflow(KoherentError):
    """The subscriber did not keep up. Subscribe again with ``cursor``."""

    code = "FEED_OVERFLOW"
