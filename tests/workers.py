"""Each worker of pytest-xdist has a Redis database of its own, as pytest-django gives it a database.

A plugin, because the settings are read before any ``conftest.py`` is.
"""

import os
from urllib.parse import urlsplit

number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
if redis := os.environ.get("EXAMPLE_REDIS"):
    address = urlsplit(redis)
    database = int(address.path.strip("/") or 0) + number
    os.environ["EXAMPLE_REDIS"] = address._replace(path=f"/{database}").geturl()
