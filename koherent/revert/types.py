"""What a revert is asked for and what it answers."""

from dataclasses import dataclass
from enum import Enum

from koherent.diff import FieldChange
from koherent.registry import TrackedModel

Key = tuple[str, int]


class RevertPolicy(Enum):
    """What to do about conflicts: write nothing, leave the conflicting objects out, or override later changes."""

    ABORT = "ABORT"
    SKIP_CONFLICTS = "SKIP_CONFLICTS"
    OVERWRITE = "OVERWRITE"


class RevertStatus(Enum):
    """``PLANNED`` for a dry run that would write, ``APPLIED`` after writing, else why nothing was written."""

    PLANNED = "PLANNED"
    APPLIED = "APPLIED"
    CONFLICTED = "CONFLICTED"
    UNCHANGED = "UNCHANGED"


class ConflictCode(Enum):
    """Why a step cannot simply be done."""

    CHANGED_SINCE = "CHANGED_SINCE"
    UNIQUE_TAKEN = "UNIQUE_TAKEN"
    REFERENCE_MISSING = "REFERENCE_MISSING"
    STILL_REFERENCED = "STILL_REFERENCED"
    UNTRACKED_FIELDS = "UNTRACKED_FIELDS"
    INVALID = "INVALID"


@dataclass(frozen=True, kw_only=True)
class Conflict:
    """One obstacle. ``fields`` are names of the step's model; ``entry`` is the key of the entry in the way."""

    code: ConflictCode
    message: str
    fields: tuple[str, ...] = ()
    entry: Key | None = None


@dataclass(frozen=True, kw_only=True)
class Step:
    """What happens to one object: ``"+"`` creates it again, ``"~"`` changes it back, ``"-"`` deletes it."""

    action: str
    tracked: TrackedModel
    object_id: str
    object_label: str
    changes: tuple[FieldChange, ...]
    conflicts: tuple[Conflict, ...]
    applied: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """The outcome. ``plan`` is the token of what was shown; ``entry_keys`` are the entries that the revert wrote.

    ``assignation_id`` is the revert's own and None when nothing was written. ``conflict_count`` counts steps.
    """

    status: RevertStatus
    plan: str
    assignation_id: str | None
    steps: tuple[Step, ...]
    conflict_count: int
    entry_keys: tuple[Key, ...] = ()
