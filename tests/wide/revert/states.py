"""What all tables hold, to compare before and after."""

from collections.abc import Callable
from typing import Any

from django.apps import apps

from koherent import audit
from koherent.revert import ConflictCode, Report, RevertPolicy, RevertStatus, revert_assignation

#: Kept on another database, or not reverted: history.
_ELSEWHERE = {"Elsewhere"}


def state() -> dict[str, Any]:
    """All rows of the project by key; not the time stamps that set themselves at each save."""
    found: dict[str, Any] = {}
    for model in apps.get_app_config("wide").get_models(include_auto_created=True):
        name = str(model._meta.object_name)
        if hasattr(model, "instance_type") or name.startswith("Historical") or name in _ELSEWHERE:
            continue
        rows = [dict(row) for row in model._base_manager.order_by("pk").values()]
        for row in rows:
            row.pop("moved_at", None)
            if model._meta.auto_created:
                # Nobody refers to the rows of an automatic table.
                row.pop("id")
        key = str(model._meta.pk.attname)
        found[name] = (
            sorted(map(str, rows)) if model._meta.auto_created else {row.get(key): normal(row) for row in rows}
        )
    return found


def normal(row: dict[str, Any]) -> dict[str, Any]:
    """Binary values as bytes."""
    return {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}


def undo(assignation_id: str = "work", **arguments: Any) -> Report:
    """Undo it, as trusted code."""
    return revert_assignation(None, assignation_id, **arguments)


def applied(report: Report) -> bool:
    """Whether it was written, with all conflicts shown when not."""
    assert report.status is RevertStatus.APPLIED, (report.status, [(s.object_label, s.conflicts) for s in report.steps])
    return True


def codes(report: Report) -> dict[str, set[ConflictCode]]:
    """The conflicts by what the objects are called."""
    return {s.object_label: {c.code for c in s.conflicts} for s in report.steps if s.conflicts}


def there_and_back(work: Callable[[], Any], policy: RevertPolicy = RevertPolicy.ABORT) -> Report:
    """Do ``work`` as an assignation, undo it, undo the undo, and see that each brings back exactly what was."""
    before = state()
    with audit(assignation_id="work"):
        work()
    after = state()
    assert after != before
    report = undo(policy=policy)
    assert applied(report)
    assert state() == before
    assert undo().status is RevertStatus.UNCHANGED
    assert report.assignation_id is not None
    again = undo(report.assignation_id, policy=policy)
    assert applied(again)
    assert state() == after
    assert again.assignation_id is not None
    assert applied(undo(again.assignation_id, policy=policy))
    assert state() == before
    return report
