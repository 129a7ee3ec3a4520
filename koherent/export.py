"""The trail as a stream of records, in constant memory: for archives, spreadsheets and other systems."""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from django.db.models import Model

from koherent.diff import FieldChange
from koherent.policy import Policy, Scope, Viewer
from koherent.registry import TrackedModel, tracked_on
from koherent.timeline import Entry, Filters, Position, Wanted
from koherent.timeline.pages import Window, stretch

BATCH = 500
ACTIONS = {"+": "CREATE", "~": "UPDATE", "-": "DELETE"}

#: What makes a spreadsheet take a cell for a formula: at its start, and behind blanks that some programs drop.
FORMULA = frozenset("=+-@＝＋－＠")
CONTROL = frozenset("\t\r\n")

COLUMNS = (
    "cursor",
    "model",
    "historyId",
    "action",
    "origin",
    "date",
    "objectId",
    "objectLabel",
    "userId",
    "username",
    "userDeleted",
    "app",
    "assignationId",
    "reason",
    "metadata",
    "changes",
    "snapshot",
)


class Unrestricted(Policy):
    """Shows every entry and every value, redacted ones too: for the operator, who has the database anyway."""

    def viewable_models(self, viewer: Viewer, models: Sequence[TrackedModel]) -> Sequence[TrackedModel]:
        """All of them."""
        return models

    def redacted_fields(self, viewer: Viewer, tracked: TrackedModel) -> frozenset[str]:
        """None of them."""
        return frozenset()

    def may_name(self, viewer: Viewer, model: type[Model]) -> bool:
        """Whatever entries refer to."""
        return True


def unrestricted() -> Scope:
    """A scope in which everything is visible. For trusted code: nobody is asked."""
    return Scope(viewer=Viewer(user=None), policy=Unrestricted(), models=tracked_on())


def entries(scope: Scope, filters: Filters | None = None, *, after: str | None = None) -> Iterator[Entry]:
    """The visible entries that pass the filters, oldest first in browsing order: (date, label, history id).

    ``after`` continues behind an entry's cursor. ``BATCH`` entries are held at a time. Entries that are written
    meanwhile come too, unless their date lies before what was passed already. Raises ``BadCursor``, ``BadFilter``.
    """
    end = None if after is None else Position.decode(after)
    more = True
    while more:
        window = Window(size=BATCH, backwards=True, start=None, end=end)
        page = stretch(scope, filters or Filters(), window, Wanted(previous=False, next=False))
        more = page.has_previous_page
        yield from reversed(page.entries)
        if page.entries:
            end = page.entries[0].position


def record(entry: Entry) -> dict[str, Any]:
    """An entry as the viewer sees it, ready for JSON, under the names that GraphQL gives its parts."""
    user, row = entry.user, entry.row
    return {
        "cursor": entry.cursor,
        "model": entry.tracked.label,
        "historyId": entry.history_id,
        "action": ACTIONS[entry.action],
        "origin": str(row.origin).upper(),
        "date": entry.date.isoformat(),
        "objectId": entry.object_id,
        "objectLabel": entry.object_label,
        "user": None if user is None else {"id": user.key, "username": user.name, "deleted": user.deleted},
        "app": row.app,
        "assignationId": row.assignation_id,
        "reason": entry.reason,
        "metadata": entry.metadata,
        "changes": None if entry.changes is None else [_change(change) for change in entry.changes],
        "snapshot": entry.snapshot,
    }


def _change(change: FieldChange) -> dict[str, Any]:
    return {
        "field": change.field,
        "label": change.label,
        "old": change.old,
        "new": change.new,
        "oldLabel": change.old_label,
        "newLabel": change.new_label,
        "added": change.added,
        "removed": change.removed,
        "redacted": change.redacted,
        "erased": change.erased,
    }


Write = Callable[[Entry], None]


def ndjson(out: TextIO) -> Write:
    """Writes each entry as one line of JSON, in ASCII."""

    def write(entry: Entry) -> None:
        out.write(json.dumps(record(entry), separators=(",", ":")) + "\n")

    return write


def table(out: TextIO, *, header: bool = True) -> Write:
    """Writes each entry as a row of CSV (RFC 4180); metadata, changes and snapshot as JSON, null as an empty cell.

    A cell that a spreadsheet would run starts with an apostrophe.
    """
    writer = csv.writer(out)
    if header:
        writer.writerow(COLUMNS)

    def write(entry: Entry) -> None:
        values = record(entry)
        user = values["user"] or {"id": None, "username": None, "deleted": None}
        values.update(userId=user["id"], username=user["username"], userDeleted=user["deleted"])
        writer.writerow([cell(values[name]) for name in COLUMNS])

    return write


def cell(value: Any) -> str:
    """A value as a spreadsheet may open it."""
    if value is None:
        return ""
    if not isinstance(value, str):
        return json.dumps(value)
    # Half of a surrogate pair has no encoding.
    text = value.encode("utf-8", "backslashreplace").decode("utf-8")
    runs = text[:1] in CONTROL or text.lstrip()[:1] in FORMULA
    return f"'{text}" if runs else text
