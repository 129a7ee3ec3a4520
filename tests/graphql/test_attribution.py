"""A mutation is attributed to its user, app, assignation and reason, whatever brought it here."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import strawberry
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.contrib.auth.models import User
from django.test import AsyncRequestFactory, RequestFactory
from strawberry.django.views import AsyncGraphQLView, GraphQLView

import koherent.graphql
from example_schema.schema import schema
from koherent.context import current_audit
from koherent.graphql import GraphQLHTTPConsumer, GraphQLWSConsumer, KoherentExtension
from tests.graphql.asking import CREATE, codes, context, in_thread, written

HEADERS = {"X-Assignation-Id": "task-1", "X-App": "lab", "X-Change-Reason": "because"}
DONE = [("+", "root", "lab", "task-1", "because")]
LONG = {"X-Assignation-Id": "x" * 256}
RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


@pytest.mark.django_db
def test_execute_sync(ask: Callable[..., Any]) -> None:
    assert ask(CREATE, headers=HEADERS).errors is None
    assert written() == DONE
    assert current_audit().assignation_id is None


@pytest.mark.django_db
def test_the_operation_wins_over_headers(ask: Callable[..., Any]) -> None:
    assert ask(CREATE, headers=HEADERS, extensions={"assignationId": "task-2", "reason": "other"}).errors is None
    assert written() == [("+", "root", "lab", "task-2", "other")]


@pytest.mark.django_db
def test_a_mapping_is_a_context_too(dict_context: dict[str, Any]) -> None:
    assert schema.execute_sync(CREATE, context_value=dict_context).errors is None
    assert written() == [("+", "root", None, "task-1", None)]


@pytest.mark.django_db(transaction=True)
async def test_execute(admin: User) -> None:
    result = await schema.execute(CREATE, context_value=context(admin, HEADERS))
    assert result.errors is None
    assert await in_thread(written) == DONE


@pytest.mark.django_db
def test_django_view(admin: User) -> None:
    body = json.dumps({"query": CREATE, "extensions": {"reason": "from the operation"}})
    request = RequestFactory().post("/graphql", body, content_type="application/json", headers=HEADERS)
    request.user = admin
    response: Any = GraphQLView.as_view(schema=schema)(request)
    answer = json.loads(response.content)
    assert "errors" not in answer
    assert written() == [("+", "root", "lab", "task-1", "from the operation")]


@pytest.mark.django_db
@pytest.mark.parametrize("extensions", [["a list"], "a text", 7, {}, None])
def test_extensions_that_are_no_object_say_nothing(admin: User, extensions: Any) -> None:
    result = schema.execute_sync(CREATE, context_value=context(admin, HEADERS), operation_extensions=extensions)
    assert result.errors is None
    assert written() == DONE


@pytest.mark.django_db(transaction=True)
async def test_async_django_view(admin: User) -> None:
    request = AsyncRequestFactory().post(
        "/graphql", json.dumps({"query": CREATE}), content_type="application/json", headers=HEADERS
    )
    request.user = admin
    view: Any = AsyncGraphQLView.as_view(schema=schema)
    response = await view(request)
    assert "errors" not in json.loads(response.content)
    assert await in_thread(written) == DONE


async def over_http(user: Any, headers: list[tuple[bytes, bytes]], query: str) -> Any:
    application = with_user(GraphQLHTTPConsumer.as_asgi(schema=schema), user)
    headers = [(b"content-type", b"application/json"), *headers]
    communicator = HttpCommunicator(application, "POST", "/graphql", json.dumps({"query": query}).encode(), headers)
    return json.loads((await communicator.get_response(timeout=10))["body"])


@pytest.mark.django_db(transaction=True)
async def test_channels_http(admin: User) -> None:
    assert "errors" not in await over_http(admin, RAW_HEADERS, CREATE)
    assert await in_thread(written) == DONE


def with_user(application: Any, user: Any) -> Any:
    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        await application({**scope, "user": user}, receive, send)

    return wrapped


async def socket(user: Any, headers: list[tuple[bytes, bytes]], params: Any = None, legacy: bool = False) -> Any:
    protocol = "graphql-ws" if legacy else "graphql-transport-ws"
    application = with_user(GraphQLWSConsumer.as_asgi(schema=schema), user)
    communicator = WebsocketCommunicator(application, "/graphql", headers=headers, subprotocols=[protocol])
    connected, _ = await communicator.connect()
    assert connected
    await communicator.send_json_to({"type": "connection_init", "payload": params or {}})
    assert (await communicator.receive_json_from())["type"] == "connection_ack"
    return communicator


async def over_socket(communicator: Any, query: str, id: str = "1", **payload: Any) -> Any:
    await communicator.send_json_to({"id": id, "type": "subscribe", "payload": {"query": query, **payload}})
    return await communicator.receive_json_from(timeout=10)


@pytest.mark.django_db(transaction=True)
async def test_channels_socket_with_an_assignation_for_each_operation(admin: User) -> None:
    communicator = await socket(admin, RAW_HEADERS, {"reason": "ignored: the headers say more"})
    first = await over_socket(communicator, CREATE)
    assert "errors" not in first["payload"]
    assert (await communicator.receive_json_from())["type"] == "complete"
    second = CREATE.replace("Cells", "More cells")
    await over_socket(communicator, second, "2", extensions={"assignationId": "task-2"})
    await communicator.disconnect()
    assert await in_thread(written) == [*DONE, ("+", "root", "lab", "task-2", "because")]


@pytest.mark.django_db(transaction=True)
async def test_connection_parameters_count_where_nothing_else_speaks(admin: User) -> None:
    communicator = await socket(admin, [], {"assignationId": "task-3", "X-App": "tablet"})
    await over_socket(communicator, CREATE)
    await communicator.disconnect()
    assert await in_thread(written) == [("+", "root", "tablet", "task-3", None)]


@pytest.mark.django_db(transaction=True)
async def test_a_bad_assignation_id_is_a_coded_error_on_every_transport(admin: User, ask: Callable[..., Any]) -> None:
    wrong = "BAD_ASSIGNATION_ID"
    raw = [(b"x-assignation-id", b"x" * 256)]
    assert codes(await in_thread(ask, CREATE, headers=LONG)) == [wrong]
    assert codes(await schema.execute(CREATE, context_value=context(admin, LONG))) == [wrong]
    assert (await over_http(admin, raw, CREATE))["errors"][0]["extensions"]["code"] == wrong
    communicator = await socket(admin, raw)
    for query in (CREATE, "subscription { historyEntries { cursor } }"):
        answer = await over_socket(communicator, query, id=query)
        assert answer["type"] == "error"
        assert answer["payload"][0]["extensions"]["code"] == wrong
    await communicator.disconnect()
    legacy = await socket(admin, [], legacy=True)
    start = {"query": "subscription { historyEntries { cursor } }", "extensions": {"assignationId": ""}}
    await legacy.send_json_to({"id": "1", "type": "start", "payload": start})
    answer = await legacy.receive_json_from(timeout=10)
    assert (answer["type"], answer["payload"]["extensions"]["code"]) == ("error", wrong)
    await legacy.disconnect()
    assert await in_thread(written) == []


@pytest.mark.django_db
def test_a_refusal_is_over_with_its_operation(admin: User) -> None:
    """Also where a project hands out one instance of the extension again and again."""
    shared = KoherentExtension()
    reusing = strawberry.Schema(query=koherent.graphql.Query, extensions=[lambda: shared])
    query = "{ history { totalCount } }"
    assert codes(reusing.execute_sync(query, context_value=context(admin, LONG))) == ["BAD_ASSIGNATION_ID"]
    assert reusing.execute_sync(query, context_value=context(admin)).errors is None


@pytest.mark.django_db
def test_a_bad_header_is_a_coded_error(ask: Callable[..., Any]) -> None:
    assert codes(ask(CREATE, headers={"X-App": "tab\tin it"})) == ["BAD_HEADER"]
    assert written() == []


@pytest.mark.django_db
def test_mutations_can_have_an_assignation_of_their_own(settings: Any, ask: Callable[..., Any]) -> None:
    settings.KOHERENT = {"GENERATE_ASSIGNATION_ID": True}
    assert ask(CREATE).errors is None
    [(_, actor, _, assignation_id, _)] = written()
    assert actor == "root"
    assert len(assignation_id) == 36
    assert ask(CREATE.replace("Cells", "More"), headers=HEADERS).errors is None
    assert written()[1][3] == "task-1"


@pytest.mark.django_db
def test_who_may_not_is_told_so_with_a_code(ask: Callable[..., Any], django_user_model: type[User]) -> None:
    assert codes(ask(CREATE, user=None)) == ["UNAUTHENTICATED"]
    assert codes(ask(CREATE, user=django_user_model.objects.create_user("eve"))) == ["FORBIDDEN"]
    assert codes(ask(CREATE, user=django_user_model.objects.create_user("gone", is_active=False))) == [
        "UNAUTHENTICATED"
    ]
    assert written() == []
