"""Undo: planned, shown, authorised, atomic, recorded, and itself revertible. ``plan.py`` reads, ``apply.py`` writes."""

from koherent.revert.calls import plan_assignation, plan_entry, revert_assignation, revert_to
from koherent.revert.types import (
    Conflict,
    ConflictCode,
    Progress,
    Report,
    RevertPolicy,
    RevertStatus,
    Step,
)

__all__ = [
    "Conflict",
    "ConflictCode",
    "Progress",
    "Report",
    "RevertPolicy",
    "RevertStatus",
    "Step",
    "plan_assignation",
    "plan_entry",
    "revert_assignation",
    "revert_to",
]
