"""``ATOMIC_MUTATIONS``: a mutation and its entries commit or roll back as a whole, on every transport."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import strawberry
import strawberry_django
from channels.testing import HttpCommunicator, WebsocketCommunicator
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from strawberry_django.fields.types import OperationInfo, OperationMessage
from strawberry_django.optimizer import DjangoOptimizerExtension

import koherent.graphql
from example_schema import models
from example_schema.schema import Project, ProjectInput
from koherent.errors import Forbidden
from koherent.graphql import GraphQLHTTPConsumer, GraphQLWSConsumer, KoherentExtension
from tests.graphql.asking import codes, context, in_thread
from tests.graphql.test_attribution import with_user

pytestmark = pytest.mark.django_db(transaction=True)
Run = Callable[[User, str], Awaitable[dict[str, Any]]]
HEADERS = {"x-assignation-id": "task-1"}


def write_two(then: Exception | None = None) -> models.Project:
    models.Tag.objects.create(name="Red")
    project = models.Project.objects.create(name="Cells")
    if then is not None:
        raise then
    return project


@strawberry.type
class Mutation(koherent.graphql.Mutation):
    create_project: Project = strawberry_django.mutations.create(ProjectInput, handle_django_errors=True)

    @strawberry_django.mutation
    def django(self, fail: bool) -> Project:
        return write_two(RuntimeError("late") if fail else None)  # type: ignore[return-value]

    @strawberry.mutation
    def plain(self, fail: bool) -> str | None:
        return write_two(RuntimeError("late") if fail else None).name

    @strawberry.mutation
    def many(self, names: list[str]) -> int:
        return len([models.Tag.objects.create(name=name) for name in names])

    @strawberry.mutation
    def coded(self) -> str:
        return write_two(Forbidden("No.", what="this")).name

    @strawberry_django.mutation(handle_django_errors=True)
    def handled(self) -> Project:
        return write_two(ValidationError("late"))  # type: ignore[return-value]

    @strawberry_django.mutation
    def informed(self, kind: OperationMessage.Kind) -> OperationInfo:
        write_two()
        return OperationInfo(messages=[OperationMessage(kind=kind, message="As you wish.")])

    @strawberry.mutation
    def inside(self) -> bool:
        return bool(transaction.get_connection().in_atomic_block)

    @strawberry.mutation
    async def asynchronous(self) -> str:
        try:
            await in_thread(write_two, RuntimeError("late"))
        except RuntimeError:
            return str(await in_thread(lambda: transaction.get_connection().in_atomic_block))
        raise AssertionError


schema = strawberry.Schema(
    query=koherent.graphql.Query,
    mutation=Mutation,
    types=[Project],
    extensions=[DjangoOptimizerExtension, KoherentExtension],
)
RAW = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def answer(result: Any) -> dict[str, Any]:
    return {"data": result.data, **({"errors": [str(error) for error in result.errors]} if result.errors else {})}


async def sync_execute(user: User, query: str) -> dict[str, Any]:
    return answer(await in_thread(lambda: schema.execute_sync(query, context_value=context(user, HEADERS))))


async def async_execute(user: User, query: str) -> dict[str, Any]:
    return answer(await schema.execute(query, context_value=context(user, HEADERS)))


async def http(user: User, query: str) -> dict[str, Any]:
    application = with_user(GraphQLHTTPConsumer.as_asgi(schema=schema), user)
    headers = [(b"content-type", b"application/json"), *RAW]
    body = json.dumps({"query": query}).encode()
    communicator = HttpCommunicator(application, "POST", "/graphql", body, headers)
    found: dict[str, Any] = json.loads((await communicator.get_response(timeout=10))["body"])
    return found


async def socket(user: User, query: str) -> dict[str, Any]:
    application = with_user(GraphQLWSConsumer.as_asgi(schema=schema), user)
    communicator = WebsocketCommunicator(application, "/graphql", headers=RAW, subprotocols=["graphql-transport-ws"])
    assert (await communicator.connect())[0]
    await communicator.send_json_to({"type": "connection_init"})
    assert (await communicator.receive_json_from())["type"] == "connection_ack"
    await communicator.send_json_to({"id": "1", "type": "subscribe", "payload": {"query": query}})
    message = await communicator.receive_json_from(timeout=10)
    await communicator.disconnect()
    found: dict[str, Any] = message["payload"]
    return found


TRANSPORTS = pytest.mark.parametrize("run", [sync_execute, async_execute, http, socket])


@pytest.fixture
def _atomic() -> Any:
    with override_settings(KOHERENT={"ATOMIC_MUTATIONS": True}):
        yield


def left() -> list[tuple[Any, ...]]:
    """Objects and entries, as (name, actor, assignation) of each entry."""
    rows: list[tuple[Any, ...]] = []
    model: Any
    for model in (models.Tag, models.Project):
        history: Any = model.history
        entries = list(history.order_by("history_id").values_list("name", "actor_name", "assignation_id"))
        assert sorted(model.objects.values_list("name")) == sorted((name,) for name, _, _ in entries)
        rows += entries
    return rows


WHOLE = [("Red", "root", "task-1"), ("Cells", "root", "task-1")]


RAISED = ["django(fail: true) { name }", "plain(fail: true)", "coded"]
RETURNED = [
    "handled { ... on OperationInfo { messages { message } } }",
    "informed(kind: ERROR) { messages { message } }",
    "informed(kind: PERMISSION) { messages { message } }",
    "informed(kind: VALIDATION) { messages { message } }",
]


@TRANSPORTS
@pytest.mark.usefixtures("_atomic")
async def test_a_mutation_that_fails_leaves_nothing(admin: User, run: Run) -> None:
    for field in RAISED:
        assert len((await run(admin, f"mutation {{ {field} }}"))["errors"]) == 1, field
        assert await in_thread(left) == [], field
    for field in RETURNED:
        found = await run(admin, f"mutation {{ it: {field} }}")
        assert "errors" not in found, field
        assert len(found["data"]["it"]["messages"]) == 1, field
        assert await in_thread(left) == [], field


@TRANSPORTS
@pytest.mark.usefixtures("_atomic")
@pytest.mark.parametrize("field", ["django(fail: false) { name }", "plain(fail: false)"])
async def test_a_mutation_that_succeeds_is_committed_with_its_entries(admin: User, run: Run, field: str) -> None:
    assert "errors" not in await run(admin, f"mutation {{ {field} }}")
    assert await in_thread(left) == WHOLE


@pytest.mark.usefixtures("_atomic")
def test_the_entries_of_a_mutation_are_written_together(admin: User) -> None:
    with CaptureQueriesContext(connection) as captured:
        result = schema.execute_sync('mutation { many(names: ["a", "b", "c"]) }', context_value=context(admin, HEADERS))
    assert result.errors is None
    inserts = [query["sql"] for query in captured if "INSERT INTO" in query["sql"] and "historicaltag" in query["sql"]]
    assert len(inserts) == 1
    assert left() == [(name, "root", "task-1") for name in ("a", "b", "c")]


@pytest.mark.usefixtures("_atomic")
async def test_information_is_no_failure(admin: User) -> None:
    await async_execute(admin, "mutation { informed(kind: INFO) { messages { message } } }")
    assert await in_thread(left) == WHOLE


@pytest.mark.usefixtures("_atomic")
async def test_each_root_field_is_a_unit_of_its_own(admin: User) -> None:
    found = await async_execute(
        admin,
        """mutation { first: createProject(data: {name: "A"}) { __typename }
                      second: plain(fail: true)
                      third: createProject(data: {name: "B"}) { ... on Project { name } } }""",
    )
    assert len(found["errors"]) == 1
    assert found["data"] == {"first": {"__typename": "Project"}, "second": None, "third": {"name": "B"}}
    assert await in_thread(left) == [("A", "root", "task-1"), ("B", "root", "task-1")]


@pytest.mark.usefixtures("_atomic")
async def test_an_error_of_koherents_keeps_its_code(admin: User) -> None:
    result = await schema.execute("mutation { coded }", context_value=context(admin, HEADERS))
    assert codes(result) == ["FORBIDDEN"]


@pytest.mark.usefixtures("_atomic")
async def test_an_asynchronous_mutation_is_left_alone(admin: User) -> None:
    found = await async_execute(admin, "mutation { asynchronous }")
    assert found["data"] == {"asynchronous": "False"}
    assert await in_thread(left) == WHOLE


@pytest.mark.usefixtures("_atomic")
async def test_a_revert_works_inside(admin: User) -> None:
    await async_execute(admin, "mutation { plain(fail: false) }")
    query = 'mutation { revertAssignation(assignationId: "task-1") { ... on RevertReport { status stepCount } } }'
    found = await async_execute(admin, query)
    assert found == {"data": {"revertAssignation": {"status": "APPLIED", "stepCount": 2}}}


@pytest.mark.parametrize("atomic", [True, False])
async def test_nothing_is_wrapped_unless_the_setting_asks_for_it(admin: User, atomic: bool) -> None:
    with override_settings(KOHERENT={"ATOMIC_MUTATIONS": atomic}):
        assert (await sync_execute(admin, "mutation { inside }"))["data"] == {"inside": atomic}


@pytest.mark.parametrize(("atomic", "fields"), [(True, 2), (False, 0)])
async def test_fields_are_not_looked_at_unless_the_setting_asks_for_it(
    admin: User, monkeypatch: pytest.MonkeyPatch, atomic: bool, fields: int
) -> None:
    seen: list[str] = []
    original = KoherentExtension.resolve

    def resolve(self: KoherentExtension, _next: Any, root: Any, info: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(info.field_name)
        return original(self, _next, root, info, *args, **kwargs)

    monkeypatch.setattr(KoherentExtension, "resolve", resolve)
    with override_settings(KOHERENT={"ATOMIC_MUTATIONS": atomic}):
        await sync_execute(admin, "mutation { django(fail: false) { name } }")
    assert len(seen) == fields
