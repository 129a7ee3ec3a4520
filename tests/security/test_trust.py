"""What a client claims of its assignation counts as far as the settings let it."""

import logging
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import AnonymousUser, User
from django.test import Client, RequestFactory
from django.utils.functional import SimpleLazyObject

import koherent
from example_schema.models import Project, Tag
from example_schema.schema import schema
from koherent import claims, context
from koherent.middleware import AuditMiddleware
from koherent.request import RequestInfo
from koherent.trust import is_uuid
from tests.graphql.asking import CREATE
from tests.graphql.asking import context as context_of

pytestmark = pytest.mark.django_db

AUTHENTICATED = {"ASSIGNATION_AUTHENTICATED": True}
OWN = {"ASSIGNATION_OWN": True}
ONE, OTHER = "6fa459ea-ee8a-4ca4-894e-db77e160355e", "16fd2706-8baf-433b-82eb-8c7fada847da"


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


def info(user: Any, assignation: str = ONE) -> RequestInfo:
    return RequestInfo(user=user, headers={"x-assignation-id": assignation}, find_user=lambda: user)


def change(user: Any, assignation: str = ONE, *, generate: bool = False) -> str | None:
    """The assignation id of a change that a request of ``user`` makes under an id."""
    with context.request_audit(info(user, assignation), generate=generate):
        tag = Tag.objects.create(name=uuid.uuid4().hex)
    found: str | None = tag.history.get().assignation_id
    return found


@pytest.mark.parametrize("nobody", [None, AnonymousUser(), SimpleLazyObject(AnonymousUser)])
def test_by_default_everybody_may_say_what_they_like(ada: User, nobody: Any) -> None:
    assert [change(user, "any text") for user in (nobody, ada)] == ["any text", "any text"]


@pytest.mark.parametrize("nobody", [None, AnonymousUser(), SimpleLazyObject(AnonymousUser)])
def test_only_those_who_are_logged_in(settings: Any, ada: User, nobody: Any, caplog: Any) -> None:
    settings.KOHERENT = AUTHENTICATED
    assert change(ada, "task") == "task"
    assert change(SimpleLazyObject(lambda: ada), "task") == "task"
    assert caplog.messages == []
    with caplog.at_level(logging.WARNING, "koherent"):
        assert change(nobody, "o'task") is None
    assert caplog.messages == ['the assignation id "o\'task" was not taken: its sender is not logged in']


def test_a_login_within_the_request_counts(settings: Any, ada: User) -> None:
    settings.KOHERENT = AUTHENTICATED
    users = [AnonymousUser(), ada]
    request = RequestInfo(headers={"x-assignation-id": "task"}, find_user=lambda: users[0])
    with context.request_audit(request):
        Tag.objects.create(name="before")
        users.pop(0)
        Tag.objects.create(name="after")
    assert list(Tag.history.order_by("pk").values_list("assignation_id", flat=True)) == [None, "task"]


def test_only_uuids_that_are_new_or_ones_own(settings: Any, ada: User) -> None:
    bob = User.objects.create_user("bob")
    with koherent.audit(user=bob, assignation_id=OTHER):
        Project.objects.create(name="Moon")
    settings.KOHERENT = OWN
    assert change(ada, ONE) == ONE
    assert change(ada, ONE) == ONE
    assert change(bob, ONE) is None
    assert change(ada, OTHER) is None
    assert change(bob, OTHER) == OTHER
    anonymous = str(uuid.uuid4())
    assert change(None, anonymous) == anonymous
    assert change(None, anonymous) is None
    assert change(ada, anonymous) is None


@pytest.mark.parametrize("other", ["bob", None])
def test_an_assignation_that_somebody_else_joined_is_not_ones_own(settings: Any, ada: User, other: str | None) -> None:
    settings.KOHERENT = OWN
    assert change(ada, ONE) == ONE
    with koherent.audit(user=other and User.objects.create_user(other), assignation_id=ONE):
        Project.objects.create(name="Moon")
    assert change(ada, ONE) is None


def test_an_assignation_whose_entries_are_gone_is_nobodys(settings: Any, ada: User) -> None:
    settings.KOHERENT = OWN
    assert change(ada, ONE) == ONE
    Tag.history.all().delete()
    assert change(ada, ONE) is None


def test_one_request_under_a_new_id_keeps_it(settings: Any, ada: User) -> None:
    settings.KOHERENT = OWN
    with context.request_audit(info(ada)):
        for name in ("a", "b"):
            Tag.objects.create(name=name)
    with context.request_audit(info(None, OTHER)):
        for name in ("c", "d"):
            Tag.objects.create(name=name)
    found = list(Tag.history.order_by("pk").values_list("assignation_id", flat=True))
    assert found == [ONE, ONE, OTHER, OTHER]


@pytest.mark.parametrize("text", ["task", ONE.upper(), ONE.replace("-", ""), f"{{{ONE}}}", f"urn:uuid:{ONE}"])
def test_another_form_is_refused_on_every_transport(settings: Any, ask: Callable[..., Any], text: str) -> None:
    assert not is_uuid(text)
    settings.KOHERENT = OWN
    result = ask("{ __typename }", headers={"X-Assignation-Id": text})
    assert [error.extensions["code"] for error in result.errors] == ["BAD_ASSIGNATION_ID"]
    request = RequestFactory().get("/", headers={"X-Assignation-Id": text})
    response = AuditMiddleware(lambda _: None)(request)
    assert (response.status_code, b"BAD_ASSIGNATION_ID" in response.content) == (400, True)


@pytest.mark.parametrize("rules", [AUTHENTICATED, OWN])
def test_the_servers_own_words_are_no_claims(settings: Any, rules: Any, ada: User) -> None:
    with koherent.audit(user=ada, assignation_id="task"):
        Tag.objects.create(name="a")
    settings.KOHERENT = rules
    with context.request_audit(info(None)), koherent.audit(assignation_id="task"):
        Tag.objects.create(name="b")
    with koherent.audit(assignation_id="task"), context.request_audit(info(None)):
        Tag.objects.create(name="c")
    settings.KOHERENT = {**rules, "TRACK": {"assignation_id": f"{__name__}.task"}}
    with context.request_audit(info(None)):
        Tag.objects.create(name="d")
    assert set(Tag.history.values_list("assignation_id", flat=True)) == {"task"}


def task(request: RequestInfo) -> str:
    return "task"


@pytest.mark.parametrize("rules", [AUTHENTICATED, OWN])
def test_a_fresh_id_stands_in_where_mutations_get_one(settings: Any, rules: Any, ada: User) -> None:
    settings.KOHERENT = rules
    with koherent.audit(assignation_id=ONE):
        Tag.objects.create(name="of nobody")
    found = change(None, ONE, generate=True)
    assert found != ONE
    assert is_uuid(str(found))


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_through_graphql(settings: Any, ask: Callable[..., Any], admin: User, mode: str) -> None:
    with koherent.audit(assignation_id=ONE):
        Tag.objects.create(name="of nobody")
    settings.KOHERENT = {**OWN, "GENERATE_ASSIGNATION_ID": True}

    def run(assignation: str) -> Any:
        asked = context_of(SimpleLazyObject(lambda: admin), {"X-Assignation-Id": assignation})
        if mode == "sync":
            return schema.execute_sync(CREATE, context_value=asked)
        return async_to_sync(schema.execute)(CREATE, context_value=asked)

    for given in (ONE, OTHER):
        assert run(given).errors is None
        written = Project.history.latest("history_id").assignation_id
        assert (written == given) == (given == OTHER)
        assert is_uuid(written)
        Project.objects.all().delete()


async def test_in_an_event_loop_an_unsettled_claim_says_nothing(settings: Any) -> None:
    settings.KOHERENT = AUTHENTICATED
    with context.request_audit(info(None)) as audit:
        assert audit.assignation_id is None
        assert koherent.current_audit().assignation_id is None


# --- nothing of a header gets anywhere unescaped


@pytest.fixture
def ask(admin: User) -> Callable[..., Any]:
    def run(query: str, headers: Any) -> Any:
        return schema.execute_sync(query, context_value=context_of(admin, headers))

    return run


BAD = [
    "a\nERROR koherent forged",
    "a\r\nSet-Cookie: x",
    "a\x1b[31m",
    "a\x00",
    "a\x85b",
    "a\u202eb",
    "a\u2028b",
    "\ud800",
]


@pytest.mark.parametrize("text", BAD)
@pytest.mark.parametrize("header", ["X-App", "X-Change-Reason", "X-Assignation-Id"])
def test_control_characters_are_refused_and_logged_nowhere(
    ask: Callable[..., Any], header: str, text: str, caplog: Any
) -> None:
    with caplog.at_level(logging.DEBUG):
        result = ask("{ __typename }", headers={header: text})
    code = "BAD_ASSIGNATION_ID" if header == "X-Assignation-Id" else "BAD_HEADER"
    assert [error.extensions["code"] for error in result.errors] == [code]
    assert "forged" not in caplog.text
    assert "Set-Cookie" not in str(result.errors)
    with pytest.raises(koherent.errors.KoherentError):
        context.request_audit(RequestInfo(headers={header.lower(): text}))


def test_what_a_log_says_of_an_id_is_escaped(settings: Any, caplog: Any) -> None:
    settings.KOHERENT = AUTHENTICATED
    with caplog.at_level(logging.WARNING, "koherent"):
        change(None, "%s %(x)s 'quoted'")
    assert caplog.messages == ["the assignation id \"%s %(x)s 'quoted'\" was not taken: its sender is not logged in"]


@pytest.mark.filterwarnings("ignore:Calling select_related")  # django-simple-history's own
def test_the_admin_escapes_what_a_client_said(client: Client, admin: User) -> None:
    script = "<script>alert(1)</script>"
    with koherent.audit(user=admin, app=script, reason=script, assignation_id=script):
        tag = Tag.objects.create(name="x")
    client.force_login(admin)
    page = client.get(f"/admin/example_schema/tag/{tag.pk}/history/")
    assert page.status_code == 200
    assert b"&lt;script&gt;alert(1)&lt;/script&gt;" in page.content
    assert script.encode() not in page.content


def test_the_longest_words_are_still_stored(ask: Callable[..., Any]) -> None:
    assert claims.check_text("app", "é" * 255) == "é" * 255
    with pytest.raises(koherent.errors.BadHeader):
        claims.check_text("app", "é" * 256)
