"""A project that holds nothing but the founding document's snippet, driven over both of strawberry-django's views.

Prints the history rows that it left, as JSON. Runs in a process of its own, because its model is in no other project.
"""

import asyncio
import json
import sys
from pathlib import Path

import django
from django.conf import settings
from django.core.management import call_command

# The document asks for no Channels, so none may be needed.
sys.modules["channels"] = None  # type: ignore[assignment]
sys.path.insert(0, str(Path(__file__).parent))
settings.configure(
    SECRET_KEY="seed",
    ROOT_URLCONF="tests.seed.urls",
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "simple_history",
        "strawberry_django",
        "koherent",
        "app",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402  # needs the settings above
from django.test import AsyncClient, Client  # noqa: E402

CREATE = '{ createModel(yourField: "first") { id } }'
UPDATE = '{ updateModel(id: "%s", yourField: "second") { id yourField } }'


def drive(user: User) -> None:
    client = Client()
    client.force_login(user)

    def run(query: str) -> str:
        response = client.post(
            "/graphql/sync",
            {"query": query},
            content_type="application/json",
            headers={"X-Assignation-Id": "sync-1", "X-App": "seed"},
        )
        return str(next(iter(response.json()["data"].values()))["id"])

    run(UPDATE % run(CREATE))


async def drive_async(user: User) -> None:
    client = AsyncClient()
    await client.aforce_login(user)

    async def run(query: str) -> str:
        response = await client.post(
            "/graphql/async",
            {"query": query},
            content_type="application/json",
            headers={"X-Assignation-Id": "async-1", "X-App": "seed"},
        )
        return str(next(iter(response.json()["data"].values()))["id"])

    await run(UPDATE % await run(CREATE))


def main() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    user = User.objects.create_user("ada")
    drive(user)
    asyncio.run(drive_async(user))

    from app.models import MyModel

    fields = ("history_type", "your_field", "actor_name", "app", "assignation_id")
    json.dump(list(MyModel.history.order_by("history_id").values_list(*fields)), sys.stdout)


main()
