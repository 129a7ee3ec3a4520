"""Which entries a page is about."""

import datetime as dt
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone

from koherent.conf import settings
from koherent.errors import BadFilter, LimitExceeded
from koherent.policy import Action, Scope
from koherent.registry import TrackedModel

#: The most parts that a search in one model is split into.
MAX_PARTS = 12

ACTIONS = ("+", "~", "-")


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

    def resolve(self, scope: Scope) -> "list[Selected]":
        """The models to read, by label, each with its condition. Raises ``BadFilter`` and ``LimitExceeded``."""
        chosen = list(scope.models)
        if self.models is not None:
            labels = _limited(self.models, "models")
            chosen = sorted({tracked_or_bad(scope, label) for label in labels}, key=lambda t: t.label)
        condition, lists = self._condition(), self._lists()
        spread = self._spread()
        if self.object_id is None:
            return [Selected(tracked, condition, lists, spread) for tracked in chosen]
        if self.models is None or len(chosen) != 1:
            raise BadFilter("objectId needs exactly one model.", field="objectId")
        tracked = chosen[0]
        own = Q(**{tracked.pk_attname: object_key(tracked, self.object_id)})
        return [Selected(tracked, condition & own, lists, spread, of_object=True)]

    def _condition(self) -> Q:
        condition = Q()
        if self.assignation_id is not None:
            known = storable(self.assignation_id)
            condition &= Q(assignation_id=self.assignation_id) if known else Q(pk__in=[])
        if self.assigned is not None:
            condition &= Q(assignation_id__isnull=not self.assigned)
        since = None if self.since is None else moment(self.since, "since")
        until = None if self.until is None else moment(self.until, "until")
        if since is not None:
            condition &= Q(history_date__gte=since)
        if until is not None:
            condition &= Q(history_date__lt=until)
        if since is not None and until is not None and since > until:
            raise BadFilter("since is after until.", field="since")
        return condition

    def _lists(self) -> dict[str, list[str]]:
        lists: dict[str, list[str]] = {}
        if self.users is not None:
            lists["actor_id"] = _storable(_limited(self.users, "users"))
        if self.apps is not None:
            lists["app"] = _storable(_limited(self.apps, "apps"))
        if self.actions is not None:
            lists["history_type"] = [action for action in ACTIONS if action in _limited(self.actions, "actions")]
            if len(lists["history_type"]) == len(ACTIONS):
                del lists["history_type"]
        return lists

    def _spread(self) -> list[Q]:
        """One index has the actions of the entries with an assignation, another those of the entries without."""
        if self.assignation_id is not None or (self.assigned is None) == (self.actions is None):
            return [Q()]
        if self.actions is None:
            return [Q(history_type=action) for action in ACTIONS]
        return [Q(assignation_id__isnull=without) for without in (False, True)]


@dataclass(frozen=True)
class Selected:
    """What a filter selects of one model: ``condition``, and for each column of ``lists`` one of its values.

    ``spread``: alternatives that say together what the condition says anyway, for the sake of an index.
    ``of_object``: the condition names an object; else it is about what runs know, too (``koherent.runs``).
    """

    tracked: TrackedModel
    condition: Q
    lists: dict[str, list[str]]
    spread: list[Q]
    of_object: bool = False

    @property
    def whole(self) -> Q:
        """The condition as one."""
        return self.condition & Q(**{f"{column}__in": values for column, values in self.lists.items()})

    @property
    def parts(self) -> list[Q]:
        """The same as disjoint conditions that ask a column for one value, as long as they are few.

        An index on a column and the date gives the newest entries of one value in order; those of several it gives
        one value after the other, so that a database would have to read and sort them all.
        """
        choices = {column: [Q(**{column: value}) for value in values] for column, values in self.lists.items()}
        choices["spread"] = self.spread
        split, rest, count = list[list[Q]](), Q(), 1
        for column, alternatives in sorted(choices.items(), key=lambda item: len(item[1])):
            if count * len(alternatives) <= MAX_PARTS:
                split.append(alternatives)
                count *= len(alternatives)
            elif column in self.lists:
                rest &= Q(**{f"{column}__in": self.lists[column]})
        return [self.condition & rest & Q(*chosen) for chosen in product(*split)]


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


def _limited(values: Sequence[str], name: str) -> Sequence[str]:
    limit = settings().filter_limit
    if len(values) > limit:
        raise LimitExceeded(f"{name} has at most {limit} values.", limit=limit)
    return values


def _storable(texts: Iterable[str]) -> list[str]:
    """Those texts that a database could hold, each once; the others match nothing."""
    return [text for text in dict.fromkeys(texts) if storable(text)]


def storable(text: str) -> bool:
    """Whether a database could hold the text: no NUL, no lone surrogates."""
    return "\x00" not in text and text.encode("utf-8", "replace").decode("utf-8") == text
