"""koherent.audit(): nests, inner values win, and the context around always comes back."""

import asyncio
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

import koherent
from koherent.context import request_audit
from koherent.errors import BadAssignationId, BadHeader, BadInput, KoherentError
from koherent.graphql.requests import request_info
from koherent.request import RequestInfo


def test_inner_values_win_and_outer_ones_come_back() -> None:
    with koherent.audit(app="outer", assignation_id="a", ip="1"):
        with koherent.audit(app="inner", tenant="t"):
            inner = koherent.current_audit()
            assert (inner.app, inner.assignation_id, inner.metadata) == ("inner", "a", {"ip": "1", "tenant": "t"})
        outer = koherent.current_audit()
        assert (outer.app, outer.metadata) == ("outer", {"ip": "1"})
    assert koherent.current_audit().app is None


def test_context_comes_back_after_an_error() -> None:
    with pytest.raises(RuntimeError), koherent.audit(app="x"):
        raise RuntimeError
    assert koherent.current_audit().app is None


def test_decorates_functions_and_coroutines() -> None:
    @koherent.audit(app="cron")
    def plain() -> str | None:
        return koherent.current_audit().app

    @koherent.audit(app="task")
    async def coroutine() -> str | None:
        await asyncio.sleep(0)
        return koherent.current_audit().app

    assert plain() == "cron"
    assert asyncio.run(coroutine()) == "task"


async def test_tasks_on_one_loop_keep_apart() -> None:
    """django-pghistory gave a second ``async with`` on one loop to the first one's user."""
    entered = asyncio.Barrier(2)

    async def work(name: str) -> str | None:
        async with koherent.audit(app=name):
            await entered.wait()
            return koherent.current_audit().app

    async with asyncio.timeout(10):
        assert list(await asyncio.gather(work("a"), work("b"))) == ["a", "b"]


def test_operation_beats_header_beats_connection() -> None:
    info = RequestInfo(
        headers={"x-assignation-id": "header", "x-app": "header"},
        connection_params={"assignationId": "connection", "app": "connection", "reason": "connection"},
        extensions={"assignationId": "operation"},
    )
    with request_audit(info) as context:
        assert (context.assignation_id, context.app, context.reason) == ("operation", "header", "connection")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("x-assignation-id", "", BadAssignationId),
        ("x-assignation-id", "a" * 256, BadAssignationId),
        ("x-assignation-id", "a\nb", BadAssignationId),
        ("x-app", "a" * 256, BadHeader),
        ("x-app", "a\x00", BadHeader),
        ("x-change-reason", "a\x1b[0m", BadHeader),
    ],
)
def test_bad_values_are_refused_before_anything_runs(name: str, value: str, error: type[KoherentError]) -> None:
    with pytest.raises(error):
        request_audit(RequestInfo(headers={name: value}))
    assert koherent.current_audit().assignation_id is None


@pytest.mark.parametrize("value", [True, 1.5, {"a": 1}, ["a"]])
def test_what_is_no_text_is_no_claim(value: object) -> None:
    with pytest.raises(BadAssignationId):
        request_audit(RequestInfo(extensions={"assignationId": value}))
    with pytest.raises(BadHeader):
        request_audit(RequestInfo(connection_params={"app": value}))
    with request_audit(RequestInfo(extensions={"assignationId": 7})) as context:
        assert context.assignation_id == "7"


def test_audit_refuses_what_could_not_be_stored() -> None:
    with pytest.raises(BadAssignationId):
        koherent.audit(assignation_id="")


def test_explicit_beats_operation_and_operation_beats_request() -> None:
    request = RequestInfo(user="request", headers={"x-app": "request", "x-assignation-id": "request"})
    operation = RequestInfo(user="request", headers={"x-app": "operation"})
    with koherent.audit(assignation_id="explicit", job=1), request_audit(request), request_audit(operation) as context:
        assert (context.user, context.app, context.assignation_id) == ("request", "operation", "explicit")
        assert context.metadata == {"job": 1}
    with koherent.audit(app="explicit", job=1), request_audit(request) as context:
        assert (context.app, context.metadata) == ("explicit", {"job": 1})


@pytest.mark.parametrize(("headers", "app"), [({}, "client-7"), ({"x-app": "header"}, "header")])
def test_app_comes_from_its_header_or_from_the_authenticated_client(headers: dict[str, str], app: str) -> None:
    request = SimpleNamespace(user=None, headers=headers, client=SimpleNamespace(client_id="client-7"))
    with request_audit(request_info({"request": request})) as context:
        assert context.app == app


def test_the_address_of_a_peer_is_no_app() -> None:
    request = SimpleNamespace(user=None, headers={}, client=("127.0.0.1", 4711))
    with request_audit(request_info({"request": request})) as context:
        assert context.app is None


def app() -> str | None:
    return koherent.current_audit().app


def test_one_instance_serves_many_threads_at_once() -> None:
    shared = koherent.audit(app="shared")
    entered, left = threading.Barrier(4), threading.Barrier(4)

    def work(_: int) -> list[str | None]:
        with shared:
            entered.wait(10)
            inside = app()
        left.wait(10)
        return [inside, app()]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(work, range(4))) == [["shared", None]] * 4


async def test_one_instance_serves_many_tasks_at_once() -> None:
    shared = koherent.audit(app="shared")
    entered = asyncio.Barrier(3)

    async def work() -> list[str | None]:
        async with shared, shared:
            await entered.wait()
            inside = app()
        return [inside, app()]

    async with asyncio.timeout(10):
        assert list(await asyncio.gather(*(work() for _ in range(3)))) == [["shared", None]] * 3


def test_contexts_that_end_out_of_order_leave_nothing_behind() -> None:
    first, second = koherent.audit(app="first"), koherent.audit(app="second")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert app() == "second"
    second.__exit__(None, None, None)
    assert app() is None


def test_a_task_keeps_what_it_was_started_under() -> None:
    async def later(started: asyncio.Event, go: asyncio.Event) -> list[str | None]:
        started.set()
        await go.wait()
        with koherent.audit(app="nested"):
            nested = app()
        return [nested, app()]

    async def main() -> list[str | None]:
        started, go = asyncio.Event(), asyncio.Event()
        async with koherent.audit(app="outer"):
            task = asyncio.create_task(later(started, go))
            await started.wait()
        assert app() is None
        go.set()
        return await task

    assert asyncio.run(main()) == ["nested", "outer"]


def test_a_decorated_generator_is_attributed_and_its_consumer_is_not() -> None:
    @koherent.audit(app="generator")
    def items() -> Iterator[Any]:
        try:
            sent = yield app()
            yield (sent, app())
            with koherent.audit(app="nested"):
                yield app()
            yield app()
        except ZeroDivisionError:
            yield ("caught", app())

    with koherent.audit(app="consumer"):
        generator: Any = items()
        seen = [(next(generator), app()), (generator.send("hello"), app()), (next(generator), app())]
        seen.append((next(generator), app()))
        seen.append((generator.throw(ZeroDivisionError()), app()))
        assert list(generator) == []
    assert seen == [
        ("generator", "consumer"),
        (("hello", "generator"), "consumer"),
        ("nested", "consumer"),
        ("generator", "consumer"),
        (("caught", "generator"), "consumer"),
    ]
    assert app() is None


def test_a_decorated_generator_returns_its_value() -> None:
    @koherent.audit(app="generator")
    def inner() -> Generator[int, None, str]:
        yield 1
        return "result"

    def outer() -> Any:
        found = yield from inner()
        yield found

    assert list(outer()) == [1, "result"]


async def test_a_decorated_asynchronous_generator_may_be_closed_from_another_task() -> None:
    closed: list[str | None] = []

    @koherent.audit(app="generator")
    async def items() -> AsyncIterator[str | None]:
        try:
            while True:
                await asyncio.sleep(0)
                yield app()
        finally:
            closed.append(app())

    generator: Any = items()

    async def read() -> list[str | None]:
        with koherent.audit(app="reader"):
            return [await anext(generator), app()]

    async def close() -> str | None:
        with koherent.audit(app="closer"):
            await generator.aclose()
            return app()

    assert await asyncio.create_task(read()) == ["generator", "reader"]
    assert await asyncio.create_task(close()) == "closer"
    assert closed == ["generator"]
    assert app() is None


async def test_a_decorated_asynchronous_generator_takes_what_is_sent_and_thrown() -> None:
    @koherent.audit(app="generator")
    async def items() -> Any:
        try:
            sent = yield app()
            yield (sent, app())
        except ZeroDivisionError:
            yield ("caught", app())

    async with aclosing(items()) as generator:
        assert [await anext(generator), await generator.asend("hello")] == ["generator", ("hello", "generator")]
        assert (await generator.athrow(ZeroDivisionError()), app()) == (("caught", "generator"), None)
        assert [item async for item in generator] == []


async def test_an_undecorated_generator_closed_elsewhere_disturbs_nobody() -> None:
    async def items() -> AsyncIterator[int]:
        async with koherent.audit(app="generator"):
            yield 1
            yield 2

    generator: Any = items()

    async def close() -> str | None:
        with koherent.audit(app="closer"):
            await generator.aclose()
            return app()

    assert await asyncio.create_task(generator.__anext__()) == 1
    assert await asyncio.create_task(close()) == "closer"
    assert app() is None


@pytest.mark.parametrize("value", [object(), float("nan"), "a\x00b", {"deep": ["\x00"]}, "\ud800"])
def test_metadata_that_no_database_could_hold_is_refused_at_once(value: object) -> None:
    with pytest.raises(BadInput) as refused:
        koherent.audit(note=value)
    assert refused.value.fields == {"argument": "note"}


def test_metadata_may_talk_of_escapes() -> None:
    with koherent.audit(note="a backslash, u0000: \\u0000") as context:
        assert context.metadata == {"note": "a backslash, u0000: \\u0000"}
