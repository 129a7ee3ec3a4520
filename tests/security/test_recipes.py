"""The policies that the documentation recommends are tested, and are what it shows."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User

import koherent
from example_schema.models import Project
from koherent import timeline
from koherent.policy import Policy, Viewer, scope_for
from tests.security import policies

DOCUMENT = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")


def readers() -> tuple[User, User]:
    """Two accounts that may read projects."""
    both = User.objects.create_user("ada"), User.objects.create_user("bob")
    for user in both:
        user.user_permissions.add(Permission.objects.get(codename="view_historicalproject"))
    return both


def seen(user: User) -> list[str]:
    """What an account sees, oldest first."""
    entries = timeline.page(scope_for(Viewer(user=User.objects.get(pk=user.pk)))).entries
    return [entry.object_label for entry in reversed(entries)]


@pytest.mark.parametrize("recipe", [policies.OwnerPolicy, policies.TenantPolicy])
def test_the_documentation_shows_what_is_tested(recipe: type[Policy]) -> None:
    assert inspect.getsource(recipe).strip() in DOCUMENT


def test_every_method_of_a_policy_is_documented() -> None:
    methods = [name for name in vars(Policy) if not name.startswith("_")]
    assert [name for name in methods if f"| `{name}(" not in DOCUMENT] == []


@pytest.mark.django_db
def test_owners_see_their_own(settings: Any) -> None:
    settings.KOHERENT = {"POLICY": "tests.security.policies.OwnerPolicy"}
    ada, bob = readers()
    for user in (ada, bob, None):
        with koherent.audit(user=user):
            Project.objects.create(name=f"of {user}")
    assert (seen(ada), seen(bob)) == (["of ada"], ["of bob"])
    assert seen(User.objects.create_superuser("root")) == ["of ada", "of bob", "of None"]


@pytest.mark.django_db
def test_tenants_see_their_own(settings: Any) -> None:
    settings.KOHERENT = {"POLICY": "tests.security.policies.TenantPolicy"}
    ada, bob = readers()
    for user, tenants in ((ada, ["red"]), (bob, ["red", "blue"])):
        user.groups.set([Group.objects.get_or_create(name=tenant)[0] for tenant in tenants])
    for tenant in ("red", "blue", None):
        with koherent.audit(tenant=tenant, address="10.0.0.1"):
            Project.objects.create(name=f"of {tenant}")
    assert (seen(ada), seen(bob)) == (["of red"], ["of red", "of blue"])
    assert timeline.page(scope_for(Viewer(user=ada))).entries[0].metadata == {"tenant": "red"}
