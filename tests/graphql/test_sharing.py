"""One entry is executed and encoded once for all subscribers who would get the same, and only for them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import strawberry
from django.contrib.auth.models import Permission, User
from django.utils import translation
from strawberry.extensions import MaskErrors, SchemaExtension

import koherent.graphql
from example_schema.models import Dataset, Project, Tag
from koherent.feed import current_cursor
from koherent.graphql import GraphQLWSConsumer, KoherentExtension, Schema
from koherent.graphql.sharing import SharedData
from koherent.graphql.types import to_graphql
from koherent.policy import Policy, Viewer
from tests.graphql.asking import context, in_thread
from tests.graphql.test_attribution import socket

pytestmark = pytest.mark.django_db(transaction=True)

TO_GRAPHQL = "koherent.graphql.sharing.to_graphql"
LIVE = "subscription { historyEntries { cursor entry { id objectLabel changes { field label new redacted } } } }"


def made(*extensions: Any) -> Schema:
    return Schema(
        query=koherent.graphql.Query,
        subscription=koherent.graphql.Subscription,
        extensions=[*extensions, KoherentExtension],
    )


@contextlib.asynccontextmanager
async def subscribed(
    schema: Any, user: Any, query: str = LIVE, variables: Any = None
) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """A live subscription; what it gives is the next result."""
    stream: AsyncGenerator[Any, None] = await schema.subscribe(
        query, context_value=context(user), variable_values=variables
    )

    async def following() -> Any:
        return await asyncio.wait_for(anext(stream), 20)

    async with contextlib.aclosing(stream):
        first = await following()
        assert first.errors is None, first.errors
        yield following


@pytest.fixture
def executions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labels of the entries that were turned into GraphQL's objects: one for each execution."""
    labels: list[str] = []

    def counted(entry: Any) -> Any:
        labels.append(entry.object_label)
        return to_graphql(entry)

    monkeypatch.setattr(TO_GRAPHQL, counted)
    return labels


def reader(name: str, *models: str) -> User:
    user = User.objects.create_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=[f"view_historical{each}" for each in models]))
    return user


async def both(
    schema: Any, first: tuple[Any, ...], second: tuple[Any, ...], write: Callable[[], object]
) -> tuple[Any, Any]:
    """The results that two subscribers get of one entry; each is a user, perhaps a query, perhaps its variables."""
    async with subscribed(schema, *first) as one, subscribed(schema, *second) as other:
        await in_thread(write)
        return await one(), await other()


async def test_equal_subscribers_share_one_execution(executions: list[str]) -> None:
    users = [await in_thread(reader, name, "tag", "project") for name in ("ada", "bob")]
    one, other = await both(made(), (users[0],), (users[1],), lambda: Tag.objects.create(name="cells"))
    assert executions == ["cells"]
    assert one.data is other.data
    assert one.data["historyEntries"]["entry"]["objectLabel"] == "cells"


OTHER = "subscription { historyEntries { entry { objectLabel } } }"
NAMED = "subscription A { historyEntries { entry { objectLabel } } }"
CHOOSING = "subscription($full: Boolean! = false) { historyEntries { entry { id objectLabel @include(if: $full) } } }"
RESUMING = "subscription($after: String) { historyEntries(after: $after) { entry { objectLabel } } }"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((LIVE,), (OTHER,)),
        ((OTHER,), (NAMED,)),
        ((CHOOSING, {"full": True}), (CHOOSING, {"full": False})),
        ((CHOOSING, {"full": True}), (CHOOSING, {})),
    ],
)
async def test_another_document_operation_or_variables_are_executed_apart(
    admin: User, executions: list[str], first: Any, second: Any
) -> None:
    await both(made(), (admin, *first), (admin, *second), lambda: Tag.objects.create(name="cells"))
    assert executions == ["cells"] * 2


async def test_clients_that_came_back_with_their_own_cursors_share_again(admin: User, executions: list[str]) -> None:
    schema = made()
    cursors = []
    for name in ("one", "two"):
        cursors.append(await in_thread(current_cursor))
        await in_thread(lambda name=name: Tag.objects.create(name=name))
    async with (
        subscribed(schema, admin, RESUMING, {"after": cursors[0]}) as first,
        subscribed(schema, admin, RESUMING, {"after": cursors[1]}) as second,
    ):
        for _ in range(2):
            await first()
        await second()
        executions.clear()
        await in_thread(lambda: Tag.objects.create(name="live"))
        one, other = await first(), await second()
    assert executions == ["live"]
    assert one.data is other.data


async def test_other_rights_are_executed_apart(admin: User, executions: list[str]) -> None:
    user = await in_thread(reader, "ada", "dataset", "project")

    def write() -> None:
        Dataset.objects.create(project=project, title="title", access_notes="secret")

    schema = made()
    project = await in_thread(lambda: Project.objects.create(name="Atlas"))
    root, plain = await both(schema, (admin,), (user,), write)
    assert executions == ["title"] * 2
    notes = [
        change["redacted"]
        for found in (root, plain)
        for change in found.data["historyEntries"]["entry"]["changes"]
        if change["field"] == "access_notes"
    ]
    assert notes == [False, True]
    assert "secret" not in str(plain.data)


class Unshared(Policy):
    def rights_key(self, viewer: Viewer) -> None:
        return None


async def test_a_policy_switches_sharing_off(admin: User, executions: list[str], settings: Any) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.Unshared"}
    one, other = await both(made(), (admin,), (admin,), lambda: Tag.objects.create(name="cells"))
    assert executions == ["cells"] * 2
    assert one.data == other.data
    assert one.data is not other.data


async def test_other_languages_are_executed_apart(
    admin: User, executions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tag._meta.get_field("name"), "verbose_name", translation.gettext_lazy("Yes"), raising=True)
    schema = made()

    async def label(language: str) -> str:
        with translation.override(language):
            async with subscribed(schema, admin) as following:
                ready.release()
                found = await following()
        return str(found.data["historyEntries"]["entry"]["changes"][0]["label"])

    ready = asyncio.Semaphore(0)
    tasks = [asyncio.create_task(label(language)) for language in ("de", "en-us", "de")]
    for _ in tasks:
        await asyncio.wait_for(ready.acquire(), 20)
    await in_thread(lambda: Tag.objects.create(name="cells"))
    assert await asyncio.gather(*tasks) == ["Ja", "Yes", "Ja"]
    assert executions == ["cells"] * 2


class Numbered(SchemaExtension):
    """Tells each subscription its own number."""

    numbers: Iterator[int]

    def on_operation(self) -> Iterator[None]:
        self.number = next(self.numbers)
        yield

    def get_results(self) -> dict[str, Any]:
        return {"number": self.number}


async def test_extensions_run_for_each_subscription(admin: User, executions: list[str]) -> None:
    Numbered.numbers = iter(range(10))
    one, other = await both(made(Numbered), (admin,), (admin,), lambda: Tag.objects.create(name="cells"))
    assert [one.extensions, other.extensions] == [{"number": 0}, {"number": 1}]
    assert executions == ["cells"]


class Signing(SchemaExtension):
    """Writes into the results of its subscription."""

    def on_stream_result(self, result: Any) -> Iterator[None]:
        if result.data is not None and result.data["historyEntries"]["entry"] is not None:
            result.data["historyEntries"]["entry"]["objectLabel"] += "!"
        yield


async def test_what_an_extension_writes_into_a_result_stays_with_its_subscription(
    admin: User, executions: list[str]
) -> None:
    one, other = await both(made(Signing), (admin,), (admin,), lambda: Tag.objects.create(name="cells"))
    assert [each.data["historyEntries"]["entry"]["objectLabel"] for each in (one, other)] == ["cells!", "cells!"]
    assert executions == ["cells"]


async def test_errors_are_shared_and_each_subscription_has_its_own_list(
    admin: User, executions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:

    def broken(entry: Any) -> Any:
        executions.append(entry.object_label)
        raise LookupError("broken")

    monkeypatch.setattr(TO_GRAPHQL, broken)
    one, other = await both(made(MaskErrors), (admin,), (admin,), lambda: Tag.objects.create(name="cells"))
    assert [[error.message for error in each.errors] for each in (one, other)] == [["Unexpected error."]] * 2
    assert one.errors is not other.errors
    assert executions == ["cells"]


async def test_who_began_an_execution_may_leave_while_others_wait_for_it(
    admin: User, executions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, gate = asyncio.Event(), asyncio.Event()

    async def waiting(entry: Any) -> Any:
        entered.set()
        await gate.wait()
        executions.append(entry.object_label)
        return to_graphql(entry)

    monkeypatch.setattr(TO_GRAPHQL, waiting)
    schema = made()
    async with subscribed(schema, admin) as one:
        first = asyncio.ensure_future(one())
        async with subscribed(schema, admin) as other:
            await in_thread(lambda: Tag.objects.create(name="cells"))
            await asyncio.wait_for(entered.wait(), 20)
            second = asyncio.ensure_future(other())
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            gate.set()
            found = await second
    assert found.data["historyEntries"]["entry"]["objectLabel"] == "cells"
    assert executions == ["cells"]


async def test_a_plain_schema_gives_the_same_and_shares_nothing(admin: User, executions: list[str]) -> None:
    plain = strawberry.Schema(query=koherent.graphql.Query, subscription=koherent.graphql.Subscription)
    async with subscribed(plain, admin) as one, subscribed(plain, admin) as two, subscribed(made(), admin) as three:
        await in_thread(lambda: Tag.objects.create(name="cells"))
        results = [await one(), await two(), await three()]
    assert results[0].data == results[1].data == results[2].data
    assert executions == ["cells"] * 3


@pytest.mark.parametrize("legacy", [False, True])
async def test_over_sockets_it_is_encoded_once(admin: User, monkeypatch: pytest.MonkeyPatch, legacy: bool) -> None:
    encoded: list[Any] = []
    base = GraphQLWSConsumer.__mro__[1]
    encode_json = base.encode_json

    def counted(self: Any, data: object) -> Any:
        encoded.append(data)
        return encode_json(self, data)

    monkeypatch.setattr(base, "encode_json", counted)
    kind = "start" if legacy else "subscribe"
    sockets = [await socket(admin, [], legacy=legacy) for _ in range(3)]
    for number, each in enumerate(sockets):
        await each.send_json_to({"id": f"operation {number}", "type": kind, "payload": {"query": LIVE}})
        assert (await each.receive_json_from(timeout=15))["payload"]["data"]["historyEntries"]["entry"] is None
    encoded.clear()
    await in_thread(lambda: Tag.objects.create(name="cells"))
    messages = [await each.receive_json_from(timeout=15) for each in sockets]
    assert [message["id"] for message in messages] == ["operation 0", "operation 1", "operation 2"]
    assert {message["type"] for message in messages} == {"data" if legacy else "next"}
    assert [set(message["payload"]) for message in messages] == [{"data"}] * 3
    assert messages[0]["payload"] == messages[1]["payload"] == messages[2]["payload"]
    assert messages[0]["payload"]["data"]["historyEntries"]["entry"]["objectLabel"] == "cells"
    assert len([data for data in encoded if isinstance(data, dict) and "historyEntries" in data]) == 1
    for each in sockets:
        await each.disconnect()


@pytest.mark.parametrize(
    "payload",
    [
        {"data": SharedData({"a": [1, {"b": "ü\n"}]})},
        {"data": SharedData({"a": None}), "errors": [{"message": "}"}], "extensions": {"n": 1}},
        {"data": {"a": 1}, "extensions": {}},
        {"data": None},
    ],
)
def test_a_shared_message_is_what_it_would_be_otherwise(payload: Any) -> None:
    consumer = GraphQLWSConsumer(schema=made())
    for _ in range(2):
        message = {"id": 'a "quoted" id', "type": "next", "payload": payload}
        assert json.loads(consumer.encode_json(message)) == json.loads(json.dumps(message))
    assert json.loads(consumer.encode_json({"type": "pong"})) == {"type": "pong"}
