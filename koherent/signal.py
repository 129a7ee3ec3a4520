"""Django's signals that recording listens to. Importing this module is enough; doing it twice changes nothing."""

from functools import partial
from typing import Any

from django.db import models
from django.db.models.fields.related import lazy_related_operation
from django.db.models.signals import class_prepared, m2m_changed, post_delete, pre_delete
from django.dispatch import Signal

from koherent import managers, recorder, registry
from koherent.registry import M2MTracked, TrackedModel

#: Sent once for each applied revert, with ``report``.
reverted = Signal()


def connect(tracked: TrackedModel) -> None:
    """Listen for deletions and for changes of many-to-many links of one tracked model."""
    uid = f"koherent.{tracked.label}"
    pre_delete.connect(_on_pre_delete, sender=tracked.model, dispatch_uid=uid)
    for m2m in tracked.m2m:
        name = f"{uid}.{m2m.name}"
        changed = partial(_on_m2m_changed, tracked, m2m)
        m2m_changed.connect(changed, sender=m2m.through, weak=False, dispatch_uid=name)
        # The other side may be "self", or a name whose class is not there yet.
        target = m2m.field.remote_field.model
        lazy_related_operation(partial(_connect_target, tracked, m2m, name), tracked.model, target)


def _connect_target(
    tracked: TrackedModel, m2m: M2MTracked, name: str, model: type[models.Model], target: type[models.Model]
) -> None:
    pre_delete.connect(partial(_before_target, tracked, m2m, name), sender=target, weak=False, dispatch_uid=name)
    post_delete.connect(partial(_after_target, tracked, name), sender=target, weak=False, dispatch_uid=name)


def _on_class_prepared(sender: type[models.Model], **_: Any) -> None:
    """A proxy of a tracked model is deleted under its own name, and has managers of its own."""
    if sender._meta.proxy and registry.for_model(sender) is not None:
        managers.audit_managers(sender)
        pre_delete.connect(_on_pre_delete, sender=sender, dispatch_uid=f"koherent.{sender._meta.label_lower}")


class_prepared.connect(_on_class_prepared, dispatch_uid="koherent.proxies")


def _on_pre_delete(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    tracked = registry.for_model(sender)
    if tracked is not None and recorder.is_recording():
        recorder.announce_deletion(tracked, using, instance.pk)


def _on_m2m_changed(
    tracked: TrackedModel,
    m2m: M2MTracked,
    *,
    instance: models.Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    **_: Any,
) -> None:
    if not recorder.is_recording() or hasattr(instance, "skip_history_when_saving"):
        return
    if not reverse:
        if action.startswith("post_"):
            recorder.record(tracked, using, [instance.pk], "~", links=True)
    elif action == "pre_clear":
        instance._koherent_cleared = _owners(m2m, using, instance)  # type: ignore[attr-defined]
    elif action == "post_clear":
        recorder.record(tracked, using, instance.__dict__.pop("_koherent_cleared", []), "~", links=True)
    elif action in ("post_add", "post_remove"):
        recorder.record(tracked, using, sorted(pk_set or ()), "~", links=True)


def _owners(m2m: M2MTracked, using: str, target: models.Model) -> list[Any]:
    links = m2m.through._base_manager.using(using).filter(**{m2m.target_attname: target.pk})
    return list(links.order_by(m2m.source_attname).values_list(m2m.source_attname, flat=True))


def _before_target(
    tracked: TrackedModel, m2m: M2MTracked, name: str, *, instance: models.Model, using: str, **_: Any
) -> None:
    """Deleting the other side of a link takes the link along without a signal: remember whom it belonged to."""
    if recorder.is_recording():
        instance.__dict__.setdefault("_koherent_owners", {})[name] = _owners(m2m, using, instance)


def _after_target(tracked: TrackedModel, name: str, *, instance: models.Model, using: str, **_: Any) -> None:
    owners = instance.__dict__.get("_koherent_owners", {}).pop(name, [])
    if owners and recorder.is_recording():
        recorder.record(tracked, using, owners, "~", links=True)
