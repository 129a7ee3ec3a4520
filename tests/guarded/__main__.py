"""Who sees what under ``GuardianPolicy``, as JSON. Usage: ``python -m tests.guarded``."""

import json
import os
import sys

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.guarded.settings"

import django

django.setup()

# What follows needs Django's apps.
from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from guardian.shortcuts import assign_perm, remove_perm  # noqa: E402

from example_schema.models import Project, Tag  # noqa: E402
from koherent import timeline  # noqa: E402
from koherent.policy import Viewer, scope_for  # noqa: E402


def seen(user: User) -> list[str]:
    """The labels of all entries that an account sees, oldest first."""
    page = timeline.page(scope_for(Viewer(user=User.objects.get(pk=user.pk))))
    return [entry.object_label for entry in reversed(page.entries)]


call_command("check", stdout=sys.stderr)
call_command("migrate", run_syncdb=True, verbosity=0)
ada, root = User.objects.create_user("ada"), User.objects.create_superuser("root")
mine, other = Project.objects.create(name="mine"), Project.objects.create(name="other")
tag = Tag.objects.create(name="tag")
assign_perm("view_project", ada, mine)
found = {"own": seen(ada)}
assign_perm("view_project", ada, other)
assign_perm("view_tag", ada, tag)
found["all"] = seen(ada)
remove_perm("view_project", ada, mine)
found["without mine"] = seen(ada)
other.delete()
found["gone"] = seen(ada)
found["root"] = seen(root)
json.dump(found, sys.stdout)
