"""koherent: a GraphQL-first audit trail for Django."""

from koherent.context import AuditContext, audit, current_audit
from koherent.pausing import pause

__all__ = ["AuditContext", "audit", "current_audit", "pause"]
__version__ = "0.1.0"
