"""Generated operations against the example over ASGI: whatever comes, an answer in GraphQL's form, and coded errors.

``FUZZ_EXAMPLES`` operations of each kind and user, within ``FUZZ_SECONDS`` for each; ``make deep`` raises both.
"""

import json
import logging
import os
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from channels.testing import HttpCommunicator
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.db import SessionStore
from graphql import GraphQLSchema, StringValueNode, build_schema, parse, print_ast, visit
from graphql.language import ArgumentNode, ObjectFieldNode, Visitor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from example_schema.asgi import router
from koherent.models import Assignation
from tests.security.matrix import ENTRIES
from tests.security.questions import id_of
from tests.security.world import MODELS, World

logger = logging.getLogger(__name__)
pytestmark = [pytest.mark.django_db, pytest.mark.timeout(3600)]

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "15"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))
SDL = (Path(__file__).parents[2] / "schema.graphql").read_text(encoding="utf-8")
SCHEMA: GraphQLSchema = build_schema(SDL)
#: Names of arguments and input fields that take a key of something.
KEYS = frozenset(
    {"id", "entryId", "expectedLatest", "assignationId", "objectId", "set", "add", "remove", "users", "after"}
)
#: The entry points to the trail.
OURS = {door.split(".")[1] for door, needs in ENTRIES.items() if needs == "trail"}
TIMES = ["", "x", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2024-01-01T00:00:00"]


def operations() -> Any:
    """Strategy of operations on the schema."""
    from hypothesis_graphql import from_schema, nodes

    text, number = nodes.String, nodes.Int
    scalars = {
        "DateTime": st.datetimes().map(lambda at: text(f"{at.isoformat()}Z")) | st.sampled_from(TIMES).map(text),
        "JSON": st.text(max_size=5).map(text) | st.integers().map(number) | st.just(nodes.Null),
        "UUID": st.uuids().map(lambda key: text(str(key))) | st.text(max_size=3).map(text),
        "Decimal": st.decimals().map(lambda value: text(str(value))) | st.integers().map(number),
    }
    return from_schema(SCHEMA, custom_scalars=scalars, allow_null=True)


class Known(Visitor):
    """Puts keys of what there is in the place of most of the invented ones."""

    def __init__(self, seed: int, known: list[str]) -> None:
        super().__init__()
        self.random, self.known = Random(seed), known

    def _enter(self, node: Any, *_: Any) -> Any:
        if node.name.value in KEYS and node.value.kind in ("string_value", "int_value") and self.random.random() < 0.8:
            return type(node)(name=node.name, value=StringValueNode(value=self.random.choice(self.known)))
        return None

    def enter_argument(self, node: ArgumentNode, *args: Any) -> Any:
        return self._enter(node, *args)

    def enter_object_field(self, node: ObjectFieldNode, *args: Any) -> Any:
        return self._enter(node, *args)


def with_known_keys(operation: str, seed: int, known: list[str]) -> str:
    return print_ast(visit(parse(operation), Known(seed, known)))


def post(user: Any, body: bytes) -> tuple[int, str]:
    """Status and text of the answer."""

    async def as_user(scope: Any, receive: Any, send: Any) -> None:
        await router({**scope, "user": user, "session": SessionStore()}, receive, send)

    async def ask() -> tuple[int, str]:
        communicator = HttpCommunicator(as_user, "POST", "/graphql", body, [(b"content-type", b"application/json")])
        response = await communicator.get_response(timeout=30)
        return response["status"], response["body"].decode()

    return async_to_sync(ask)()


def problems(status: int, text: str) -> list[str]:
    """What is wrong with an answer."""
    found = [f"status {status}"] if status >= 500 else []
    if "Traceback" in text or 'File "' in text or "/site-packages/" in text:
        found.append("a traceback")
    if status == 200:
        for error in json.loads(text).get("errors", ()):
            # An error without a path is GraphQL's own, from before the execution.
            code = error.get("extensions", {}).get("code", None if "path" in error else "")
            # What the application's own fields make of nonsense is theirs; our own never fail unexpectedly.
            if code is None or (code == "INTERNAL" and not OURS.isdisjoint(error["path"])):
                found.append(f"{code}: {error['message']}")
    return found


@pytest.mark.parametrize("who", ["greater", "lesser", "nobody"])
def test_no_operation_breaks_the_server(world: World, who: str) -> None:
    user = {"greater": world.greater, "lesser": world.lesser, "nobody": AnonymousUser()}[who]
    known = [id_of(key) for key in world.entries()]
    known += [id for id in Assignation.objects.values_list("assignation_id", flat=True) if id is not None]
    for model in MODELS:
        known += map(str, model._base_manager.values_list("pk", flat=True))
    end = time.monotonic() + SECONDS
    sent = executed = 0

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        suppress_health_check=list(HealthCheck),
    )
    @given(operation=operations(), seed=st.integers(0, 2**32))
    def fuzz(operation: str, seed: int) -> None:
        nonlocal sent, executed
        if time.monotonic() > end:
            return
        query = with_known_keys(operation, seed, known)
        status, text = post(user, json.dumps({"query": query}).encode())
        sent += 1
        executed += status == 200 and json.loads(text).get("data") is not None
        assert problems(status, text) == [], query

    fuzz()
    logger.info("%d operations of %s, of which %d were executed", sent, who, executed)
    assert executed > sent / 2
