"""Accounts as the database has them now, with their permissions, many in a constant number of statements."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from django.contrib.auth.models import Group
from django.db.models import Model

from koherent.permissions import django_decides, remember

AccountKey: TypeAlias = tuple[type[Model], Any]

#: Accounts of one statement: databases limit the parameters of one.
CHUNK = 500

_PERMISSIONS = ("permissions__content_type__app_label", "permissions__codename")
_DIRECT = ("user_permissions__content_type__app_label", "user_permissions__codename")


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
            remember(user, own, held)
        rights[user.pk] = (user.is_active, user.is_superuser, frozenset(own), frozenset(held))
    return rights
