"""Two users, of whom one sees less, and a trail that has much to hide."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission, User

from tests.security.world import World


@pytest.fixture
def greater(db: None) -> User:
    """Sees all."""
    return User.objects.create_superuser("greater")


@pytest.fixture
def lesser(db: None) -> User:
    """May read and revert all but tags; does not see ``access_notes``."""
    user = User.objects.create_user("lesser")
    wanted = Permission.objects.filter(content_type__app_label="example_schema").exclude(codename__endswith="tag")
    user.user_permissions.set(wanted)
    return User.objects.get(pk=user.pk)


@pytest.fixture
def world(greater: User, lesser: User, settings: Any) -> World:
    """The trail under ``Secrecy``: what "secret" did is not for the lesser user."""
    settings.KOHERENT = {"POLICY": "tests.security.policies.Secrecy"}
    return World(greater, lesser)
