"""What the commands' arguments mean."""

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandError
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from koherent.errors import KoherentError

#: Exit statuses besides 0 and Python's own 1.
USAGE, INTERRUPTED = 2, 130

_AGE = re.compile(r"([0-9]{1,6})([hdwy])", re.ASCII)
_HOURS = {"h": 1, "d": 24, "w": 7 * 24, "y": 365 * 24}


def moment(name: str, value: Any) -> dt.datetime | None:
    """The time that an argument names: an age such as ``365d`` (h, d, w, y), a date or a time of ISO 8601.

    Raises ``CommandError`` for anything else.
    """
    if value is None or isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.timedelta):
        return timezone.now() - value
    text = str(value)
    try:
        if (age := _AGE.fullmatch(text)) is not None:
            return timezone.now() - dt.timedelta(hours=int(age[1]) * _HOURS[age[2]])
        day = parse_date(text)
        found = parse_datetime(text) if day is None else dt.datetime.combine(day, dt.time())
    except (ValueError, OverflowError):
        found = None
    if found is None:
        raise usage(
            f"{name} takes an age (12h, 30d, 8w, 2y), a date or a time (2026-01-31, 2026-01-31T12:00), not {text!r}."
        )
    now = timezone.now()
    if timezone.is_aware(now) and timezone.is_naive(found):
        return timezone.make_aware(found)
    return timezone.make_naive(found) if timezone.is_naive(now) and timezone.is_aware(found) else found


def account(name: str) -> Any:
    """The account of a user name. Raises the ``CommandError`` of wrong usage when there is none."""
    accounts: Any = get_user_model()
    try:
        return accounts._default_manager.get_by_natural_key(name)
    except accounts.DoesNotExist:
        raise usage(f"There is no account {name!r}.") from None


def usage(message: str) -> CommandError:
    """An error about how the command was called."""
    return CommandError(message, returncode=USAGE)


def refused(error: KoherentError) -> CommandError:
    """A coded error as a command shows it."""
    return CommandError(f"{error.message} ({error.code})", returncode=USAGE)


@contextmanager
def interruptible(hint: str) -> Iterator[None]:
    """Ctrl-C ends the command with a sentence and a status of its own; ``hint`` says what is done and how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise CommandError(f"Interrupted. {hint}", returncode=INTERRUPTED) from None
