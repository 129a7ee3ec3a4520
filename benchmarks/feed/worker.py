"""A server or a writer: ``python -m benchmarks.feed.worker serve|write``. Orders and answers are JSON, a line each."""

import asyncio
import json
import os
import resource
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any

import django
import uvicorn

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
from django.contrib.auth.models import Permission, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db.backends.signals import connection_created  # noqa: E402

from benchmarks.feed import ways  # noqa: E402
from benchmarks.feed.run import KOHERENT  # noqa: E402
from example_schema.models import Tag  # noqa: E402
from koherent.feed import counters  # noqa: E402
from koherent.feed.doorbell import doorbell  # noqa: E402

#: Statements by the thread that ran them.
statements: Counter[str] = Counter()


def _count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    statements[threading.current_thread().name.split("_")[0]] += 1
    return execute(sql, params, many, context)


def _watch(connection: Any, **_: Any) -> None:
    connection.execute_wrappers.append(_count)


connection_created.connect(_watch)


class Worker:
    """Does what the driver orders."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.announcer = ways.Announcer(KOHERENT, (), loop)
        self.written = 0

    def seed(self, users: int, different: bool) -> list[str]:
        """Tables, and so many accounts that may read tags; a session's key for each.

        ``different``: no two accounts hold the same permissions, and they may read other models than each other.
        """
        call_command("migrate", verbosity=0)
        tags = Permission.objects.get(codename="view_historicaltag")
        histories = list(Permission.objects.filter(codename__startswith="view_historical").exclude(pk=tags.pk))
        others = list(Permission.objects.exclude(codename__startswith="view_").order_by("pk")[:8])
        keys = []
        for number in range(users):
            user = User.objects.create(username=f"reader {User.objects.count()}", password="!")
            user.user_permissions.add(tags)
            if different:
                user.user_permissions.add(*(each for bit, each in enumerate(histories) if number >> bit & 1))
                user.user_permissions.add(*(each for bit, each in enumerate(others) if number >> bit & 1))
            session = SessionStore()
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.create()
            keys.append(str(session.session_key))
        return keys

    def use(self, way: str, texts: list[str]) -> None:
        """Announce commits as one of the contenders does."""
        self.announcer = ways.Announcer(way, texts, self.loop)

    def write(self, count: int, per_second: float) -> dict[str, float]:
        """Make changes one transaction after the other; when each was committed, by the object's name."""
        times: dict[str, float] = {}
        began = time.monotonic()
        for number in range(count):
            if per_second:
                time.sleep(max(0.0, began + number / per_second - time.monotonic()))
            self.written += 1
            name = self.announcer.name = f"tag {os.getpid()} {self.written:08d}"
            Tag.objects.create(name=name)
            times[name] = time.time()
        return times

    def ring(self, count: int) -> list[float]:
        """Announce so many changes, a millisecond apart; the seconds that each kept this thread, in ascending order."""
        waited = []
        for number in range(count):
            began = time.perf_counter()
            doorbell.ring([("example_schema.tag", number)])
            waited.append(time.perf_counter() - began)
            time.sleep(0.001)
        return sorted(waited)

    def facts(self) -> dict[str, Any]:
        """The feed's counters, statements by thread, and the process's peak of memory (MB) and CPU time (s)."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "counters": counters(),
            "statements": dict(statements),
            "megabytes": usage.ru_maxrss / 1024,
            "cpu": usage.ru_utime + usage.ru_stime,
        }


def obey(worker: Worker, first: Any) -> None:
    """Answer orders until there are no more."""
    sys.stdout.write(json.dumps({"ok": first}) + "\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        answer = getattr(worker, order.pop("do"))(**order)
        sys.stdout.write(json.dumps({"ok": answer}) + "\n")
        sys.stdout.flush()


def serve() -> None:
    """An ASGI server on a free port; orders are obeyed in a thread of their own."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    config = uvicorn.Config(ways.application(), log_level="warning", lifespan="off", ws_per_message_deflate=False)
    server = uvicorn.Server(config)

    async def main() -> None:
        worker = Worker(asyncio.get_running_loop())

        def orders() -> None:
            obey(worker, listener.getsockname()[1])
            server.should_exit = True

        thread = threading.Thread(target=orders, name="orders")
        thread.start()
        await server.serve(sockets=[listener])
        thread.join()

    asyncio.run(main())


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        obey(Worker(ways.own_loop()), None)
