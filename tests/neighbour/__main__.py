"""What django-simple-history's own models leave behind, as JSON: in a project ``with`` koherent, or ``without`` it.

Usage: ``python -m tests.neighbour with|without DATABASE``. Both must print the same.
"""

import asyncio
import json
import sys
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from django.urls import path

WITH = sys.argv[1] == "with"
sys.path.insert(0, str(Path(__file__).parent))
urlpatterns: list[Any] = []
settings.configure(
    SECRET_KEY="neighbour",
    ROOT_URLCONF=sys.modules["__main__"],
    ALLOWED_HOSTS=["testserver"],
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "simple_history",
        "theirs",
        *(["strawberry_django", "koherent", "tracked"] if WITH else []),
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "simple_history.middleware.HistoryRequestMiddleware",
        *(["koherent.middleware.AuditMiddleware"] if WITH else []),
    ],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[2]}},
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402  # needs the settings above
from django.db import connection  # noqa: E402
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import AsyncClient, Client  # noqa: E402
from simple_history.signals import post_create_historical_record, pre_create_historical_record  # noqa: E402
from simple_history.utils import bulk_create_with_history, bulk_update_with_history  # noqa: E402
from theirs.models import Label, Plain  # noqa: E402

NAMES = {
    "pre_save": pre_save,
    "post_save": post_save,
    "pre_delete": pre_delete,
    "post_delete": post_delete,
    "m2m_changed": m2m_changed,
    "pre_create": pre_create_historical_record,
    "post_create": post_create_historical_record,
}
sent: Counter[str] = Counter()


def count(name: str, sender: Any, **_: Any) -> None:
    if sender.__module__ == "theirs.models":
        sent[f"{name} {sender.__name__}"] += 1


for signal_name, signal in NAMES.items():
    signal.connect(lambda sender, name=signal_name, **kwargs: count(name, sender), weak=False)


def write(name: str) -> Plain:
    label, other = Label.objects.create(name=name), Label.objects.create(name="other")
    plain = Plain.objects.create(name=name)
    plain.save()
    plain.name += "!"
    plain._change_reason = "because"  # type: ignore[attr-defined]
    plain.save()
    plain.labels.add(label, other)
    plain.labels.set([label])
    Plain.objects.create(name="child", parent=plain)
    Plain.objects.filter(pk=plain.pk).update(name="unseen")
    Plain.objects.bulk_create([Plain(name="unseen too")])
    return plain


def view(request: HttpRequest) -> HttpResponse:
    write("in a view").delete()
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    plain = await Plain.objects.acreate(name="in an async view")
    await plain.adelete()
    return HttpResponse()


urlpatterns += [path("sync", view), path("async", async_view)]


def everything(user: User, other: User) -> None:
    write("alone").delete()
    acted = Plain(name="as somebody")
    acted._history_user = other  # type: ignore[attr-defined]
    acted.save()
    acted.skip_history_when_saving = True  # type: ignore[attr-defined]
    acted.save()
    made = bulk_create_with_history([Plain(name="many 1"), Plain(name="many 2")], Plain, default_user=user)
    for plain in made:
        plain.name += "!"
    bulk_update_with_history(made, Plain, ["name"], default_user=other, default_change_reason="bulk")
    client, async_client = Client(), AsyncClient()
    client.force_login(user)
    assert client.get("/sync").status_code == 200
    async_client.force_login(other)
    assert asyncio.run(async_client.get("/async")).status_code == 200
    Plain.objects.filter(name__startswith="many").delete()


def main() -> None:
    call_command("migrate", run_syncdb=True, verbosity=0)
    user, other = User.objects.create_user("ada"), User.objects.create_user("bob")
    if WITH:
        import koherent

        around: Any = koherent.audit(user=other, app="lab", assignation_id="task-1", reason="why")
    else:
        around = nullcontext()
    with around:
        everything(user, other)
        history: Any = Plain.history
        rows = list(
            history.order_by("history_id").values_list(
                "history_id", "id", "name", "parent", "history_type", "history_user__username", "history_change_reason"
            )
        )
        other.delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE tbl_name LIKE 'theirs_%' ORDER BY name")
        tables = cursor.fetchall()
        cursor.execute("SELECT * FROM theirs_historicalplain_labels ORDER BY 1")
        linked = cursor.fetchall()
    after = list(history.order_by("history_id").values_list("history_user", flat=True))
    kinds = (type(Plain.objects), type(Plain._base_manager), type(Plain._meta), type(history), Plain.save, Plain.delete)
    latest = history.order_by("-history_id").first()
    json.dump(
        {
            "rows": rows,
            "users after one account is gone": after,
            "links": linked,
            "tables": tables,
            "signals": sorted(sent.items()),
            "classes": [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds],
            "bases": [base.__name__ for base in history.model.__mro__],
            "before": None if latest.prev_record is None else latest.prev_record.history_id,
        },
        sys.stdout,
        default=str,
    )


main()
