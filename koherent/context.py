"""Who is acting: one ContextVar that every write path reads."""

import functools
import inspect
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from django.utils.module_loading import import_string

from koherent.conf import settings
from koherent.errors import BadAssignationId, BadHeader
from koherent.request import RequestInfo

P = ParamSpec("P")
R = TypeVar("R")

MAX_TEXT = 255
logger = logging.getLogger("koherent")


@dataclass(frozen=True, kw_only=True)
class Actor:
    """A user as frozen into a history row: the account's primary key and its name, both as text."""

    key: str
    name: str
    pk: Any


@dataclass(frozen=True, kw_only=True)
class AuditContext:
    """What is in force for changes made now.

    ``metadata`` is JSON-ready; what the configured trackers say joins it at the first change (``row_metadata``).
    ``explicit`` names what an ``audit()`` gave: it wins over what a request or an operation inside claims.
    """

    user: Any = None
    app: str | None = None
    assignation_id: str | None = None
    reason: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "change"
    request: RequestInfo | None = None
    explicit: frozenset[str] = frozenset()

    @functools.cached_property
    def actor(self) -> Actor | None:
        """The acting account, or None. May query when the user is lazy."""
        user = self.user
        if user is None or not getattr(user, "is_authenticated", False) or user.pk is None:
            return None
        return Actor(key=str(user.pk), name=str(user.get_username())[:MAX_TEXT], pk=user.pk)

    @functools.cached_property
    def row_metadata(self) -> Mapping[str, Any]:
        """``metadata`` with what the configured trackers say. A tracker that raises is logged and left out."""
        if self.request is None:
            return self.metadata
        tracked: dict[str, Any] = {}
        for name, path in settings().track.items():
            if path is None or name in _STANDARD:
                continue
            try:
                tracked[name] = import_string(path)(self.request)
            # A tracker is the team's own code: whatever it raises must not cost the change that it describes.
            except Exception:
                logger.exception("tracker %s (%s) failed; the change is recorded without it", name, path)
        return {**tracked, **self.metadata}


_STANDARD = ("user", "app", "assignation_id")
_NOBODY = AuditContext()
_current: ContextVar[AuditContext] = ContextVar("koherent_audit", default=_NOBODY)
_UNSET: Any = object()


def current_audit() -> AuditContext:
    """The context in force here: frozen, never None."""
    return _current.get()


def _reset(token: Token[AuditContext]) -> None:
    try:
        _current.reset(token)
    except ValueError:
        # A generator may be closed from another task, whose context never held the value.
        return


class audit:
    """Attribute the changes made inside: context manager, async context manager and decorator.

    Values that are not given are inherited from the context around; ``metadata`` is merged. The context around is
    always restored. Raises ``BadAssignationId`` or ``BadHeader`` for values that could not be stored.
    """

    def __init__(
        self,
        *,
        user: Any = _UNSET,
        app: str | None = _UNSET,
        assignation_id: str | None = _UNSET,
        reason: str | None = _UNSET,
        **metadata: Any,
    ) -> None:
        if assignation_id is not _UNSET and assignation_id is not None:
            assignation_id = check_assignation_id(assignation_id)
        for name, text in (("app", app), ("reason", reason)):
            if text is not _UNSET and text is not None:
                check_text(name, text)
        given = {"user": user, "app": app, "assignation_id": assignation_id, "reason": reason}
        self._changes = {name: value for name, value in given.items() if value is not _UNSET}
        self._metadata = metadata
        self._tokens: list[Token[AuditContext]] = []

    def _inner(self) -> AuditContext:
        outer = _current.get()
        return replace(
            outer,
            **self._changes,
            metadata={**outer.metadata, **self._metadata},
            explicit=outer.explicit | self._changes.keys(),
        )

    def __enter__(self) -> AuditContext:
        inner = self._inner()
        self._tokens.append(_current.set(inner))
        return inner

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        _reset(self._tokens.pop())

    async def __aenter__(self) -> AuditContext:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    def _fresh(self) -> Self:
        """A copy for one call: a decorator's instance is shared by all callers, in any thread or task."""
        copy = object.__new__(type(self))
        copy._changes, copy._metadata, copy._tokens = self._changes, self._metadata, []
        return copy

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: P.args, **kwargs: P.kwargs) -> Any:
                async with self._fresh():
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", call_async)

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            with self._fresh():
                return function(*args, **kwargs)

        return call


@contextmanager
def _in_force(context: AuditContext) -> Iterator[AuditContext]:
    token = _current.set(context)
    try:
        yield context
    finally:
        _reset(token)


def request_audit(info: RequestInfo, *, generate: bool = False) -> "_RequestAudit":
    """The context manager for one request: operation extensions win over headers, those over connection parameters.

    ``generate`` lets ``GENERATE_ASSIGNATION_ID`` give a mutation without an id a fresh one. Raises ``BadHeader`` and
    ``BadAssignationId`` here, before anything is entered.
    """
    conf = settings()
    assignation_id = _claim(info, "assignationId", conf.assignation_headers)
    if assignation_id is not None:
        assignation_id = check_assignation_id(assignation_id)
    elif generate and conf.generate_assignation_id:
        assignation_id = str(uuid.uuid4())
    app = _claim(info, "app", conf.app_headers)
    if app is None and info.client is not None:
        app = str(info.client.client_id)
    reason = _claim(info, "reason", conf.reason_headers)
    for name, text in (("app", app), ("reason", reason)):
        if text is not None:
            check_text(name, text)
    values: dict[str, Any] = {"user": info.user, "app": app or None, "assignation_id": assignation_id}
    for name in _STANDARD:
        if name in conf.track:
            path = conf.track[name]
            values[name] = None if path is None else import_string(path)(info)
    return _RequestAudit(AuditContext(**values, reason=reason or None, request=info))


class _RequestAudit:
    """Sets the context on entry and restores the one around on exit, also when closed from another task."""

    def __init__(self, context: AuditContext) -> None:
        self.context = context

    def __enter__(self) -> AuditContext:
        outer = _current.get()
        kept: dict[str, Any] = {name: getattr(outer, name) for name in outer.explicit}
        inner = replace(
            self.context,
            **kept,
            metadata=outer.metadata if outer.request is None else {},
            explicit=outer.explicit,
        )
        self._token = _current.set(inner)
        return inner

    def __exit__(self, *_: object) -> None:
        _reset(self._token)


@contextmanager
def revert_audit(assignation_id: str, reason: str | None, metadata: Mapping[str, Any]) -> Iterator[AuditContext]:
    """The context of a revert: the user and app in force, an assignation id of its own, origin ``revert``."""
    outer = _current.get()
    inner = replace(
        outer,
        assignation_id=assignation_id,
        reason=reason if reason is not None else outer.reason,
        metadata={**outer.metadata, **metadata},
        origin="revert",
    )
    with _in_force(inner) as context:
        yield context


def check_assignation_id(value: object) -> str:
    """The id as text; raises ``BadAssignationId`` when it is empty, over 255 characters or has control characters."""
    text = str(value)
    if not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
        raise BadAssignationId("An assignation id has 1 to 255 printable characters.")
    return text


def check_text(name: str, value: object) -> str:
    """The value as text; raises ``BadHeader`` when it is over 255 characters or has control characters."""
    text = str(value)
    if len(text) > MAX_TEXT or not text.isprintable():
        raise BadHeader(f"{name} has at most 255 printable characters.", header=name)
    return text


def _claim(info: RequestInfo, name: str, headers: Sequence[str]) -> str | None:
    """What the client claims for ``name``: its operation first, then the request's headers, then its connection."""
    if info.extensions.get(name) is not None:
        return str(info.extensions[name])
    wanted = [header.lower() for header in headers]
    params = {key.lower(): value for key, value in info.connection_params.items() if value is not None}
    for source, keys in ((info.headers, wanted), (params, [name.lower(), *wanted])):
        for key in keys:
            if key in source:
                return str(source[key])
    return None
