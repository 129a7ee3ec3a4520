"""Django's settings of one worker; its environment names the package and the database (see ``driver.Worker``)."""

import os

from benchmarks.packages import current

SECRET_KEY = "benchmarks-only"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# A GraphQL project, whoever keeps its trail: strawberry-django changes how each queryset of a process is copied.
_ours = ("strawberry_django", *current().apps)
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", *dict.fromkeys(_ours), "benchmarks.lab"]
# Tables are made from the models: the lab has no migrations, and its history tables refer to other apps' tables.
MIGRATION_MODULES = {app.rpartition(".")[2]: None for app in INSTALLED_APPS}
if os.environ["BENCH_DATABASE"] == "postgresql":
    DATABASES: dict[str, dict[str, object]] = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ["BENCH_NAME"],
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "PASSWORD": os.environ.get("PGPASSWORD", ""),
        }
    }
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.environ["BENCH_NAME"],
            "OPTIONS": {
                "timeout": 20,
                "transaction_mode": "IMMEDIATE",
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
            },
        }
    }
globals().update(current().settings)
