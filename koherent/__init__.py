"""koherent: a GraphQL-first audit trail for Django."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from koherent.context import AuditContext, audit, current_audit
from koherent.pausing import pause

if TYPE_CHECKING:
    from koherent.erasure import erase, erase_actor
    from koherent.timeline.past import as_of
    from koherent.unit import atomic

__all__ = ["AuditContext", "as_of", "atomic", "audit", "current_audit", "erase", "erase_actor", "pause"]
__version__ = "0.1.0"

# These need Django's models, which are not there yet when Django imports its apps.
_LATE = {
    "as_of": "koherent.timeline.past",
    "atomic": "koherent.unit",
    "erase": "koherent.erasure",
    "erase_actor": "koherent.erasure",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
