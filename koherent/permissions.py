"""Whether Django's own tables alone decide on permissions, and what they say of one account, in one statement."""

from collections.abc import Sequence
from functools import cache
from typing import Any

from django.contrib.auth import get_backends
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import Group, Permission, PermissionsMixin
from django.db import connections, models, router
from django.db.models.expressions import RawSQL

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
# Where Django's backend keeps what it has read of an account: its own permissions, those of its groups, and all.
_CACHES = ("_user_perm_cache", "_group_perm_cache", "_perm_cache")


def django_decides(model: type[models.Model]) -> bool:
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


def remember(user: Any, own: set[tuple[str, str]], of_groups: set[tuple[str, str]]) -> None:
    """Put (app label, codename) pairs where Django's backend looks before it asks the database."""
    user._user_perm_cache = {f"{app}.{codename}" for app, codename in own}
    user._group_perm_cache = {f"{app}.{codename}" for app, codename in of_groups}
    user._perm_cache = user._user_perm_cache | user._group_perm_cache


def prepare(user: Any) -> None:
    """Read at once what Django's backend would read with a statement for the account and one for its groups.

    ``user`` is active and may be lazy. Nothing happens where the backend would read nothing, has read already, or has
    no say of its own: then the backends do their work as ever.
    """
    model = user.__class__  # also looks through a lazy user
    if (
        any(hasattr(user, name) for name in _CACHES)
        or not isinstance(user, models.Model)
        or user.pk is None
        or getattr(user, "is_superuser", False)
        or not django_decides(model)
    ):
        return
    using = router.db_for_read(Permission)
    statement = _statement(model, using) if using == router.db_for_read(model, instance=user) else None
    if statement is None:
        return
    connection = connections[using]
    key = model._meta.pk.get_db_prep_value(user.pk, connection)
    held: tuple[set[tuple[str, str]], set[tuple[str, str]]] = (set(), set())
    with connection.cursor() as cursor:
        cursor.execute(statement, [key, key])
        for of_group, app, codename in cursor.fetchall():
            held[of_group].add((app, codename))
    remember(user, *held)


@cache
def _statement(model: type[models.Model], using: str) -> str | None:
    """(0 or 1 for a group's, app label, codename) of what an account holds; its key is the parameter, twice.

    Making it takes longer than running it. None for accounts whose permissions or groups are others than Django's.
    """
    get_field: Any = model._meta.get_field
    direct, member = get_field("user_permissions"), get_field("groups")
    if not _leads_to(direct, Permission) or not _leads_to(member, Group):
        return None
    key = RawSQL("%s", ("",))
    of_account = _through(direct, using).filter(**{direct.m2m_field_name(): key})
    groups = _through(member, using).filter(**{member.m2m_field_name(): key}).values(member.m2m_reverse_field_name())
    of_groups = _through(Group._meta.get_field("permissions"), using).filter(group__in=groups)
    named = direct.m2m_reverse_field_name()
    own, _ = _named(of_account, named).query.get_compiler(using=using).as_sql()
    theirs, _ = _named(of_groups, "permission").query.get_compiler(using=using).as_sql()
    return f"SELECT 0, own.* FROM ({own}) AS own UNION ALL SELECT 1, theirs.* FROM ({theirs}) AS theirs"


def _leads_to(field: Any, model: type[models.Model]) -> bool:
    link = field.remote_field
    return link is not None and link.model is model and bool(link.through._meta.auto_created)


def _through(field: Any, using: str) -> Any:
    return field.remote_field.through._base_manager.using(using).order_by()


def _named(links: Any, permission: str) -> Any:
    return links.values_list(f"{permission}__content_type__app_label", f"{permission}__codename")
