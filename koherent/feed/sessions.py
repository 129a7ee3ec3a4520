"""Django sessions that streams began in, and whether they still hold."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.contrib.sessions.backends.db import SessionStore as DatabaseSession
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from koherent.request import RequestInfo

#: How long the answer of a store that must be asked for each session counts.
KEEP_SECONDS = 30.0


@dataclass(eq=False)
class OpenSession:
    """The session that logged a stream's account in."""

    store: type[SessionBase]
    key: str
    account: str
    _holds: tuple[Any, ...] | None = None
    _asked: float = 0.0

    def holds(self, data: Any, user: Any) -> bool:
        """Whether the session, which holds ``data``, still is the account's with the password that it has now."""
        seen = (data, user.password)
        if seen == self._holds:
            return True
        content = self.store().decode(data) if isinstance(data, str) else data
        if content.get(SESSION_KEY) != self.account:
            return False
        known = content.get(HASH_SESSION_KEY, "")
        if not any(constant_time_compare(known, secret) for secret in _secrets(user)):
            return False
        self._holds = seen
        return True

    def load(self) -> Any:
        """The session's content from its store; at most ``KEEP_SECONDS`` old."""
        if self._holds is None or time.monotonic() - self._asked > KEEP_SECONDS:
            self._asked = time.monotonic()
            return self.store(self.key).load()
        return self._holds[0]


def _secrets(user: Any) -> Iterator[str]:
    """What a session of the account must know: it changes with the password."""
    if not hasattr(user, "get_session_auth_hash"):
        yield ""
        return
    yield user.get_session_auth_hash()
    yield from user.get_session_auth_fallback_hash()


def session_of(request: RequestInfo | None, account: str) -> OpenSession | None:
    """The session that the request is logged in by; None when it is not by one. May query."""
    session: Any = None if request is None else request.session
    # ``__class__`` also looks through a lazy session.
    if not isinstance(session, SessionBase) or not session.session_key or session.get(SESSION_KEY) != account:
        return None
    return OpenSession(session.__class__, session.session_key, account)


def read_sessions(sessions: Iterable[OpenSession]) -> dict[OpenSession, Any]:
    """What each session that still exists holds. One statement for all that are in the database."""
    content: dict[OpenSession, Any] = {}
    stored: dict[type[DatabaseSession], list[OpenSession]] = {}
    for session in sessions:
        if issubclass(session.store, DatabaseSession):
            stored.setdefault(session.store, []).append(session)
        else:
            content[session] = session.load()
    for store, several in stored.items():
        rows = store.get_model_class()._base_manager.filter(
            session_key__in={session.key for session in several}, expire_date__gt=timezone.now()
        )
        found = dict(rows.values_list("session_key", "session_data"))
        content.update({session: found[session.key] for session in several if session.key in found})
    return content
