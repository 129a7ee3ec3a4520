"""The live trail over a socket."""

import asyncio
import json
from typing import Any

import pytest
from django.contrib.auth.models import User

from example_schema.models import Project
from koherent.feed import current_cursor
from koherent.graphql import subscriptions
from tests.graphql.asking import in_thread
from tests.graphql.test_attribution import over_socket, socket

LIVE = """subscription($after: String, $filters: HistoryFilter) {
  historyEntries(after: $after, filters: $filters) { cursor entry { id objectLabel } } }"""


def items(message: Any) -> Any:
    assert message["type"] == "next", message
    assert "errors" not in message["payload"], message
    return message["payload"]["data"]["historyEntries"]


@pytest.mark.django_db(transaction=True)
async def test_a_checkpoint_first_then_what_is_committed(admin: User) -> None:
    communicator = await socket(admin, [])
    first = items(await over_socket(communicator, LIVE))
    assert first["entry"] is None
    await in_thread(Project.objects.create, name="Cells")
    assert items(await communicator.receive_json_from(timeout=15))["entry"]["objectLabel"] == "Cells"
    await communicator.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_a_client_that_comes_back_misses_nothing(admin: User) -> None:
    cursor = await in_thread(current_cursor)
    await in_thread(Project.objects.create, name="Meanwhile")
    communicator = await socket(admin, [])
    answer = items(await over_socket(communicator, LIVE, variables={"after": cursor}))
    while answer["entry"] is None:
        answer = items(await communicator.receive_json_from(timeout=15))
    assert answer["entry"]["objectLabel"] == "Meanwhile"
    await communicator.disconnect()


@pytest.mark.parametrize(
    ("variables", "code"),
    [({"after": "x"}, "BAD_CURSOR"), ({"filters": {"models": ["no.model"]}}, "BAD_FILTER")],
)
@pytest.mark.django_db(transaction=True)
async def test_errors_carry_their_code(admin: User, variables: Any, code: str) -> None:
    communicator = await socket(admin, [])
    answer = await over_socket(communicator, LIVE, variables=variables)
    assert f'"code": "{code}"' in json.dumps(answer)
    await communicator.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_nobody_may_not_listen(django_user_model: type[User]) -> None:
    communicator = await socket(None, [])
    assert '"code": "UNAUTHENTICATED"' in json.dumps(await over_socket(communicator, LIVE))
    await communicator.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_an_account_that_is_lost_ends_the_stream_with_code_and_cursor(admin: User) -> None:
    communicator = await socket(admin, [])
    first = items(await over_socket(communicator, LIVE))
    await in_thread(User.objects.filter(pk=admin.pk).update, is_active=False)
    await in_thread(Project.objects.create, name="Cells")
    answer = await communicator.receive_json_from(timeout=15)
    [error] = answer["payload"]["errors"]
    assert error["extensions"] == {"code": "UNAUTHENTICATED", "cursor": first["cursor"]}
    await communicator.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_an_account_has_a_limited_number_of_streams(admin: User, settings: Any) -> None:
    settings.KOHERENT = {"SUBSCRIPTION_LIMIT": 1}
    communicator = await socket(admin, [])
    items(await over_socket(communicator, LIVE))
    refused = await over_socket(communicator, LIVE, "2")
    [error] = refused["payload"]["errors"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": 1}
    assert error["message"] == "An account has at most 1 open subscriptions."
    assert (await communicator.receive_json_from(timeout=10))["type"] == "complete"
    await communicator.send_json_to({"id": "1", "type": "complete"})
    await communicator.disconnect()
    async with asyncio.timeout(10):
        while subscriptions._open:  # the socket is gone before its stream has ended
            await asyncio.sleep(0.01)
    again = await socket(admin, [])
    assert items(await over_socket(again, LIVE))["entry"] is None
    await again.disconnect()


@pytest.mark.django_db(transaction=True)
async def test_a_connection_has_a_limited_number_of_streams(admin: User, settings: Any) -> None:
    settings.KOHERENT = {"CONNECTION_LIMIT": 1}
    first, second = await socket(admin, []), await socket(admin, [])
    items(await over_socket(first, LIVE))
    # Another connection of the same account has places of its own.
    items(await over_socket(second, LIVE))
    refused = await over_socket(first, LIVE, "2")
    [error] = refused["payload"]["errors"]
    assert error["extensions"] == {"code": "LIMIT_EXCEEDED", "limit": 1}
    assert error["message"] == "A connection has at most 1 open subscriptions."
    for communicator in (first, second):
        await communicator.disconnect()
    async with asyncio.timeout(10):
        while subscriptions._open:  # the sockets are gone before their streams have ended
            await asyncio.sleep(0.01)
