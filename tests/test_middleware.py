"""REST views, forms and the admin: whatever a request changes is its user's, in sync and async stacks."""

import asyncio
import json
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction, sync_to_async
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

import koherent
from example_schema.models import Project, Tag
from example_schema.urls import urlpatterns as example
from koherent.middleware import AuditMiddleware

HEADERS = {"X-Assignation-Id": "task-1", "X-App": "lab", "X-Change-Reason": "because"}
SAID = ("lab", "task-1", "because")
COLUMNS = ("actor_name", "app", "assignation_id", "history_change_reason")
together: dict[str, asyncio.Barrier] = {}


def view(request: HttpRequest) -> HttpResponse:
    Tag.objects.create(name=request.GET["name"])
    return HttpResponse()


async def async_view(request: HttpRequest) -> HttpResponse:
    await Tag.objects.acreate(name=request.GET["name"])
    return HttpResponse()


async def crowded_view(request: HttpRequest) -> HttpResponse:
    """Every request is inside before any of them writes."""
    await together["barrier"].wait()
    await Tag.objects.acreate(name=request.GET["name"])
    await together["barrier"].wait()
    await Tag.objects.filter(name=request.GET["name"]).aupdate(name=f"{request.GET['name']}!")
    return HttpResponse()


def failing_view(request: HttpRequest) -> HttpResponse:
    raise ZeroDivisionError


urlpatterns = [
    *example,
    path("sync", view),
    path("async", async_view),
    path("crowded", crowded_view),
    path("failing", failing_view),
]
pytestmark = pytest.mark.urls(__name__)


def written(model: Any = Tag) -> list[tuple[Any, ...]]:
    return list(model.history.order_by("history_id").values_list("history_type", *COLUMNS))


@pytest.mark.django_db
@pytest.mark.parametrize("where", ["sync", "async"])
def test_views_in_a_sync_stack(admin: User, where: str) -> None:
    client = Client()
    client.force_login(admin)
    assert client.post(f"/{where}?name=a", headers=HEADERS).status_code == 200
    assert written() == [("+", "root", *SAID)]
    assert koherent.current_audit().app is None


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["sync", "async"])
async def test_views_in_an_async_stack(admin: User, where: str) -> None:
    client = AsyncClient()
    await client.aforce_login(admin)
    assert (await client.post(f"/{where}?name=a", headers=HEADERS)).status_code == 200
    assert await sync_to_async(written)() == [("+", "root", *SAID)]
    assert koherent.current_audit().app is None


@pytest.mark.django_db
def test_the_admin(admin: User) -> None:
    client = Client()
    client.force_login(admin)
    client.post("/admin/example_schema/project/add/", {"name": "Cells", "description": ""}, headers=HEADERS)
    project = Project.objects.get()
    form = {"name": "More cells", "description": "", "_change_reason": ""}
    client.post(f"/admin/example_schema/project/{project.pk}/change/", form, headers=HEADERS)
    client.post(f"/admin/example_schema/project/{project.pk}/delete/", {"post": "yes"}, headers=HEADERS)
    assert written(Project) == [(kind, "root", *SAID) for kind in "+~-"]


@pytest.mark.django_db(transaction=True)
async def test_requests_at_once_keep_apart() -> None:
    together["barrier"] = asyncio.Barrier(4)
    clients = []
    for number in range(4):
        client = AsyncClient()
        await client.aforce_login(await User.objects.acreate_user(f"user {number}"))
        clients.append(client)
    async with asyncio.timeout(20):
        await asyncio.gather(
            *(
                client.post(f"/crowded?name=tag {number}", headers={"X-App": f"app {number}"})
                for number, client in enumerate(clients)
            )
        )
    history: Any = Tag.history
    rows = await sync_to_async(lambda: sorted(history.values_list("name", "actor_name", "app")))()
    assert rows == [
        (f"tag {number}{end}", f"user {number}", f"app {number}") for number in range(4) for end in ("", "!")
    ]


@pytest.mark.django_db
def test_a_header_that_cannot_be_stored_is_refused_before_the_view_runs() -> None:
    response: Any = Client().post("/sync?name=a", headers={"X-Assignation-Id": "x" * 256})
    assert isinstance(response, JsonResponse)
    assert response.status_code == 400
    [error] = json.loads(response.content)["errors"]
    assert error["extensions"] == {"code": "BAD_ASSIGNATION_ID"}
    assert written() == []


@pytest.mark.django_db
def test_a_view_that_fails_leaves_no_context_behind(admin: User) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(admin)
    assert client.post("/failing", headers=HEADERS).status_code == 500
    assert koherent.current_audit() == koherent.AuditContext()


@pytest.mark.django_db
def test_without_a_user_the_rest_still_counts() -> None:
    with override_settings(MIDDLEWARE=["koherent.middleware.AuditMiddleware"]):
        assert Client().post("/sync?name=a", headers=HEADERS).status_code == 200
    assert written() == [("+", None, *SAID)]


def test_the_middleware_is_as_asynchronous_as_what_it_wraps() -> None:
    assert not iscoroutinefunction(AuditMiddleware(view))
    assert iscoroutinefunction(AuditMiddleware(async_view))
