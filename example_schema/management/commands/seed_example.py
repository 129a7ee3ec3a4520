"""``seed_example``: the example's accounts, with different rights, and a project to begin with."""

from typing import Any

from django.contrib.auth.models import Permission, User
from django.core.management.base import BaseCommand
from django.db.models import Q

import koherent
from example_schema.accounts import ACCOUNTS, SUPERUSER, password_of
from example_schema.models import Project, Tag

TAGS = ("coral", "bleached", "night")


class Command(BaseCommand):
    help = "Creates the example's accounts, a project and tags. Running it again changes nothing."

    def handle(self, *args: Any, **options: Any) -> None:
        with koherent.audit(app="seed_example"):
            for username, actions in ACCOUNTS.items():
                user = self._account(username, is_staff=True)
                user.user_permissions.set(_permissions(actions))
            self._account(SUPERUSER, is_staff=True, is_superuser=True)
            Project.objects.get_or_create(name="Reef survey", defaults={"description": "Three sites, one summer."})
            for name in TAGS:
                Tag.objects.get_or_create(name=name)
        self.stdout.write("accounts: " + ", ".join(f"{name} / {password_of(name)}" for name in (*ACCOUNTS, SUPERUSER)))

    def _account(self, username: str, **flags: bool) -> User:
        user, created = User.objects.get_or_create(username=username, defaults=flags)
        if created:
            user.set_password(password_of(username))
            user.save()
        return user


def _permissions(actions: tuple[str, ...]) -> list[Permission]:
    """The rights on the notebook for these actions, and to read every history."""
    wanted = Q(codename__startswith="view_historical")
    for action in actions:
        wanted |= Q(codename__startswith=f"{action}_") & ~Q(codename__startswith=f"{action}_historical")
    return list(Permission.objects.filter(wanted, content_type__app_label="example_schema"))
