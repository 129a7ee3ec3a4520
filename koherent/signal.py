"""Django's signals that recording listens to. Importing this module is enough; doing it twice changes nothing."""

from functools import partial
from typing import Any

from django.db import models
from django.db.models.fields.related import lazy_related_operation
from django.db.models.signals import class_prepared, post_delete, pre_delete
from django.dispatch import Signal

from koherent import deletions, managers, recorder, registry
from koherent.registry import M2MTracked, TrackedModel

#: Sent once for each applied revert, with ``report``.
reverted = Signal()


def connect(tracked: TrackedModel) -> None:
    """Listen for deletions of a tracked model's objects, and of what takes their many-to-many links along."""
    uid = f"koherent.{tracked.label}"
    pre_delete.connect(_on_pre_delete, sender=tracked.model, dispatch_uid=uid)
    for m2m in tracked.m2m:
        lazy_related_operation(
            partial(_connect_links, tracked, m2m), tracked.model, m2m.field.remote_field.model, m2m.through
        )


def _connect_links(tracked: TrackedModel, m2m: M2MTracked, *_: Any) -> None:
    managers.audit_links(tracked, m2m)
    name = f"koherent.{tracked.label}.{m2m.name}"
    # The names of a link's fields are known once all models are there, not yet here.
    going: list[Any] = [(m2m.field.remote_field.model, None)]
    if not m2m.through._meta.auto_created:
        going.append((m2m.through, "pk"))
    for sender, attname in going:
        before = partial(_before_loss, tracked, m2m, name, attname)
        pre_delete.connect(before, sender=sender, weak=False, dispatch_uid=name)
        post_delete.connect(partial(_after_loss, tracked, name), sender=sender, weak=False, dispatch_uid=name)


def _on_class_prepared(sender: type[models.Model], **_: Any) -> None:
    """A proxy of a tracked model is deleted under its own name, and has managers of its own."""
    if sender._meta.proxy and registry.for_model(sender) is not None:
        managers.audit_managers(sender)
        pre_delete.connect(_on_pre_delete, sender=sender, dispatch_uid=f"koherent.{sender._meta.label_lower}")


class_prepared.connect(_on_class_prepared, dispatch_uid="koherent.proxies")


def _on_pre_delete(sender: type[models.Model], instance: models.Model, using: str, **_: Any) -> None:
    tracked = registry.for_model(sender)
    if tracked is not None and recorder.is_recording():
        deletions.announce(tracked, using, instance.pk)


def _before_loss(
    tracked: TrackedModel,
    m2m: M2MTracked,
    name: str,
    attname: str | None,
    *,
    instance: models.Model,
    using: str,
    **_: Any,
) -> None:
    """A link goes, or its other side does and takes it along without a word: remember whom it belonged to."""
    attname = attname or m2m.target_attname
    if not recorder.is_recording() or deletions.announce_loss(tracked, m2m, using, attname, instance.pk):
        return
    owners = deletions.owners_of(m2m, using, attname, [instance.pk])
    instance.__dict__.setdefault("_koherent_owners", {})[name] = owners


def _after_loss(tracked: TrackedModel, name: str, *, instance: models.Model, using: str, **_: Any) -> None:
    owners = instance.__dict__.get("_koherent_owners", {}).pop(name, [])
    if owners and recorder.is_recording():
        recorder.record_links(tracked, using, owners)
