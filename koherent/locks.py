"""Locks by name, for what no row stands for; held until the transaction ends."""

import hashlib
from collections.abc import Iterable

from django.db.backends.base.base import BaseDatabaseWrapper


def hold(connection: BaseDatabaseWrapper, *names: str, shared: Iterable[str] = ()) -> None:
    """Wait until nobody holds ``names`` at all, nor ``shared`` alone, then hold them. One statement.

    PostgreSQL only: SQLite has one writer at a time.
    """
    if connection.vendor != "postgresql":
        return
    wanted = [("pg_advisory_xact_lock", name) for name in names]
    # In one order, so that no two wait for each other.
    wanted += [("pg_advisory_xact_lock_shared", name) for name in sorted(shared)]
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(f'{function}(%s)' for function, _ in wanted)}", [_number(name) for _, name in wanted]
        )


def erasing(label: str) -> str:
    """The name that an erasure of values of a model holds alone, and reverts share: they copy those values."""
    return f"koherent.erase:{label}"


def _number(name: str) -> int:
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
