"""Cursors: places in browsing order, opaque to clients, and the conditions that they put on history rows."""

import base64
import binascii
import datetime as dt
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import BigIntegerField, BooleanField, DateTimeField, F, Func, Lookup, Q, Value
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from koherent.errors import BadCursor

MAX_ID = 2**63 - 1


def is_id(value: object) -> bool:
    """Whether a value can be a row's key."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID


class _Pair(Func):
    template = "(%(expressions)s)"
    output_field = BooleanField()  # never asked for, but Django wants one


class _Beyond(Lookup):
    """``(history_date, history_id) < (date, id)``, or with another operator, or another column for the id.

    Unlike its spelling with OR, PostgreSQL enters the index at exactly this place, also among a million rows of one
    time, as a bulk write leaves them; SQLite enters it at the time, and passes over rows of that time. A look-up,
    because SQLite would be asked whether any other expression is true, and read the index from its end.
    """

    prepare_rhs = False

    def __init__(self, column: str, operator: str, date: Any, history_id: Any) -> None:
        super().__init__(_Pair(F("history_date"), F(column)), _Pair(date, history_id))
        self.operator = operator

    @property
    def identity(self) -> tuple[Any, ...]:
        """What makes it equal to another."""
        return (*super().identity, self.operator)

    def as_sql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, tuple[Any, ...]]:
        """``(a, b) < (c, d)``."""
        own, own_params = self.process_lhs(compiler, connection)
        place, params = self.process_rhs(compiler, connection)
        return f"{own} {self.operator} {place}", (*own_params, *params)


@dataclass(frozen=True, order=True)
class Position:
    """A place in browsing order."""

    date: dt.datetime
    label: str
    history_id: int

    def encode(self) -> str:
        """The opaque cursor."""
        return encode_cursor([self.date.isoformat(), self.label, self.history_id])

    @classmethod
    def decode(cls, cursor: str) -> "Position":
        """The place of a cursor; raises ``BadCursor``."""
        match decode_cursor(cursor):
            case [str(date), str(label), int(history_id)] if is_id(history_id):
                try:
                    at = dt.datetime.fromisoformat(date)
                    if timezone.is_aware(at) == django_settings.USE_TZ:
                        return cls(at.astimezone(dt.UTC) if django_settings.USE_TZ else at, label, history_id)
                except (OverflowError, ValueError) as error:
                    raise BadCursor("This is no cursor of a history.") from error
        raise BadCursor("This is no cursor of a history.")

    def older(self, label: str, *, inclusive: bool = False, runs: bool = False) -> Q:
        """The entries of a model that come after this place, newest first; ``inclusive``: and the one at it.

        ``runs``: the runs that have such entries.
        """
        if label != self.label:
            return Q(history_date__lte=self.date) if label < self.label else Q(history_date__lt=self.date)
        return self._beyond("first_id" if runs else "history_id", "<=" if inclusive else "<")

    def newer(self, label: str, *, inclusive: bool = False, runs: bool = False) -> Q:
        """The entries of a model that come before this place, newest first; ``inclusive`` and ``runs`` as above."""
        if label != self.label:
            return Q(history_date__gte=self.date) if label > self.label else Q(history_date__gt=self.date)
        return self._beyond("last_id" if runs else "history_id", ">=" if inclusive else ">")

    def _beyond(self, column: str, operator: str) -> Q:
        date, history_id = Value(self.date, DateTimeField()), Value(self.history_id, BigIntegerField())
        return Q(_Beyond(column, operator, date, history_id))


# ``json.dumps()`` makes an encoder for each call that asks for separators of its own.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def encode_cursor(values: Sequence[Any]) -> str:
    """Values as an opaque text."""
    return base64.urlsafe_b64encode(_encode(list(values)).encode()).decode("ascii")


def decode_cursor(cursor: str) -> Any:
    """The values of an opaque text; raises ``BadCursor``."""
    try:
        return json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, ValueError, RecursionError) as error:
        raise BadCursor("This is no cursor of koherent.") from error
