"""The measurements, each in fresh processes: a server, a client with many sockets, and a writer of its own."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.driver import ROOT, Child, drop, recreate

KOHERENT, BY_HAND, BARE = "koherent", "by hand", "bare"
PATHS = {KOHERENT: "koherent", BY_HAND: "byhand", BARE: "bare"}
#: What the subscribers ask for, in turn.
DOCUMENTS = tuple(
    f"subscription {{ historyEntries {{ {fields} }} }}"
    for fields in (
        "cursor entry { id action model objectId objectLabel date user { username } app assignationId }",
        "cursor entry { id action objectLabel date }",
    )
)


class Process(Child):
    """A server, a client or a writer; ``first`` is what it says when it is ready."""

    def __init__(self, module: str, *arguments: str, env: dict[str, str]) -> None:
        command = [sys.executable, "-m", f"benchmarks.feed.{module}", *arguments]
        super().__init__(" ".join((module, *arguments)), command, env)
        self.first = self.answer()


@dataclass(frozen=True, kw_only=True)
class Load:
    """What is measured: so many subscribers of so many accounts, and what is written."""

    subscribers: int
    users: int
    entries: int
    per_second: float = 0.0
    different: bool = False
    policy: str = ""
    timeout: float = 180.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of it; times in seconds."""

    deliveries: int
    missing: int
    seconds: float
    p50: float
    p99: float
    samples: list[str]
    opening: float
    reads: int
    batches: int
    megabytes: float
    cpu: float

    @property
    def rate(self) -> float:
        """Deliveries a second."""
        return self.deliveries / self.seconds


def environment(database: str, redis: str, policy: str = "") -> dict[str, str]:
    """Of a child process."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "benchmarks.feed.settings",
        "EXAMPLE_DB": "postgres",
        "PGDATABASE": database,
        "EXAMPLE_REDIS": redis,
        "BENCH_POLICY": policy,
    }


@contextmanager
def processes(load: Load, redis: str) -> Iterator[tuple[Process, Process, Process]]:
    """Server, client and writer with a database of their own. Without Redis the server writes itself."""
    name = f"koherent_bench_feed_{os.getpid()}"
    recreate(name)
    env = environment(name, redis, load.policy)
    started: list[Process] = []
    try:
        started.append(Process("worker", "serve", env=env))
        started.append(Process("client", env=env))
        started.append(Process("worker", "write", env=env) if redis else started[0])
        yield started[0], started[1], started[2]
    finally:
        for process in reversed(list(dict.fromkeys(started))):
            process.close()
        drop(name)


def measure(way: str, load: Load, redis: str, texts: Sequence[str] = ()) -> Outcome:
    """One run. ``texts`` are what the bare consumer sends: the samples of an earlier outcome, one a document."""
    with processes(load, redis) as (server, client, writer):
        sessions = server.do("seed", users=load.users, different=load.different)
        for process in {server, writer}:
            process.do("use", way=way, texts=list(texts))
        opening = client.do(
            "open",
            url=f"ws://127.0.0.1:{server.first}/{PATHS[way]}",
            sessions=sessions,
            queries=[""] * len(DOCUMENTS) if way == BARE else DOCUMENTS,
            count=load.subscribers,
        )
        # The first entry makes connections and fills caches; it is not measured.
        client.do("collect", times=writer.do("write", count=1, per_second=0), timeout=30)
        before = server.do("facts")
        times = writer.do("write", count=load.entries, per_second=load.per_second)
        found = client.do("collect", times=times, timeout=load.timeout)
        after = server.do("facts")
        client.do("close")
        hub = "koherent-feed"
        return Outcome(
            **found,
            opening=opening,
            reads=after["statements"].get(hub, 0) - before["statements"].get(hub, 0),
            batches=int(after["counters"]["reads"] - before["counters"]["reads"]),
            megabytes=after["megabytes"],
            cpu=after["cpu"] - before["cpu"],
        )


def rings(redis: str, count: int = 500) -> list[float]:
    """How long each of so many rings keeps the committing thread, in seconds and ascending."""
    writer = Process("worker", "write", env=environment("none", redis))
    try:
        found: list[float] = writer.do("ring", count=count)
        return found
    finally:
        writer.close()
