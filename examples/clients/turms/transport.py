"""What the generated functions call: one httpx client for requests, one socket for each subscription."""

import json
from collections.abc import Iterator
from typing import Any, Protocol, TypeVar

import httpx
from pydantic import BaseModel
from websockets.sync.client import connect
from websockets.typing import Origin, Subprotocol

from koherent.client import on_request

Operation = TypeVar("Operation", bound=BaseModel)
http = httpx.Client(event_hooks={"request": [on_request]}, timeout=30)


class _Meta(Protocol):
    document: str


class Refused(Exception):
    """The server answered with errors."""


def execute(operation: type[Operation], variables: dict[str, Any]) -> Operation:
    """The answer of a query or mutation. Raises ``Refused``."""
    body = http.post("/graphql", json=_payload(operation, variables)).json()
    return operation.model_validate(_data(body))


def subscribe(operation: type[Operation], variables: dict[str, Any]) -> Iterator[Operation]:
    """The items of a subscription; closing the iterator ends it. Raises ``Refused``."""
    url = str(http.base_url).rstrip("/")
    cookie = "; ".join(f"{name}={value}" for name, value in http.cookies.items())
    with connect(
        url.replace("http", "ws", 1) + "/graphql",
        origin=Origin(url),
        additional_headers={"Cookie": cookie},
        subprotocols=[Subprotocol("graphql-transport-ws")],
    ) as socket:
        socket.send(json.dumps({"type": "connection_init"}))
        socket.recv(timeout=30)
        socket.send(json.dumps({"id": "1", "type": "subscribe", "payload": _payload(operation, variables)}))
        while True:
            message = json.loads(socket.recv(timeout=60))
            if message["type"] == "next":
                yield operation.model_validate(_data(message["payload"]))
            elif message["type"] == "ping":
                socket.send(json.dumps({"type": "pong"}))
            else:
                raise Refused(message)


def _payload(operation: type[BaseModel], variables: dict[str, Any]) -> dict[str, Any]:
    meta: _Meta = operation.Meta  # type: ignore[attr-defined]
    plain = {
        name: value.model_dump(by_alias=True, exclude_unset=True) if isinstance(value, BaseModel) else value
        for name, value in variables.items()
    }
    return {"query": meta.document, "variables": plain}


def _data(body: dict[str, Any]) -> dict[str, Any]:
    if body.get("errors"):
        raise Refused(body["errors"])
    data: dict[str, Any] = body["data"]
    return data
