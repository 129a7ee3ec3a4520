"""What the feed of this process did, for a team's metrics, and how its log lines say what happened."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class Counters:
    """Totals since the process began, except ``subscribers`` (now), ``lag`` and ``last_read``.

    ``rings``: changes that were announced, ``ring_failures``: messages that no channel layer took; ``reads``: the hub's
    reads of the trail, ``entries``: what they found; ``deliveries``: entries that subscribers got, ``overflows``:
    subscribers that did not keep up, ``refusals``: streams that ended because their rights were gone. ``lag``: seconds
    from the date of the entry that was delivered live last to its delivery. ``last_read``: seconds since 1970, 0 before
    the first.
    """

    subscribers: int = 0
    rings: int = 0
    ring_failures: int = 0
    reads: int = 0
    read_failures: int = 0
    entries: int = 0
    deliveries: int = 0
    overflows: int = 0
    refusals: int = 0
    lag: float = 0.0
    last_read: float = 0.0


counted = Counters()


def counters() -> dict[str, float]:
    """The counters of this process by name."""
    return asdict(counted)


def event(name: str, **fields: object) -> dict[str, Any]:
    """A log record's ``extra``: ``record.koherent`` is ``{"event": name, **fields}``, for structured logging."""
    return {"koherent": {"event": name, **fields}}
