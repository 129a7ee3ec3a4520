"""Celery: what travels in the message, and what the worker makes of it; a real worker runs in tests/postgres."""

import json
import uuid
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from celery.app.trace import build_tracer
from celery.signals import before_task_publish, task_postrun, task_prerun
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject

import koherent
import koherent.celery
from example_schema.models import Tag
from koherent.context import current_audit, request_audit
from koherent.middleware import AuditMiddleware
from koherent.request import RequestInfo
from tests import celery_project
from tests.celery_project import app

COLUMNS = ("name", "actor_name", "actor_id", "app", "assignation_id", "history_change_reason", "metadata")


def rows() -> list[tuple[Any, ...]]:
    history: Any = Tag.history
    return list(history.order_by("history_id").values_list(*COLUMNS))


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """Every message that went to the broker, which is a list in this process's memory, as JSON brings it over."""
    messages: list[dict[str, Any]] = []

    def catch(sender: str, headers: dict[str, Any], body: Any, **_: Any) -> None:
        messages.append(json.loads(json.dumps({"task": sender, "headers": headers, "args": body[0], "embed": body[2]})))

    before_task_publish.connect(catch)
    yield messages
    before_task_publish.disconnect(catch)


def work(message: dict[str, Any]) -> None:
    """Run one message as a worker does, outside of every context."""
    headers = message["headers"]
    task = app.tasks[message["task"]]
    assert current_audit().app is None
    trace = build_tracer(task.name, task, app=app, propagate=False)
    trace(headers["id"], message["args"], {}, {**headers, **message["embed"], "is_eager": False, "delivery_info": {}})
    assert current_audit().app is None


@pytest.mark.django_db
def test_a_task_acts_for_whoever_sent_it(admin: User, sent: list[dict[str, Any]]) -> None:
    with koherent.audit(user=admin, app="lab", assignation_id="task-1", reason="why", batch=7):
        celery_project.create_tag.delay("a")
    celery_project.create_tag.delay("b")
    for message in sent:
        work(message)
    assert rows() == [
        ("a", "root", str(admin.pk), "lab", "task-1", "why", {"batch": 7}),
        ("b", None, None, None, None, None, {}),
    ]


@pytest.mark.django_db
def test_tasks_and_retries_that_a_task_sends_carry_it_on(admin: User, sent: list[dict[str, Any]]) -> None:
    with koherent.audit(user=admin, assignation_id="task-1"):
        celery_project.create_later.delay("a")
        celery_project.create_at_second_try.delay("b")
    done = 0
    while done < len(sent):
        work(sent[done])
        done += 1
        assert done < 10
    assert sorted(row[:5] for row in rows()) == [
        (name, "root", str(admin.pk), None, "task-1") for name in ("a, before", "a, here", "b, try 0", "b, try 1")
    ]


@pytest.mark.django_db
def test_callbacks_and_chains_carry_it_on(admin: User, sent: list[dict[str, Any]]) -> None:
    with koherent.audit(user=admin, app="lab"):
        (celery_project.create_tag.si("1") | celery_project.create_tag.si("2")).apply_async()
    work(sent[0])
    work(sent[1])
    assert [row[:4] for row in rows()] == [(name, "root", str(admin.pk), "lab") for name in ("1", "2")]


@pytest.mark.django_db
def test_a_task_may_say_more_of_itself(admin: User, sent: list[dict[str, Any]]) -> None:
    with koherent.audit(user=admin, app="lab"):
        celery_project.rename_app.delay("a")
    work(sent[0])
    assert [row[:4:3] for row in rows()] == [("a, renamed", "task"), ("a, after", "lab")]


@pytest.mark.django_db
def test_a_failed_task_leaves_no_context_behind(admin: User, sent: list[dict[str, Any]]) -> None:
    with koherent.audit(user=admin, app="lab"):
        celery_project.fail.delay("a")
    celery_project.create_tag.delay("b")
    for message in sent:
        work(message)
    assert [row[:4:3] for row in rows()] == [("a", "lab"), ("b", None)]


@pytest.mark.django_db
@pytest.mark.parametrize("gone", [True, False])
def test_the_actor_survives_until_the_task_runs(admin: User, sent: list[dict[str, Any]], gone: bool) -> None:
    ada = User.objects.create_user("ada")
    key = str(ada.pk)
    with koherent.audit(user=ada):
        celery_project.create_tag.delay("a")
    if gone:
        ada.delete()
    else:
        User.objects.filter(pk=ada.pk).update(username="countess")
    work(sent[0])
    history: Any = Tag.history
    row = history.get()
    found = (row.actor_name, row.actor_id, row.history_user_id)
    assert found == (("ada", key, None) if gone else ("countess", key, ada.pk))


@pytest.mark.django_db
def test_a_request_inside_the_task_does_not_speak_for_its_sender(admin: User) -> None:
    with koherent.audit(user=admin, app="lab"):
        context = koherent.celery.received(koherent.celery.message(current_audit()))
    owner = object()
    koherent.context.enter(owner, context)
    with request_audit(RequestInfo(user=None, headers={"x-app": "request", "x-assignation-id": "task-2"})):
        Tag.objects.create(name="a")
    koherent.context.leave(owner)
    assert rows() == [("a", "root", str(admin.pk), "lab", "task-2", None, {})]


@pytest.mark.django_db
def test_an_eager_task_runs_in_its_senders_context(admin: User) -> None:
    with koherent.audit(user=admin, app="lab", assignation_id="task-1"):
        celery_project.create_later.apply(("a",), headers={"koherent": {"app": "older"}})
    app.conf.task_always_eager = True
    try:
        with koherent.audit(user=admin, app="lab"):
            celery_project.create_at_second_try.delay("b")
    finally:
        app.conf.task_always_eager = False
    assert sorted(row[:4] for row in rows() if row[0] != "a, before") == [
        (name, "root", str(admin.pk), "lab") for name in ("a, here", "b, try 0", "b, try 1")
    ]


@pytest.mark.django_db(transaction=True)
async def test_a_lazy_user_is_found_when_a_view_sends_from_the_event_loop(
    admin: User, sent: list[dict[str, Any]]
) -> None:
    lazy = SimpleLazyObject(lambda: User.objects.get(pk=admin.pk))
    with request_audit(RequestInfo(user=lazy, headers={"x-app": "lab"})):
        celery_project.create_tag.delay("a")
    assert sent[0]["headers"]["koherent"] == {"app": "lab", "user": {"key": str(admin.pk), "name": "root"}}


def test_keys_of_any_kind_travel_as_text() -> None:
    key = uuid.uuid4()
    user = SimpleNamespace(is_authenticated=True, pk=key, get_username=lambda: "ada")
    with koherent.audit(user=user):
        assert koherent.celery.message(current_audit()) == {"user": {"key": str(key), "name": "ada"}}


@pytest.mark.django_db
def test_the_remote_user_stands_for_the_account(admin: User) -> None:
    user = koherent.context.RemoteUser(key=str(admin.pk), name="old")
    assert (user.account, user.pk, user.is_superuser, user.get_username()) == (admin, admin.pk, True, "root")


def test_connecting_twice_changes_nothing() -> None:
    signals = (before_task_publish, task_prerun, task_postrun)
    before = [len(signal.receivers) for signal in signals]
    koherent.celery.connect()
    assert [len(signal.receivers) for signal in signals] == before


@pytest.mark.django_db(transaction=True)
def test_what_is_sent_on_commit_is_sent_by_the_request_that_commits(admin: User, sent: list[dict[str, Any]]) -> None:
    def view(request: Any) -> HttpResponse:
        with transaction.atomic():
            with request_audit(RequestInfo(user=admin, headers={"x-app": "operation"})):
                transaction.on_commit(lambda: celery_project.create_tag.delay("a"))
            assert sent == []
        return HttpResponse()

    request: Any = RequestFactory().post("/", headers={"X-App": "request"})
    request.user = admin
    AuditMiddleware(view)(request)
    work(sent[0])
    assert [row[:4] for row in rows()] == [("a", "root", str(admin.pk), "request")]
