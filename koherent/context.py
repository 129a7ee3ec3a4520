"""Who is acting: one ContextVar that every write path reads."""

import functools
import inspect
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, ClassVar, NamedTuple, ParamSpec, TypeVar, cast

from asgiref.sync import iscoroutinefunction
from django.contrib.auth import get_user_model
from django.utils.functional import SimpleLazyObject, cached_property

from koherent.claims import MAX_TEXT, check_metadata, check_text, claim, track
from koherent.claims import check_assignation_id as check_assignation_id
from koherent.conf import settings
from koherent.request import RequestInfo
from koherent.trust import Claim, claim_of

P = ParamSpec("P")
R = TypeVar("R")


class Actor(NamedTuple):
    """A user as frozen into a history row: the account's primary key and its name, both as text."""

    key: str
    name: str
    pk: Any


@dataclass(frozen=True, kw_only=True)
class RemoteUser:
    """An account that another process named. It is looked up when it is needed, and may be gone by then."""

    key: str
    name: str
    is_authenticated: ClassVar[bool] = True

    @cached_property
    def account(self) -> Any:
        """The account, or None when it is gone. Queries."""
        model = get_user_model()
        return model._base_manager.filter(pk=model._meta.pk.to_python(self.key)).first()

    @cached_property
    def actor(self) -> Actor:
        """The account as it is now, or under the name that the other process knew. Queries."""
        if self.account is None:
            return Actor(key=self.key, name=self.name, pk=None)
        return Actor(key=self.key, name=str(self.account.get_username())[:MAX_TEXT], pk=self.account.pk)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # what copying and pickling ask for
            raise AttributeError(name)
        return getattr(self.account, name)


@dataclass(frozen=True, kw_only=True)
class AuditContext:
    """What is in force for changes made now.

    ``metadata`` is JSON-ready; what the configured trackers say joins it at the first change (``row_metadata``).
    ``explicit`` names what an ``audit()`` gave: it wins over what a request or an operation inside claims, and over
    the user that django-simple-history would find, None included.
    """

    user: Any = None
    app: str | None = None
    assignation_id: str | None = None
    reason: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: str = "change"
    request: RequestInfo | None = None
    explicit: frozenset[str] = frozenset()
    # Whether the assignation id counts is still to be found out.
    claim: Claim | None = field(default=None, compare=False, repr=False)
    # What the recorder has made ready of this context, for each tracked model.
    stamps: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    @cached_property
    def actor(self) -> Actor | None:
        """The acting account, or None. May query when the user is lazy."""
        user = self.user
        if isinstance(user, RemoteUser):
            return user.actor
        if user is None or not getattr(user, "is_authenticated", False) or (pk := user.pk) is None:
            return None
        return Actor(key=str(pk), name=str(user.get_username())[:MAX_TEXT], pk=pk)

    @cached_property
    def row_metadata(self) -> Mapping[str, Any]:
        """``metadata`` with what the configured trackers say. A tracker that raises is logged and left out."""
        if self.request is None:
            return self.metadata
        request = self.request.now()
        tracked = {
            name: track(name, path, request, check_metadata)
            for name, path in settings().track.items()
            if path is not None and name not in _STANDARD
        }
        return {**{name: value for name, value in tracked.items() if value is not None}, **self.metadata}

    def derive(self, **changes: Any) -> "AuditContext":
        """A copy with other values. ``dataclasses.replace()`` takes thrice as long, and each request waits for it."""
        derived, own = object.__new__(AuditContext), self.__dict__
        values = derived.__dict__
        for name in _INHERITED:
            values[name] = own[name]
        values.update(changes)
        values["stamps"] = {}
        return derived

    def now(self) -> "AuditContext":
        """This context with the user that its request has now: views and mutations may authenticate or log in late.

        And with an assignation id only where it counts.
        """
        # isinstance() would make a lazy user query.
        context = self._with_user(self.user) if type(self.user) is _RequestUser else self
        return context if context.claim is None else context._settled(context.claim.settled())

    def _settled(self, assignation_id: str | None) -> "AuditContext":
        known: AuditContext | None = self.__dict__.get("_with_id")
        if known is None or known.assignation_id != assignation_id:
            known = self.__dict__["_with_id"] = self.derive(assignation_id=assignation_id, claim=None)
        return known

    def _with_user(self, request_user: "_RequestUser") -> "AuditContext":
        user = request_user.find()
        known: AuditContext | None = self.__dict__.get("_now")
        if known is None or known.user is not user:
            known = self.__dict__["_now"] = self.derive(user=user)
        return known


@dataclass(frozen=True)
class _RequestUser:
    """Stands for the user of a request until a change asks who that is."""

    find: Callable[[], Any]


_STANDARD = ("user", "app", "assignation_id")
_INHERITED = tuple(f.name for f in fields(AuditContext) if f.init)
_NOBODY = AuditContext()
# What is in force, innermost last, each with what put it there. An immutable stack instead of tokens: whoever leaves
# takes away its own, in whatever order and from whatever task or thread it leaves.
_stack: ContextVar[tuple[tuple[object, AuditContext], ...]] = ContextVar("koherent_audit", default=())
_UNSET: Any = object()


def current_audit() -> AuditContext:
    """The context in force here: frozen, never None."""
    return _outer().now()


def _outer() -> AuditContext:
    """The context in force as it was entered, which is what one inside inherits from."""
    stack = _stack.get()
    return stack[-1][1] if stack else _NOBODY


def enter(owner: object, context: AuditContext) -> AuditContext:
    """Put ``context`` in force here, until ``leave(owner)``."""
    _stack.set((*_stack.get(), (owner, context)))
    return context.now()


def leave(owner: object) -> None:
    """Restore what was in force here before ``enter(owner, ...)``."""
    stack = _stack.get()
    if stack and stack[-1][0] is owner:
        _stack.set(stack[:-1])
        return
    for place in reversed(range(len(stack))):
        if stack[place][0] is owner:
            _stack.set(stack[:place] + stack[place + 1 :])
            return
    # A generator may be closed from another task, where its context was never in force.


class audit:
    """Attribute the changes made inside: context manager, async context manager and decorator.

    Decorates functions, coroutines, and generators of both kinds; what a generator's consumer does between its items
    is not attributed to it. One instance may be used again, by many threads and tasks at once.

    Values that are not given are inherited from the context around; ``metadata`` is merged. The context around is
    always restored. Raises ``BadAssignationId``, ``BadHeader`` or ``BadInput`` for values that could not be stored.
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
        for name, value in metadata.items():
            check_metadata(name, value)
        given = {"user": user, "app": app, "assignation_id": assignation_id, "reason": reason}
        self._changes = {name: value for name, value in given.items() if value is not _UNSET}
        self._explicit = frozenset(self._changes)
        if assignation_id is not _UNSET:
            self._changes["claim"] = None
        self._metadata = metadata

    def _inner(self) -> AuditContext:
        outer = _outer()
        return outer.derive(
            **self._changes,
            metadata={**outer.metadata, **self._metadata},
            explicit=outer.explicit | self._explicit,
        )

    def __enter__(self) -> AuditContext:
        return enter(self, self._inner())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        leave(self)

    async def __aenter__(self) -> AuditContext:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, tb)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        decorated: Any
        if inspect.isgeneratorfunction(function):
            decorated = self._generator(function)
        elif inspect.isasyncgenfunction(function):
            decorated = self._async_generator(function)
        elif iscoroutinefunction(function):
            decorated = self._coroutine(function)
        else:

            def decorated(*args: P.args, **kwargs: P.kwargs) -> R:
                with self:
                    return function(*args, **kwargs)

        return cast("Callable[P, R]", functools.wraps(function)(decorated))

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        return call

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            steps = _Steps(self._inner())
            generator = function(*args, **kwargs)
            step, value = generator.send, None
            while True:
                try:
                    with steps:
                        item = step(value)
                except StopIteration as stop:
                    return stop.value
                try:
                    value = yield item
                    step = generator.send
                except GeneratorExit:
                    with steps:
                        generator.close()
                    raise
                # Whatever the consumer throws in is the generator's to handle.
                except BaseException as error:  # noqa: BLE001
                    step, value = generator.throw, error

        return call

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
            steps = _Steps(self._inner())
            generator = function(*args, **kwargs)
            step, value = generator.asend, None
            while True:
                try:
                    with steps:
                        item = await step(value)
                except StopAsyncIteration:
                    return
                try:
                    value = yield item
                    step = generator.asend
                except GeneratorExit:
                    with steps:
                        await generator.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001  # as above
                    step, value = generator.athrow, error

        return call


class _Steps:
    """Puts a generator's own stack in force for one step, and keeps it for the next one."""

    def __init__(self, context: AuditContext) -> None:
        self._inside = (*_stack.get(), (self, context))

    def __enter__(self) -> None:
        self._outside = _stack.get()
        _stack.set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = _stack.get()
        _stack.set(self._outside)


def request_audit(info: RequestInfo, *, generate: bool = False) -> "_RequestAudit":
    """The context manager for one request: operation extensions win over headers, those over connection parameters,
    those over what authentication knows.

    ``generate`` gives a request without an assignation id a fresh one. Raises ``BadHeader`` and
    ``BadAssignationId`` here, before anything is entered.
    """
    conf = settings()
    assignation_id = claim(info, "assignationId", conf.assignation_headers)
    pending: Claim | None = None
    if assignation_id is not None:
        assignation_id = check_assignation_id(assignation_id)
        pending = claim_of(assignation_id, lambda: info.now().user, str(uuid.uuid4()) if generate else None)
    elif info.provenance is not None:
        assignation_id = check_assignation_id(info.provenance.tsk)
    app = claim(info, "app", conf.app_headers)
    if app is None and info.client is not None:
        app = str(info.client.client_id)
    reason = claim(info, "reason", conf.reason_headers)
    for name, text in (("app", app), ("reason", reason)):
        if text is not None:
            check_text(name, text)
    user = info.user if info.find_user is None else _RequestUser(info.find_user)
    values: dict[str, Any] = {"user": user, "app": app or None, "assignation_id": assignation_id}
    for name, (check, ask) in _TRACKED.items():
        if name in conf.track:
            path = conf.track[name]
            values[name] = None if path is None else ask(partial(_track, name, path, info, check))
            # What the project's own code says is no claim.
            pending = None if name == "assignation_id" else pending
    left_out = {name for name in _TRACKED if conf.track.get(name, "") is None}
    if values["assignation_id"] is None and generate and "assignation_id" not in left_out:
        values["assignation_id"] = str(uuid.uuid4())
    # A project that leaves the user out does not want the one that django-simple-history would find either.
    explicit = frozenset(left_out & {"user"})
    context = AuditContext(**values, reason=reason or None, request=info, explicit=explicit, claim=pending)
    return _RequestAudit(context)


def _track(name: str, path: str, info: RequestInfo, check: Callable[[str, Any], Any]) -> Any:
    return track(name, path, info.now(), check)


# How the standard trackers are checked and asked. Finding a user may query, so it waits for the first change, which is
# synchronous code; the texts are needed at once.
_TRACKED: Mapping[str, tuple[Callable[[str, Any], Any], Callable[[Callable[[], Any]], Any]]] = {
    "user": (lambda name, value: value, SimpleLazyObject),
    "app": (check_text, lambda ask: ask()),
    "assignation_id": (lambda name, value: check_assignation_id(value), lambda ask: ask()),
}


class _RequestAudit:
    """Sets the context on entry and restores the one around on exit, also when closed from another task."""

    def __init__(self, context: AuditContext) -> None:
        self.context = context

    def __enter__(self) -> AuditContext:
        outer = _outer()
        kept: dict[str, Any] = {name: getattr(outer, name) for name in outer.explicit}
        return enter(
            self,
            self.context.derive(
                **kept,
                claim=None if "assignation_id" in kept else self.context.claim,
                metadata=outer.metadata,
                explicit=outer.explicit | self.context.explicit,
            ),
        )

    def __exit__(self, *_: object) -> None:
        leave(self)


def revert_audit(
    assignation_id: str, reason: str | None, metadata: Mapping[str, Any]
) -> AbstractContextManager[AuditContext]:
    """The context of a revert: the user and app in force, an assignation id of its own, origin ``revert``."""
    return _audit_of("revert", reason, metadata, assignation_id=assignation_id, claim=None)


def erasure_audit(
    reason: str | None, metadata: Mapping[str, Any] = MappingProxyType({})
) -> AbstractContextManager[AuditContext]:
    """The context of an erasure: what is in force, with the origin ``erasure``."""
    return _audit_of("erasure", reason, metadata)


@contextmanager
def _audit_of(origin: str, reason: str | None, metadata: Mapping[str, Any], **changes: Any) -> Iterator[AuditContext]:
    outer, owner = _outer(), object()
    inner = outer.derive(
        reason=reason if reason is not None else outer.reason,
        metadata={**outer.metadata, **metadata},
        origin=origin,
        **changes,
    )
    try:
        yield enter(owner, inner)
    finally:
        leave(owner)
