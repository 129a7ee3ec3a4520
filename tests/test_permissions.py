"""What an account may do, read in one statement: exactly what Django's backend says, and nobody else's say is lost."""

import random
from typing import Any

import pytest
from django.contrib.auth.backends import BaseBackend, ModelBackend
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import connection, models
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from example_schema.models import Dataset
from koherent import permissions
from koherent.policy import Viewer

pytestmark = pytest.mark.django_db

MODEL_BACKEND = "django.contrib.auth.backends.ModelBackend"


class Generous(ModelBackend):
    """Grants what no table holds."""

    def get_group_permissions(self, user_obj: Any, obj: Any = None) -> set[str]:
        return {"example_schema.view_dataset"}


class Strict(ModelBackend):
    """Refuses what the tables grant."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        raise PermissionDenied


class LogsIn(BaseBackend):
    """Has no say in permissions."""


class Grants(BaseBackend):
    """Grants everything besides the tables."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return True


def stored(user: User) -> User:
    """The account as the next request reads it, which nobody has asked for permissions."""
    return User.objects.get(pk=user.pk)


def grant(user: User, model: type[models.Model] = Dataset, action: str = "view") -> None:
    options = model._meta
    codename = f"{action}_{options.model_name}"
    user.user_permissions.add(Permission.objects.get(content_type__app_label=options.app_label, codename=codename))


def may_view(user: Any) -> tuple[bool, int]:
    """Whether it may view datasets, and how many statements the answer took."""
    with CaptureQueriesContext(connection) as queries:
        answer = Viewer(user=user).has_perm("view", Dataset)
    return answer, len(queries)


@pytest.mark.parametrize("seed", range(5))
def test_it_is_what_django_says(seed: int) -> None:
    rng = random.Random(seed)
    every = list(Permission.objects.all())
    groups = [Group.objects.create(name=f"group {number}") for number in range(4)]
    for group in groups:
        group.permissions.set(rng.sample(every, rng.randrange(6)))
    for number in range(8):
        user = User.objects.create_user(f"user {number}")
        user.user_permissions.set(rng.sample(every, rng.randrange(6)))
        user.groups.set(rng.sample(groups, rng.randrange(4)))
        plain, prepared = stored(user), stored(user)
        with CaptureQueriesContext(connection) as queries:
            permissions.prepare(prepared)
        assert len(queries) == 1
        with CaptureQueriesContext(connection) as queries:
            said = (
                prepared.get_user_permissions(),
                prepared.get_group_permissions(),
                prepared.get_all_permissions(),
                [prepared.has_perm(f"{p.content_type.app_label}.{p.codename}") for p in every[:1]],
            )
        assert len([query for query in queries if "auth_user" in query["sql"]]) == 0
        assert said == (
            plain.get_user_permissions(),
            plain.get_group_permissions(),
            plain.get_all_permissions(),
            [plain.has_perm(f"{p.content_type.app_label}.{p.codename}") for p in every[:1]],
        )


@pytest.mark.parametrize("lazy", [False, True])
def test_a_viewer_is_asked_about_with_one_statement(lazy: bool) -> None:
    user = User.objects.create_user("ada")
    grant(user)
    known = stored(user)
    account: Any = SimpleLazyObject(lambda: known) if lazy else known
    assert may_view(account) == (True, 1)
    assert may_view(account) == (True, 0)
    user.user_permissions.clear()
    assert may_view(stored(user)) == (False, 1)


def test_who_needs_no_looking_up_is_not_looked_up() -> None:
    user = User.objects.create_superuser("root")
    assert may_view(stored(user)) == (True, 0)
    assert may_view(AnonymousUser()) == (False, 0)
    user.is_active = False
    user.save()
    assert may_view(stored(user)) == (False, 0)


def test_what_django_has_read_already_stays() -> None:
    """A request decides by what its first check read, as everywhere in Django."""
    user = User.objects.create_user("ada")
    account = stored(user)
    assert not account.has_perm("example_schema.view_dataset")
    grant(user)
    assert may_view(account) == (False, 0)
    half = stored(user)
    half.get_group_permissions()
    assert may_view(half) == (True, 1)


@pytest.mark.parametrize(
    ("backends", "granted", "answer"),
    [
        ([Generous], False, True),
        ([Strict], True, False),
        ([Strict, MODEL_BACKEND], True, False),
        ([MODEL_BACKEND, Grants], False, True),
        ([LogsIn], True, False),
        ([LogsIn, MODEL_BACKEND], True, True),
        ([LogsIn, MODEL_BACKEND], False, False),
    ],
)
def test_other_backends_have_their_say(settings: Any, backends: list[Any], granted: bool, answer: bool) -> None:
    named = [name if isinstance(name, str) else f"{__name__}.{name.__name__}" for name in backends]
    settings.AUTHENTICATION_BACKENDS = named
    user = User.objects.create_user("ada")
    if granted:
        grant(user)
    assert stored(user).has_perm("example_schema.view_dataset") is answer
    assert may_view(stored(user))[0] is answer


def test_an_account_that_decides_itself_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(User, "has_perm", lambda self, perm, obj=None: perm == "example_schema.view_dataset")
    assert may_view(User.objects.create_user("ada")) == (True, 0)


def test_permissions_on_another_database_are_left_to_django(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [_Elsewhere()]
    user = User.objects.get_or_create(username="ada")[0]
    assert user._state.db == "default"
    with CaptureQueriesContext(connection) as queries:
        permissions.prepare(user)
    assert len(queries) == 0
    assert not hasattr(user, "_perm_cache")


class _Elsewhere:
    """Permissions are read from a replica, accounts are not."""

    def db_for_read(self, model: type[models.Model], **hints: Any) -> str | None:
        return "elsewhere" if model is Permission else None
