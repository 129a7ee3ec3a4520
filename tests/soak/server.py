"""The example's ASGI application, which also tells at ``/soak`` how its process is."""

import asyncio
import json
import os
from collections.abc import Callable
from typing import Any

from example_schema.asgi import application as example

PAGE_SIZE = os.sysconf("SC_PAGE_SIZE")


async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    """The process's memory in bytes, its asyncio tasks by name, and the feed's own figures; else the example."""
    if scope["type"] != "http" or scope["path"] != "/soak":
        await example(scope, receive, send)
        return
    from koherent import feed

    with open("/proc/self/statm") as statm:
        memory = int(statm.read().split()[1]) * PAGE_SIZE
    tasks = sorted(task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("koherent"))
    told = {"memory": memory, "tasks": tasks, "all_tasks": len(asyncio.all_tasks()), **feed.counters()}
    body = json.dumps({**told, "ok": feed.health().ok}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": body})
