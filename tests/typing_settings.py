"""For mypy's Django plugin only: the models of the example and of ``tests.wide`` in one registry."""

from example_schema import settings as example
from example_schema.settings import *  # noqa: F403

INSTALLED_APPS = [*example.INSTALLED_APPS, "tests.wide"]
