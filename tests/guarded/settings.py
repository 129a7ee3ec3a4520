"""The example with django-guardian, in memory."""

from example_schema import settings as example
from example_schema.settings import *  # noqa: F403

INSTALLED_APPS = [*example.INSTALLED_APPS, "guardian"]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"]
ANONYMOUS_USER_NAME = None
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
KOHERENT = {"POLICY": "tests.guarded.policy.GuardianPolicy"}
# Tables are made from the models as they are.
MIGRATION_MODULES = dict.fromkeys(
    ("admin", "auth", "contenttypes", "example_schema", "guardian", "koherent", "sessions"), None
)
