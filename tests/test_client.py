"""``koherent.client``: requests inside ``assignation()`` name it, sync and async, and those outside do not."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from gql import Client, gql
from gql.transport.httpx import HTTPXTransport

from koherent.client import assignation, extensions, headers, on_request, on_request_async
from koherent.errors import BadAssignationId, BadHeader

ROOT = Path(__file__).parent.parent
NAMES = ("x-assignation-id", "x-app", "x-change-reason")


def echo(request: httpx.Request) -> httpx.Response:
    """A server that tells what it was sent."""
    return httpx.Response(200, json={name: request.headers[name] for name in NAMES if name in request.headers})


def test_requests_inside_name_the_assignation_and_those_outside_do_not() -> None:
    with httpx.Client(transport=httpx.MockTransport(echo), event_hooks={"request": [on_request]}) as http:
        assert http.get("http://server/").json() == {}
        with assignation("import-42", app="importer", reason="new scans") as id:
            assert id == "import-42"
            sent = {"x-assignation-id": "import-42", "x-app": "importer", "x-change-reason": "new scans"}
            assert http.get("http://server/").json() == sent
            with assignation("import-43", reason="again"):
                inner = {"x-assignation-id": "import-43", "x-app": "importer", "x-change-reason": "again"}
                assert http.get("http://server/").json() == inner
            assert http.get("http://server/", headers={"X-App": "own"}).json() == {**sent, "x-app": "own"}
        assert http.get("http://server/").json() == {}


async def test_tasks_have_their_own() -> None:
    ready = asyncio.Barrier(2)

    async def work(http: httpx.AsyncClient, id: str) -> object:
        with assignation(id):
            await ready.wait()
            return (await http.get("http://server/")).json()

    hooks = {"request": [on_request_async]}
    async with httpx.AsyncClient(transport=httpx.MockTransport(echo), event_hooks=hooks) as http:
        assert list(await asyncio.gather(work(http, "one"), work(http, "two"))) == [
            {"x-assignation-id": "one"},
            {"x-assignation-id": "two"},
        ]


def test_gql_sends_it_by_the_same_hook() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": {"__typename": request.headers.get("x-assignation-id", "none")}})

    hooks = {"request": [on_request]}
    transport = HTTPXTransport("http://server/graphql", transport=httpx.MockTransport(answer), event_hooks=hooks)
    with Client(transport=transport) as session:
        query = gql("{ __typename }")
        with assignation("import-42"):
            assert session.execute(query) == {"__typename": "import-42"}
        assert session.execute(query) == {"__typename": "none"}


def test_other_clients_take_headers_or_extensions() -> None:
    assert headers() == extensions() == {}

    @assignation("import-42", app="importer")
    def told() -> tuple[dict[str, str], dict[str, str]]:
        return headers(), extensions()

    assert told() == (
        {"X-Assignation-Id": "import-42", "X-App": "importer"},
        {"assignationId": "import-42", "app": "importer"},
    )


def test_what_the_server_would_refuse_is_refused_at_once() -> None:
    for bad in ("", " ", "a\nb", "x" * 256):
        with pytest.raises(BadAssignationId), assignation(bad):
            pass
    with pytest.raises(BadHeader), assignation("ok", app="two\nlines"):
        pass
    with pytest.raises(ZeroDivisionError), assignation("ok"):
        raise ZeroDivisionError
    assert headers() == {}


def test_no_settings_are_needed() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "DJANGO_SETTINGS_MODULE"} | {"PYTHONPATH": str(ROOT)}
    code = "from koherent.client import assignation, headers\nwith assignation('a'): print(headers())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout == "{'X-Assignation-Id': 'a'}\n"
