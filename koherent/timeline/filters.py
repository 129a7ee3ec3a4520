"""Which entries a page is about, and where it begins: filters and cursors."""

import base64
import binascii
import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone

from koherent.errors import BadCursor, BadFilter
from koherent.policy import Action, Scope
from koherent.registry import TrackedModel

MAX_ID = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What to show. None filters nothing, an empty list matches nothing.

    ``models``: Django labels. ``object_id``: a primary key as text; needs exactly one model. ``users``: primary keys as
    text. ``assigned``: whether there is an assignation id. ``since`` is inclusive, ``until`` exclusive.
    """

    models: Sequence[str] | None = None
    object_id: str | None = None
    users: Sequence[str] | None = None
    apps: Sequence[str] | None = None
    assignation_id: str | None = None
    assigned: bool | None = None
    actions: Sequence[Action] | None = None
    since: dt.datetime | None = None
    until: dt.datetime | None = None

    def resolve(self, scope: Scope) -> "list[tuple[TrackedModel, Q]]":
        """The models to read, each with its condition. Raises ``BadFilter``."""
        chosen = list(scope.models)
        if self.models is not None:
            chosen = sorted({tracked_or_bad(scope, label) for label in self.models}, key=lambda t: t.label)
        condition = self._condition()
        if self.object_id is None:
            return [(tracked, condition) for tracked in chosen]
        if self.models is None or len(chosen) != 1:
            raise BadFilter("objectId needs exactly one model.", field="objectId")
        tracked = chosen[0]
        return [(tracked, condition & Q(**{tracked.pk_attname: object_key(tracked, self.object_id)}))]

    def _condition(self) -> Q:
        condition = Q()
        if self.users is not None:
            condition &= Q(actor_id__in=_storable(self.users))
        if self.apps is not None:
            condition &= Q(app__in=_storable(self.apps))
        if self.assignation_id is not None:
            condition &= Q(assignation_id__in=_storable([self.assignation_id]))
        if self.assigned is not None:
            condition &= Q(assignation_id__isnull=not self.assigned)
        if self.actions is not None:
            condition &= Q(history_type__in=list(self.actions))
        since = None if self.since is None else moment(self.since, "since")
        until = None if self.until is None else moment(self.until, "until")
        if since is not None:
            condition &= Q(history_date__gte=since)
        if until is not None:
            condition &= Q(history_date__lt=until)
        if since is not None and until is not None and since > until:
            raise BadFilter("since is after until.", field="since")
        return condition


def tracked_or_bad(scope: Scope, label: str) -> TrackedModel:
    """The visible model of a label; raises ``BadFilter``, the same whether it is unknown or hidden."""
    tracked = scope.tracked(label)
    if tracked is None:
        raise BadFilter(f"There is no tracked model {label!r}.", field="models")
    return tracked


def object_key(tracked: TrackedModel, text: str) -> Any:
    """A primary key from its text; raises ``BadFilter`` when the model's keys are of another kind."""
    field: Any = tracked.model._meta.pk
    while field.is_relation:
        field = field.target_field
    try:
        key = field.to_python(text)
    except (ValidationError, ValueError, OverflowError) as error:
        raise BadFilter(f"{text!r} is no key of {tracked.label}.", field="objectId") from error
    if key is None or (isinstance(key, str) and not _storable([key])):
        raise BadFilter(f"{text!r} is no key of {tracked.label}.", field="objectId")
    return key


def moment(value: dt.datetime, name: str) -> dt.datetime:
    """A time as the database compares it; naive ones are of the current time zone. Raises ``BadFilter``."""
    try:
        if not django_settings.USE_TZ:
            return value if timezone.is_naive(value) else timezone.make_naive(value)
        aware = timezone.make_aware(value) if timezone.is_naive(value) else value
        return aware.astimezone(dt.UTC)
    except (OverflowError, ValueError) as error:
        raise BadFilter(f"{name} is outside the calendar.", field=name) from error


def _storable(texts: Iterable[str]) -> list[str]:
    """Those texts that a database could hold; the others match nothing."""
    return [text for text in texts if storable(text)]


def storable(text: str) -> bool:
    """Whether a database could hold the text: no NUL, no lone surrogates."""
    return "\x00" not in text and text.encode("utf-8", "replace").decode("utf-8") == text


def is_id(value: object) -> bool:
    """Whether a value can be a row's key."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID


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

    def older(self, label: str) -> Q:
        """The entries of a model that come after this place, newest first."""
        if label != self.label:
            return Q(history_date__lte=self.date) if label < self.label else Q(history_date__lt=self.date)
        # The bound is implied by what follows; it is what lets the index be entered at the right place.
        at_once = Q(history_date=self.date, history_id__lt=self.history_id)
        return Q(history_date__lte=self.date) & (Q(history_date__lt=self.date) | at_once)

    def newer(self, label: str) -> Q:
        """The entries of a model that come before this place, newest first."""
        if label != self.label:
            return Q(history_date__gte=self.date) if label > self.label else Q(history_date__gt=self.date)
        at_once = Q(history_date=self.date, history_id__gt=self.history_id)
        return Q(history_date__gte=self.date) & (Q(history_date__gt=self.date) | at_once)


def encode_cursor(values: Sequence[Any]) -> str:
    """Values as an opaque text."""
    return base64.urlsafe_b64encode(json.dumps(list(values), separators=(",", ":")).encode()).decode("ascii")


def decode_cursor(cursor: str) -> Any:
    """The values of an opaque text; raises ``BadCursor``."""
    try:
        return json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, ValueError, RecursionError) as error:
        raise BadCursor("This is no cursor of koherent.") from error
