"""Entries and steps as people read them: what templates get."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.urls import reverse
from django.utils.translation import gettext as _

from koherent.diff import FieldChange, ForeignKeyLabels
from koherent.models import Assignation
from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.revert import Step
from koherent.timeline import Entry

ACTIONS = {"+": "add", "~": "change", "-": "delete"}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One field: its label, and the values as text; None where there is none."""

    label: str
    old: str | None = None
    new: str | None = None
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Row:
    """An entry, or a step of a plan, and where its links lead; an empty address is no link."""

    of: Entry | Step
    action: str
    kind: str
    label: str
    changes: tuple[Change, ...] | None
    object_url: str = ""
    assignation_url: str = ""
    revert_url: str = ""


def action_name(action: str) -> str:
    """What happened, for people."""
    return {"+": _("Created"), "~": _("Changed"), "-": _("Deleted")}[action]


def step_name(action: str) -> str:
    """What a step will do, for people."""
    return {"+": _("Create again"), "~": _("Change back"), "-": _("Delete")}[action]


def entry_rows(
    scope: Scope, site: AdminSite, entries: Sequence[Entry], revertible: Iterable[TrackedModel]
) -> list[Row]:
    """Entries for a template; links to a revert for those of ``revertible`` models."""
    labels = _link_labels(scope, [(entry.tracked, entry.changes or ()) for entry in entries])
    undoable = set(revertible)
    rows = []
    for entry in entries:
        assignation = entry.row.assignation_id
        rows.append(
            Row(
                of=entry,
                action=ACTIONS[entry.action],
                kind=action_name(entry.action),
                label=entry.object_label,
                changes=None if entry.changes is None else _readable(entry.tracked, entry.changes, labels),
                object_url=history_url(site, entry.tracked, entry.object_id),
                assignation_url="" if assignation is None else assignation_url(site, assignation),
                revert_url=entry_url(site, entry) if entry.tracked in undoable else "",
            )
        )
    return rows


def step_rows(scope: Scope, site: AdminSite, steps: Sequence[Step]) -> list[Row]:
    """Steps for a template."""
    labels = _link_labels(scope, [(step.tracked, step.changes) for step in steps])
    return [
        Row(
            of=step,
            action=ACTIONS[step.action],
            kind=step_name(step.action),
            label=step.object_label,
            changes=_readable(step.tracked, step.changes, labels),
            object_url=history_url(site, step.tracked, step.object_id),
        )
        for step in steps
    ]


def history_url(site: AdminSite, tracked: TrackedModel, object_id: str) -> str:
    """The object's history on this site, where its model has one of ours."""
    from koherent.admin.objects import KoherentAdmin

    if not site.is_registered(tracked.model) or not isinstance(site.get_model_admin(tracked.model), KoherentAdmin):
        return ""
    return reverse(_name(site, tracked, "history"), args=[quote(object_id)])


def entry_url(site: AdminSite, entry: Entry) -> str:
    """The page that goes back to an entry."""
    if not history_url(site, entry.tracked, entry.object_id):
        return ""
    return reverse(_name(site, entry.tracked, "simple_history"), args=[quote(entry.object_id), entry.history_id])


def assignation_url(site: AdminSite, id: str, page: str = "change") -> str:
    """The page of an assignation on this site, where it has such pages."""
    if not site.is_registered(Assignation):
        return ""
    return reverse(f"{site.name}:koherent_assignation_{page}", args=[quote(id)])


def _name(site: AdminSite, tracked: TrackedModel, page: str) -> str:
    meta = tracked.model._meta
    return f"{site.name}:{meta.app_label}_{meta.model_name}_{page}"


def _readable(tracked: TrackedModel, changes: Iterable[FieldChange], labels: ForeignKeyLabels) -> tuple[Change, ...]:
    shown = []
    for change in changes:
        field: Any = tracked.model._meta.get_field(change.field)
        if getattr(field, "auto_now", False) and change.old is not None and change.new is not None:
            continue  # it moves whenever anything does
        note = _("hidden") if change.redacted else _("erased") if change.erased else ""
        added, removed = (
            tuple(_key_text(field, key, labels) for key in keys or ()) for keys in (change.added, change.removed)
        )
        shown.append(
            Change(
                label=change.label,
                old=_text(change.old, change.old_label),
                new=_text(change.new, change.new_label),
                added=added,
                removed=removed,
                note=note,
            )
        )
    return tuple(shown)


def _link_labels(scope: Scope, changed: Iterable[tuple[TrackedModel, Iterable[FieldChange]]]) -> ForeignKeyLabels:
    labels = ForeignKeyLabels(scope)
    for tracked, changes in changed:
        for change in changes:
            keys = [*(change.added or ()), *(change.removed or ())]
            if keys:
                field: Any = tracked.model._meta.get_field(change.field)
                labels.want_keys(field, [field.target_field.to_python(key) for key in keys])
    labels.load()
    return labels


def _key_text(field: Any, key: Any, labels: ForeignKeyLabels) -> str:
    label = labels.get(field, field.target_field.to_python(key))
    return str(key) if label is None else label


def _text(value: Any, label: str | None) -> str | None:
    if value is None:
        return None
    if label is not None:
        return label
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
