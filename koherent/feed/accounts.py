"""Accounts as the database has them now, with their permissions, many in a constant number of statements."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.contrib.auth import get_backends
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import Group, PermissionsMixin
from django.db.models import Model

AccountKey: TypeAlias = tuple[type[Model], Any]

#: Accounts of one statement: databases limit the parameters of one.
CHUNK = 500

_PERMISSIONS = ("permissions__content_type__app_label", "permissions__codename")
_DIRECT = ("user_permissions__content_type__app_label", "user_permissions__codename")
# What Django's own permission checks go through.
_OF_BACKEND = (
    "has_perm",
    "get_all_permissions",
    "get_user_permissions",
    "get_group_permissions",
    "_get_permissions",
    "_get_user_permissions",
    "_get_group_permissions",
)
_OF_ACCOUNT = ("has_perm", "get_all_permissions")


@dataclass(frozen=True)
class Account:
    """An account as it is now. Accounts of equal ``rights`` hold the same permissions; None: only asking tells."""

    user: Any
    rights: Hashable | None


def account_key(user: Any) -> AccountKey | None:
    """What identifies a stored account; None for everybody else. ``user`` may be lazy."""
    # ``__class__`` also looks through a lazy user.
    return (user.__class__, user.pk) if isinstance(user, Model) and user.pk is not None else None


def read_accounts(keys: Iterable[AccountKey]) -> dict[AccountKey, Account]:
    """Those of the accounts that still exist. Four statements for up to 500 of one model, whatever they may do.

    One statement, where a backend or user model of the project's own decides on permissions: those are asked later.
    """
    found: dict[AccountKey, Account] = {}
    by_model: dict[type[Model], list[Any]] = {}
    for model, pk in dict.fromkeys(keys):
        by_model.setdefault(model, []).append(pk)
    for model, pks in by_model.items():
        plain = django_decides(model)
        for start in range(0, len(pks), CHUNK):
            users = list(model._base_manager.filter(pk__in=pks[start : start + CHUNK]))
            rights = _read_permissions(model, users) if plain else {}
            found.update({(model, user.pk): Account(user, rights.get(user.pk)) for user in users})
    return found


def django_decides(model: type[Model]) -> bool:
    """Whether the permissions of such accounts are those that Django's own tables hold, and nothing else."""
    if not issubclass(model, PermissionsMixin) or not _same(model, PermissionsMixin, _OF_ACCOUNT):
        return False
    backends = [type(backend) for backend in get_backends()]
    ours = [backend for backend in backends if issubclass(backend, ModelBackend)]
    return bool(ours) and all(
        _same(backend, ModelBackend, _OF_BACKEND)
        if backend in ours
        # A backend that only logs people in grants nothing.
        else not hasattr(backend, "has_perm") or _same(backend, BaseBackend, _OF_BACKEND[:4])
        for backend in backends
    )


def _same(child: type, parent: type, names: Sequence[str]) -> bool:
    return all(getattr(child, name, None) is getattr(parent, name, None) for name in names)


def _read_permissions(model: type[Model], users: Sequence[Any]) -> dict[Any, Hashable]:
    """Fill Django's permission caches of the accounts; their rights by primary key."""
    direct: dict[Any, set[tuple[str, str]]] = {}
    groups: dict[Any, set[Any]] = {}
    # An active superuser holds every permission, an inactive account none: neither is looked up.
    asked = [user.pk for user in users if user.is_active and not user.is_superuser]
    if asked:
        rows = model._base_manager.filter(pk__in=asked)
        for pk, app, codename in rows.filter(user_permissions__isnull=False).values_list("pk", *_DIRECT):
            direct.setdefault(pk, set()).add((app, codename))
        for pk, group in rows.filter(groups__isnull=False).values_list("pk", "groups"):
            groups.setdefault(pk, set()).add(group)
    of_group: dict[Any, set[tuple[str, str]]] = {}
    if groups:
        named = Group.objects.filter(pk__in=set().union(*groups.values()), permissions__isnull=False)
        for group, app, codename in named.values_list("pk", *_PERMISSIONS):
            of_group.setdefault(group, set()).add((app, codename))
    rights: dict[Any, Hashable] = {}
    for user in users:
        own, member = direct.get(user.pk, set()), groups.get(user.pk, set())
        held = set().union(*(of_group.get(group, set()) for group in member))
        if not user.is_superuser:
            user._user_perm_cache = {f"{app}.{codename}" for app, codename in own}
            user._group_perm_cache = {f"{app}.{codename}" for app, codename in held}
            user._perm_cache = user._user_perm_cache | user._group_perm_cache
        rights[user.pk] = (user.is_active, user.is_superuser, frozenset(own), frozenset(held))
    return rights
