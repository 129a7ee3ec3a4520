"""Settings of the example; the environment switches the services.

- ``EXAMPLE_DB``: ``sqlite`` (default) or ``postgres``, found by ``PGHOST``, ``PGPORT``, ``PGUSER``, ``PGDATABASE``
- ``EXAMPLE_SQLITE``: the file of the SQLite database
- ``EXAMPLE_REDIS``: an address such as ``redis://127.0.0.1:6379/0``; without it the channel layer is in memory
- ``EXAMPLE_DEBUG``: ``1`` switches Django's debug mode on
"""

import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
SECRET_KEY = os.environ.get("EXAMPLE_SECRET_KEY", "example-only-never-deploy-this-key-anywhere")
DEBUG = os.environ.get("EXAMPLE_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "simple_history",
    "strawberry_django",
    "channels",
    "koherent",
    "example_schema",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "koherent.middleware.AuditMiddleware",
]
ROOT_URLCONF = "example_schema.urls"
ASGI_APPLICATION = "example_schema.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
if os.environ.get("EXAMPLE_DB", "sqlite") == "postgres":
    DATABASES: dict[str, dict[str, object]] = {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": os.environ.get("PGDATABASE", "postgres"),
            "HOST": os.environ.get("PGHOST", "127.0.0.1"),
            "PORT": os.environ.get("PGPORT", "5432"),
            "USER": os.environ.get("PGUSER", "postgres"),
            "PASSWORD": os.environ.get("PGPASSWORD", ""),
            # Statements over all tables look expensive while these are young: compiling takes longer than running.
            "OPTIONS": {"options": "-c jit=off"},
        }
    }
else:
    SQLITE = os.environ.get("EXAMPLE_SQLITE", str(BASE_DIR / "example.sqlite3"))
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": SQLITE,
            # A file, because threads that share an in-memory database do not wait for each other's locks.
            "TEST": {"NAME": f"{SQLITE}.test"},
            "OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE"},
        }
    }
if redis := os.environ.get("EXAMPLE_REDIS"):
    CHANNEL_LAYERS = {
        "default": {
            "BACKEND": "channels_redis.core.RedisChannelLayer",
            # redis-py 8 gives idle sockets a timeout of five seconds, which ends idle consumers.
            "CONFIG": {"hosts": [{"address": redis, "socket_timeout": None}]},
        }
    }
else:
    CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}

STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
KOHERENT: dict[str, object] = {}
