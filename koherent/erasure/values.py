"""What stands where a value was."""

import datetime as dt
import json
import uuid
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler
from django.utils import timezone

from koherent.errors import BadInput


def _epoch() -> dt.datetime:
    epoch = dt.datetime(1970, 1, 1)
    return timezone.make_aware(epoch, dt.UTC) if timezone.is_aware(timezone.now()) else epoch


#: By the name of a field's class, or of the nearest class that it inherits from.
_EMPTY: Mapping[str, Any] = {
    "ArrayField": list,
    "BinaryField": bytes,
    "BooleanField": bool,
    "CharField": str,
    "DateField": lambda: dt.date(1970, 1, 1),
    "DateTimeField": _epoch,
    "DecimalField": Decimal,
    "DurationField": dt.timedelta,
    "FileField": str,
    "FloatField": float,
    "GenericIPAddressField": lambda: "0.0.0.0",
    "HStoreField": dict,
    "IntegerField": int,
    "JSONField": dict,
    "TextField": str,
    "TimeField": dt.time,
    "UUIDField": lambda: uuid.UUID(int=0),
}


def empty_value(field: Any) -> Any:
    """What a column holds when it holds nothing: NULL, else its type's empty value. Raises ``BadInput``."""
    if field.null:
        return None
    for kind in type(field).__mro__:
        if kind.__name__ in _EMPTY:
            return _EMPTY[kind.__name__]()
    raise BadInput(f"{field.name} has no empty value: {type(field).__name__} is not known, and it is not nullable.")


class WithMarkers(models.Func):
    """A row's ``metadata`` with further keys, which replace what stood there under the same names."""

    output_field = models.JSONField()

    def __init__(self, markers: Mapping[str, Any]) -> None:
        super().__init__(models.F("metadata"), models.Value(json.dumps(dict(markers)), output_field=models.TextField()))

    def as_sql(  # type: ignore[override]  # the stubs name parameters that Django passes by keyword to templates only
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **kwargs: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        """SQLite: a merge patch replaces lists as a whole."""
        sql, params = super().as_sql(compiler, connection, template="JSON_PATCH(%(expressions)s)")
        return sql, tuple(params)

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **kwargs: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        """PostgreSQL: jsonb's own concatenation."""
        sql, params = super().as_sql(compiler, connection, template="(%(expressions)s::jsonb)", arg_joiner=" || ")
        return sql, tuple(params)
