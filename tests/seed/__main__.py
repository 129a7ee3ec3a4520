"""A project that holds the founding document's snippet, driven over both of strawberry-django's views.

Beside it stands a model that django-simple-history tracks alone. Prints the history rows that both left, as JSON. Runs in a process of its own, because its model is in no other project.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

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
        "plain",
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


def write_plain(user: User) -> dict[str, Any]:
    """What django-simple-history alone leaves of the same writes, under koherent's context."""
    import koherent
    from plain.models import Plain

    with koherent.audit(user=user, app="seed", assignation_id="plain-1"):
        plain = Plain.objects.create(name="a")
        plain.save()
        Plain.objects.update(name="b")
        Plain.objects.bulk_create([Plain(name="c")])
        plain.delete()
    history = Plain.history.model
    return {
        "rows": list(Plain.history.order_by("history_id").values_list("history_type", "name", "history_user")),
        "columns": [field.column for field in history._meta.concrete_fields],
        "classes": [f"{kind.__module__}.{kind.__name__}" for kind in (type(Plain.objects), type(Plain._meta))],
    }


def main() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    user = User.objects.create_user("ada")
    drive(user)
    asyncio.run(drive_async(user))

    from app.models import MyModel

    plain = write_plain(user)
    fields = ("history_type", "your_field", "actor_name", "app", "assignation_id")
    seed = list(MyModel.history.order_by("history_id").values_list(*fields))
    json.dump({"seed": seed, "plain": plain}, sys.stdout)


main()
