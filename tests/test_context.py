"""koherent.audit(): nests, inner values win, and the context around always comes back."""

import asyncio
from types import SimpleNamespace

import pytest

import koherent
from koherent.context import request_audit
from koherent.errors import BadAssignationId, BadHeader, KoherentError
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


def test_audit_refuses_what_could_not_be_stored() -> None:
    with pytest.raises(BadAssignationId):
        koherent.audit(assignation_id="")


def test_explicit_beats_operation_and_operation_beats_request() -> None:
    request = RequestInfo(user="request", headers={"x-app": "request", "x-assignation-id": "request"})
    operation = RequestInfo(user="request", headers={"x-app": "operation"})
    with koherent.audit(assignation_id="explicit", job=1), request_audit(request), request_audit(operation) as context:
        assert (context.user, context.app, context.assignation_id) == ("request", "operation", "explicit")
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
