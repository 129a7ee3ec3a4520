"""Who an entry names: which source wins, what trackers add, and that the answer outlives the account."""

import asyncio
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import AnonymousUser, User
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpResponse
from django.test import AsyncRequestFactory, RequestFactory, override_settings
from simple_history.models import HistoricalRecords

import koherent
from example_schema.models import Dataset, Project, Tag
from koherent.context import request_audit
from koherent.graphql.requests import request_info
from koherent.middleware import AuditMiddleware
from koherent.request import RequestInfo

DOCUMENT = Path(__file__).parent.parent / "docs" / "attribution.md"


def history(model: Any = Tag) -> Any:
    return model.history.order_by("history_id")


def powerset(sources: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for size in range(len(sources) + 1):
        yield from itertools.combinations(sources, size)


# The documented order of the sources of each text, the first one that speaks wins.
ORDER = {
    "assignation_id": ("explicit", "operation", "header", "connection", "authenticated"),
    "app": ("explicit", "operation", "header", "connection", "authenticated"),
    "history_change_reason": ("explicit", "operation", "header", "connection", "instance"),
}
KEYS = {"assignation_id": "assignationId", "app": "app", "history_change_reason": "reason"}
HEADERS = {"assignation_id": "x-assignation-id", "app": "x-app", "history_change_reason": "x-change-reason"}
AUTHENTICATED: dict[str, dict[str, Any]] = {
    "assignation_id": {"provenance": SimpleNamespace(tsk="authenticated")},
    "app": {"client": SimpleNamespace(client_id="authenticated")},
    "history_change_reason": {},
}


@pytest.mark.django_db
@pytest.mark.parametrize("column", list(ORDER))
def test_the_first_source_that_speaks_wins(column: str) -> None:
    for speaking in powerset(ORDER[column]):
        key = KEYS[column]
        info = RequestInfo(
            extensions={key: "operation"} if "operation" in speaking else {},
            headers={HEADERS[column]: "header"} if "header" in speaking else {},
            connection_params={key: "connection"} if "connection" in speaking else {},
            **(AUTHENTICATED[column] if "authenticated" in speaking else {}),
        )
        tag = Tag(name="-".join(speaking))
        if "instance" in speaking:
            tag._change_reason = "instance"  # type: ignore[attr-defined]
        with ExitStack() as stack:
            if "explicit" in speaking:
                name = "reason" if key == "reason" else column
                explicit: dict[str, Any] = {name: "explicit"}
                stack.enter_context(koherent.audit(**explicit))
            stack.enter_context(request_audit(info))
            tag.save()
        assert getattr(history().last(), column) == (speaking[0] if speaking else None), speaking


@pytest.mark.django_db
def test_the_first_user_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explicit, then the tracker or the request's, then what django-simple-history would have found."""
    order = ("explicit", "tracker", "request", "instance", "middleware")
    users = {name: User.objects.create_user(name) for name in order}
    monkeypatch.setattr(sys.modules[__name__], "_tracked_user", users["tracker"], raising=False)
    for speaking in powerset(order):
        tag = Tag(name="-".join(speaking))
        if "instance" in speaking:
            tag._history_user = users["instance"]  # type: ignore[attr-defined]
        track = {"user": f"{__name__}.tracked_user"} if "tracker" in speaking else {}
        with ExitStack() as stack:
            stack.enter_context(override_settings(KOHERENT={"TRACK": track}))
            if "middleware" in speaking:
                HistoricalRecords.context.request = SimpleNamespace(user=users["middleware"])
                stack.callback(delattr, HistoricalRecords.context, "request")
            if "explicit" in speaking:
                stack.enter_context(koherent.audit(user=users["explicit"]))
            user = users["request"] if "request" in speaking else None
            stack.enter_context(request_audit(RequestInfo(user=user)))
            tag.save()
        row = history().last()
        winner = users[speaking[0]] if speaking else None
        found = (row.actor_name, row.actor_id, row.history_user)
        assert found == ((winner.username, str(winner.pk), winner) if winner else (None, None, None)), speaking


def tracked_user(info: RequestInfo) -> Any:
    return sys.modules[__name__]._tracked_user


@pytest.mark.django_db
def test_an_explicit_nobody_is_nobody(admin: User) -> None:
    HistoricalRecords.context.request = SimpleNamespace(user=admin)
    try:
        with koherent.audit(user=None, app=None), request_audit(RequestInfo(user=admin, headers={"x-app": "lab"})):
            Tag(name="a").save()
    finally:
        del HistoricalRecords.context.request
    row = history().get()
    assert (row.actor_name, row.history_user, row.app) == (None, None, None)


@pytest.mark.django_db
def test_what_is_taken_out_of_tracking_is_recorded_nowhere(admin: User) -> None:
    HistoricalRecords.context.request = SimpleNamespace(user=admin)
    info = RequestInfo(user=admin, headers={"x-app": "lab", "x-assignation-id": "task-1"})
    try:
        out = dict.fromkeys(["user", "app", "assignation_id"])
        with override_settings(KOHERENT={"TRACK": out}), request_audit(info, generate=True):
            Tag(name="a").save()
    finally:
        del HistoricalRecords.context.request
    row = history().get()
    assert (row.actor_name, row.history_user, row.app, row.assignation_id) == (None, None, None, None)


def broken(info: RequestInfo) -> Any:
    raise LookupError("no such thing")


def unstorable(info: RequestInfo) -> Any:
    return {"a", "set"}


def too_long(info: RequestInfo) -> Any:
    return "x" * 256


def nothing(info: RequestInfo) -> Any:
    return None


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("name", "tracker"),
    [
        ("user", "broken"),
        ("app", "broken"),
        ("app", "too_long"),
        ("assignation_id", "broken"),
        ("assignation_id", "too_long"),
        ("note", "broken"),
        ("note", "unstorable"),
    ],
)
def test_a_tracker_that_fails_is_reported_and_loses_no_change(
    admin: User, caplog: pytest.LogCaptureFixture, name: str, tracker: str
) -> None:
    expected: dict[str, Any] = {"actor_name": "root", "app": "lab", "assignation_id": "task-1", "metadata": {}}
    expected |= {"actor_name" if name == "user" else name: None} if name != "note" else {}
    info = RequestInfo(user=admin, headers={"x-app": "lab", "x-assignation-id": "task-1"})
    path = f"{__name__}.{tracker}"
    with override_settings(KOHERENT={"TRACK": {name: path}}), request_audit(info):
        Tag(name="a").save()
        Tag(name="b").save()
    assert list(history().values(*expected)) == [expected, expected]
    message = f"tracker {name} ({path}) failed; the change is recorded without it"
    # Once for a request, not once for a change.
    assert [record.getMessage() for record in caplog.records if record.name == "koherent"] == [message]


@pytest.mark.django_db
def test_a_tracker_that_says_nothing_leaves_nothing() -> None:
    with override_settings(KOHERENT={"TRACK": {"note": f"{__name__}.nothing"}}), request_audit(RequestInfo()):
        Tag(name="a").save()
    assert history().get().metadata == {}


def first_user(info: RequestInfo) -> Any:
    return User.objects.first()


@pytest.mark.django_db(transaction=True)
async def test_a_user_tracker_may_query_also_in_an_async_server(admin: User) -> None:
    async def view(request: Any) -> HttpResponse:
        await Tag.objects.acreate(name="a")
        return HttpResponse()

    with override_settings(KOHERENT={"TRACK": {"user": f"{__name__}.first_user"}}):
        await AuditMiddleware(view)(AsyncRequestFactory().post("/"))
    assert (await history().aget()).actor_name == "root"


def view_that_authenticates(request: Any, ada: User, bob: User) -> HttpResponse:
    """As Django REST framework does, whose token authentication sets the user inside the view."""
    Tag.objects.create(name="before")
    request.user = ada
    Tag.objects.create(name="authenticated")
    request.user = bob
    Tag.objects.create(name="as another")
    return HttpResponse()


@pytest.mark.django_db
def test_a_user_who_is_authenticated_inside_the_view_is_the_actor_from_then_on() -> None:
    ada, bob = User.objects.create_user("ada"), User.objects.create_user("bob")
    request = RequestFactory().post("/")
    request.user = AnonymousUser()
    AuditMiddleware(lambda request: view_that_authenticates(request, ada, bob))(request)
    assert list(history().values_list("name", "actor_name")) == [
        ("before", None),
        ("authenticated", "ada"),
        ("as another", "bob"),
    ]


@pytest.fixture
def lab() -> Iterator[dict[str, str]]:
    """The trackers of the documentation, as a module of the project; the ``TRACK`` setting for them."""
    code = re.search(r"```python\n(def address.+?)```", DOCUMENT.read_text(), re.DOTALL)
    shown = re.search(r"```python\n(KOHERENT = .+?)```", DOCUMENT.read_text(), re.DOTALL)
    assert code is not None
    assert shown is not None
    package, module, settings = ModuleType("lab"), ModuleType("lab.trackers"), dict[str, Any]()
    exec(code[1], module.__dict__)
    exec(shown[1], settings)
    sys.modules.update({"lab": package, "lab.trackers": module})
    yield settings["KOHERENT"]
    del sys.modules["lab"], sys.modules["lab.trackers"]


TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SENT = {"user-agent": "curl/8", "x-tenant": "north", "traceparent": TRACEPARENT}
TRACKED = {
    "address": "192.0.2.1",
    "user_agent": "curl/8",
    "tenant": "north",
    "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
    "impersonator": "7",
}


@pytest.mark.django_db
def test_address_agent_tenant_trace_and_impersonator_can_be_tracked(admin: User, lab: dict[str, Any]) -> None:
    def view(request: Any) -> HttpResponse:
        Tag.objects.create(name="a")
        return HttpResponse()

    request: Any = RequestFactory().post("/", headers=SENT, REMOTE_ADDR="192.0.2.1")
    request.user = admin
    request.session = SessionStore()
    request.session["hijack_history"] = ["3", "7"]
    with override_settings(KOHERENT=lab):
        AuditMiddleware(view)(request)
    row = history().get()
    assert (row.actor_name, row.metadata) == ("root", TRACKED)


@pytest.mark.django_db
def test_they_can_be_tracked_on_a_socket_too(admin: User, lab: dict[str, Any]) -> None:
    """A consumer's context has no request of Django's, but its scope, session included."""
    scope = {
        "user": admin,
        "client": ["192.0.2.1", 4711],
        "session": {"hijack_history": ["7"]},
        "headers": [(name.encode(), value.encode()) for name, value in SENT.items()],
    }
    consumer = SimpleNamespace(scope=scope)
    with override_settings(KOHERENT=lab), request_audit(request_info({"request": consumer})):
        Tag.objects.create(name="a")
    row = history().get()
    assert (row.actor_name, row.metadata) == ("root", TRACKED)


@pytest.mark.django_db
def test_an_impersonator_that_a_middleware_found_can_be_tracked(admin: User, lab: dict[str, Any]) -> None:
    request = SimpleNamespace(user=User.objects.create_user("ada"), impersonator=admin, headers={})
    with override_settings(KOHERENT=lab), request_audit(request_info({"request": request})):
        Tag.objects.create(name="a")
    row = history().get()
    assert (row.actor_name, row.metadata) == ("ada", {"impersonator": str(admin.pk)})


def changes(project: Project) -> None:
    """One change on each kind of path."""
    dataset = Dataset.objects.create(project=project, title="a")
    dataset.title = "b"
    dataset.save()
    Dataset.objects.filter(pk=dataset.pk).update(title="c")
    dataset.title = "d"
    Dataset.objects.bulk_update([dataset], ["title"])
    [tag] = Tag.objects.bulk_create([Tag(name="t")])
    dataset.tags.add(tag)
    tag.datasets.clear()
    Tag.objects.filter(pk=tag.pk).delete()
    dataset.delete()


def actors(model: Any) -> list[tuple[str, str | None, str | None]]:
    return list(history(model).values_list("history_type", "actor_name", "actor_id"))


@pytest.mark.django_db
def test_the_actor_survives_renaming_and_deleting_the_account_on_every_path() -> None:
    project = Project.objects.create(name="p")
    ada = User.objects.create_user("ada")
    key = str(ada.pk)
    with koherent.audit(user=ada):
        changes(project)
    ada.username = "countess"
    ada.save()
    with koherent.audit(user=ada):
        changes(project)
    before = {model: actors(model) for model in (Dataset, Tag)}
    assert before[Dataset] == [
        (kind, name, key) for name in ("ada", "countess") for kind in ("+", "~", "~", "~", "~", "~", "-")
    ]
    assert before[Tag] == [(kind, name, key) for name in ("ada", "countess") for kind in ("+", "-")]
    ada.delete()
    assert {model: actors(model) for model in (Dataset, Tag)} == before
    assert set(history(Dataset).values_list("history_user", flat=True)) == {None}


@pytest.mark.django_db
def test_a_deleted_account_is_still_shown_by_name() -> None:
    from example_schema.schema import schema

    root, ada = User.objects.create_superuser("root"), User.objects.create_user("ada")
    with koherent.audit(user=ada):
        Tag.objects.create(name="a")
    key = str(ada.pk)
    query = "{ history { edges { node { user { id username deleted } } } } }"
    for deleted in (False, True):
        if deleted:
            ada.delete()
        result = schema.execute_sync(query, context_value={"request": SimpleNamespace(user=root, headers={})})
        assert result.errors is None
        expected = {"id": key, "username": "ada", "deleted": deleted}
        assert result.data == {"history": {"edges": [{"node": {"user": expected}}]}}


# What was seen to fail elsewhere.


@pytest.mark.django_db(transaction=True)
async def test_a_second_async_context_on_one_loop_keeps_its_own_user() -> None:
    """django-pghistory attributed it to the first one's user."""
    ada, bob = [await User.objects.acreate_user(name) for name in ("ada", "bob")]
    first_is_in, second_is_in, first_is_out = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with koherent.audit(user=ada):
            await Tag.objects.acreate(name="ada 1")
            first_is_in.set()
            await second_is_in.wait()
            await Tag.objects.acreate(name="ada 2")
        first_is_out.set()

    async def second() -> None:
        await first_is_in.wait()
        async with koherent.audit(user=bob):
            await Tag.objects.acreate(name="bob 1")
            second_is_in.set()
            await first_is_out.wait()
            await Tag.objects.acreate(name="bob 2")

    async with asyncio.timeout(20):
        await asyncio.gather(first(), second())
    rows = await sync_to_async(lambda: list(history().values_list("name", "actor_name")))()
    assert sorted(rows) == [("ada 1", "ada"), ("ada 2", "ada"), ("bob 1", "bob"), ("bob 2", "bob")]


def explicitly(user: User) -> Any:
    return koherent.audit(user=user)


def by_request(user: User) -> Any:
    return request_audit(RequestInfo(user=user))


@pytest.mark.django_db
@pytest.mark.parametrize("inner", [explicitly, by_request])
def test_the_outer_actor_is_back_after_a_nested_one(inner: Callable[[User], Any]) -> None:
    """django-auditlog lost the outer actor."""
    ada, bob = User.objects.create_user("ada"), User.objects.create_user("bob")
    with request_audit(RequestInfo(user=ada)):
        Tag.objects.create(name="1")
        with inner(bob):
            Tag.objects.create(name="2")
        Tag.objects.create(name="3")
        with pytest.raises(ZeroDivisionError), inner(bob):
            raise ZeroDivisionError
        Tag.objects.create(name="4")
    Tag.objects.create(name="5")
    names = list(history().values_list("actor_name", flat=True))
    assert names == ["ada", "bob", "ada", "ada", None]


@pytest.mark.django_db
def test_bulk_rows_have_their_actor(admin: User) -> None:
    """koherent 4.1.1 on PyPI left them without."""
    with koherent.audit(user=admin, app="lab", assignation_id="task-1", reason="why", batch=1):
        tags = Tag.objects.bulk_create([Tag(name="a"), Tag(name="b")])
        for tag in tags:
            tag.name += "!"
        Tag.objects.bulk_update(tags, ["name"])
        Tag.objects.filter(name="a!").update(name="c")
        Tag.objects.all().delete()
    columns = ("actor_id", "actor_name", "history_user", "app", "assignation_id", "history_change_reason")
    rows = list(history().values_list("history_type", *columns))
    assert rows == [
        (kind, str(admin.pk), "root", admin.pk, "lab", "task-1", "why") for kind in ("+", "+", "~", "~", "~", "-", "-")
    ]
    assert all(row.metadata == {"batch": 1} for row in history())


@pytest.mark.django_db
def test_an_erased_history_user_does_not_take_the_actor_along(admin: User) -> None:
    """Deleting a user sets django-simple-history's column to NULL in every history table."""
    ada = User.objects.create_user("ada")
    with koherent.audit(user=ada):
        Tag.objects.create(name="a")
    key = str(ada.pk)
    User.objects.filter(pk=ada.pk).delete()
    row = history().get()
    assert (row.history_user_id, row.actor_id, row.actor_name) == (None, key, "ada")
