"""Each worker of pytest-xdist has a Redis database of its own, as pytest-django gives it a database.

A plugin, because the settings are read before any ``conftest.py`` is.
"""

import os

number = os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")
if redis := os.environ.get("EXAMPLE_REDIS"):
    address, _, database = redis.rpartition("/")
    os.environ["EXAMPLE_REDIS"] = f"{address}/{int(database) + int(number)}"
