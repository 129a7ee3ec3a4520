"""What a revert is asked for and what it answers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from koherent.diff import FieldChange
from koherent.registry import TrackedModel

#: An entry: its model's label and its history id.
Key: TypeAlias = tuple[str, int]

#: Called after each batch with what is being done ("planning", "writing"), how many objects are done, and of how many.
Progress: TypeAlias = Callable[[str, int, int], None]


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

    ``assignation_id`` is the revert's own and None when nothing was written. ``conflict_count`` counts steps with a
    conflict. ``steps`` beyond the first page are made when they are read, which may ask the database for labels.
    """

    status: RevertStatus
    plan: str
    assignation_id: str | None
    steps: Sequence[Step]
    conflict_count: int
    entry_keys: Sequence[Key] = ()
