"""Two changes under one assignation: made, listed with diffs, watched without a gap, and undone."""

import sys
from contextlib import closing
from typing import Any
from uuid import uuid4

from koherent.client import assignation

from notebook import schema as notebook
from notebook.schema import DatasetInput, DatasetPatch, HistoryFilter, OneToManyInput
from transport import http


def watching(filters: HistoryFilter, after: str | None = None) -> Any:
    """A subscription that ends with its block."""
    return closing(notebook.watch(filters, after))


def position(filters: HistoryFilter) -> str:
    """Subscribes, and leaves again with the cursor of the first item."""
    with watching(filters) as items:
        cursor: str = next(items).cursor
    return cursor


def missed(filters: HistoryFilter, after: str, count: int) -> list[Any]:
    """Subscribes again, and reads what came meanwhile."""
    entries: dict[str, Any] = {}
    with watching(filters, after) as items:
        while len(entries) < count:
            entry = next(items).entry
            if entry is not None:
                entries[entry.id] = entry
    return list(entries.values())


def undo(task: str) -> notebook.RevertRevertReportInlineFragment:
    """Plans, and does exactly what was planned."""
    plan = notebook.revert(task, True)
    assert isinstance(plan, notebook.RevertRevertReportInlineFragment), plan
    done = notebook.revert(task, False, plan.plan)
    assert isinstance(done, notebook.RevertRevertReportInlineFragment), done
    return done


def main(address: str) -> None:
    """The program."""
    task = f"turms-{uuid4().hex[:8]}"
    http.base_url = address
    notebook.log_in("curator", "curator-password")
    filters = HistoryFilter(assignationId=task)

    cursor = position(filters)
    project = notebook.projects()[0].id
    with assignation(task, app="turms-example"):
        data = DatasetInput(project=OneToManyInput(set=project), title="helo")
        made = notebook.create_dataset(data)
        assert isinstance(made, notebook.CreateDatasetDatasetInlineFragment), made
        notebook.update_dataset(DatasetPatch(id=made.id, title="hello"))

    history = notebook.trail(filters)
    assert history is not None
    assert history.total_count == 2, history
    for edge in history.edges:
        for change in edge.node.changes or []:
            print(f"{edge.node.action} {edge.node.object_label}: {change.field} {change.old!r} -> {change.new!r}")

    for entry in missed(filters, cursor, 2):
        print(f"while we were away: {entry.action} {entry.object_label}")
    report = undo(task)
    print(f"{report.status}: {report.step_count} step, as assignation {report.assignation_id}")
    assert report.status == "APPLIED", report


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000")
