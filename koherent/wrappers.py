"""How recording watches the statements of a connection."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper


@contextmanager
def outermost(connection: BaseDatabaseWrapper, wrapper: Callable[..., Any]) -> Iterator[None]:
    """Django's ``execute_wrapper()``, around all others: these may rewrite statements, with a comment in front, say."""
    connection.execute_wrappers.insert(0, wrapper)
    try:
        yield
    finally:
        connection.execute_wrappers.remove(wrapper)
