"""Whether changes are being recorded here."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.conf import settings as django_settings

logger = logging.getLogger("koherent")

# Each write asks for a setting that hardly any project has. For what is not there Django's proxy raises, which takes
# seven times as long as to ask what it stands for.
_settings: Any = django_settings
_suspended: ContextVar[bool] = ContextVar("koherent_suspended", default=False)


def is_recording() -> bool:
    """False inside ``suspended()`` and ``pause()``, and where django-simple-history is switched off."""
    return not _suspended.get() and bool(getattr(_settings._wrapped, "SIMPLE_HISTORY_ENABLED", True))


@contextmanager
def suspended() -> Iterator[None]:
    """Nothing is recorded inside; for code that records by itself."""
    token = _suspended.set(True)
    try:
        yield
    finally:
        _suspended.reset(token)


@contextmanager
def pause() -> Iterator[None]:
    """Nothing is recorded inside, for imports and fixtures. Logged, because the trail then has a gap."""
    logger.warning("koherent.pause(): changes are not being recorded")
    with suspended():
        yield
