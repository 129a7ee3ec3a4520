"""The example's settings and environment switches, with the models of ``tests.wide`` instead of the example's.

A second database, ``other``, of the same vendor, holds the one model that ``tests.wide.routers`` sends there.
"""

from example_schema import settings as example
from example_schema.settings import *  # noqa: F403

INSTALLED_APPS = [*(app for app in example.INSTALLED_APPS if app != "example_schema"), "tests.wide"]
ROOT_URLCONF = "tests.wide.urls"
DATABASES = {
    **example.DATABASES,
    "other": {**example.DATABASES["default"], "NAME": f"{example.DATABASES['default']['NAME']}_other"},
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATABASES["other"]["TEST"] = {"NAME": f"{DATABASES['other']['NAME']}.test"}
    for database in DATABASES.values():
        # Thousands of small transactions, and nothing to lose.
        database["OPTIONS"] = {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA synchronous=OFF"}
DATABASE_ROUTERS = ["tests.wide.routers.ElsewhereRouter"]
# The tables are made from the models as they are: these models change with the tests, and nobody has old data. Tables
# without migrations come first, so those that they refer to have none either.
MIGRATION_MODULES = {"wide": None, "auth": None, "contenttypes": None}
