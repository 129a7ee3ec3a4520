"""The example with django-guardian, in memory."""

from example_schema import settings as example
from example_schema.settings import *  # noqa: F403

INSTALLED_APPS = [*example.INSTALLED_APPS, "guardian"]
AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", "guardian.backends.ObjectPermissionBackend"]
ANONYMOUS_USER_NAME = None
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
KOHERENT = {"POLICY": "tests.guarded.policy.GuardianPolicy"}
