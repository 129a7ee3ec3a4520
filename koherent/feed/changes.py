"""Tells hubs at once, here and in other processes, when what decides on a reader's rights has changed.

What goes past Django's signals is noticed with the next batch, or within the time that an idle stream is looked at.
"""

from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group, Permission, PermissionsMixin
from django.contrib.auth.signals import user_logged_out
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save

from koherent.feed.doorbell import doorbell


def connect() -> None:
    """Hear of changes from now on. Idempotent. Needs all models."""
    account: Any = get_user_model()
    for signal in (post_save, post_delete):
        for sender in (account, Group, Permission):
            signal.connect(_changed, sender=sender, dispatch_uid="koherent.feed.rights")
    links = [Group.permissions.through]
    if issubclass(account, PermissionsMixin):
        links += [account.groups.through, account.user_permissions.through]
    for through in links:
        m2m_changed.connect(_changed, sender=through, dispatch_uid="koherent.feed.rights")
    if apps.is_installed("django.contrib.sessions"):
        from django.contrib.sessions.models import Session

        post_delete.connect(_changed, sender=Session, dispatch_uid="koherent.feed.rights")
    user_logged_out.connect(_changed, dispatch_uid="koherent.feed.rights")


def _changed(
    using: str = DEFAULT_DB_ALIAS, created: bool = False, update_fields: Any = None, action: str = "", **_: Any
) -> None:
    # Nobody watches with a new account yet, and logging in changes nothing but its own time.
    if created or set(update_fields or ()) == {"last_login"} or action.startswith("pre_"):
        return
    transaction.on_commit(_ring, using=using, robust=True)


def _ring() -> None:
    doorbell.ring(rights=True)
