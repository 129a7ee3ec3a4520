"""What the feed of this process did, for a team's metrics and health checks."""

from dataclasses import asdict, dataclass


@dataclass
class Counters:
    """Totals since the process began, except ``subscribers`` (now) and ``last_read`` (seconds since 1970, 0: never).

    ``reads`` counts the hub's reads of the trail, ``entries`` what they found, ``deliveries`` what subscribers got.
    """

    subscribers: int = 0
    rings: int = 0
    ring_failures: int = 0
    reads: int = 0
    read_failures: int = 0
    entries: int = 0
    deliveries: int = 0
    overflows: int = 0
    last_read: float = 0.0


counted = Counters()


def counters() -> dict[str, float]:
    """The counters of this process by name."""
    return asdict(counted)
