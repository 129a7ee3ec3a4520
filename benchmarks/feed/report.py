"""Command line of ``python -m benchmarks feed``: everything that the live feed promises in figures, as Markdown."""

import argparse
import datetime
import os
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from benchmarks.driver import note, server_facts
from benchmarks.feed.run import BARE, BY_HAND, KOHERENT, Load, Outcome, measure, rings
from benchmarks.report import table

UNSHARED = "benchmarks.feed.ways.Unshared"
MEMORY, REDIS = "in memory", "Redis"
HEADER = ["", "layer", "deliveries a second", "p50 ms", "p99 ms", "seconds", "server's CPU s", "missing"]
Runs = dict[str, list[Outcome]]


def main(arguments: list[str]) -> None:
    """Measure and print, or write, the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks feed", description=__doc__)
    parser.add_argument("--redis", default=os.environ.get("EXAMPLE_REDIS", "redis://127.0.0.1:6379/0"), help="address")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each contender, in turns (3)")
    parser.add_argument("--subscribers", type=int, default=200, help="sockets (200)")
    parser.add_argument("--many", type=int, default=1000, help="sockets of the largest run (1,000)")
    parser.add_argument("--entries", type=int, default=100, help="entries of a burst (100)")
    parser.add_argument("--seconds", type=int, default=20, help="of the steady run, at ten entries a second (20)")
    parser.add_argument("--output", type=Path, help="write the report here instead of printing it")
    options = parser.parse_args(arguments)
    version = server_facts()["server_version"].split(" ")[0]
    parts = [
        "# The live feed",
        f"`{' '.join(['python -m benchmarks feed', *arguments])}`: "
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d %H:%M} UTC; {os.cpu_count()} cores "
        f"({platform.machine()}); Python {platform.python_version()}; PostgreSQL {version}.",
        *_burst(options),
        *_different(options),
        *_steady(options),
        *_many(options),
        *_doorbell(options.redis),
    ]
    text = "\n\n".join(parts) + "\n"
    if options.output is None:
        sys.stdout.write(text)
    else:
        options.output.write_text(text)


def _burst(options: argparse.Namespace) -> list[str]:
    load = Load(subscribers=options.subscribers, users=20, entries=options.entries)
    parts = [f"## {load.subscribers} subscribers of 20 accounts, 2 documents, a burst of {load.entries} entries"]
    rows, verdicts = [], []
    for layer, address in ((MEMORY, ""), (REDIS, options.redis)):
        runs: Runs = {KOHERENT: [], BY_HAND: [], BARE: []}
        for _ in range(options.rounds):
            note(f"burst, {layer} ")
            runs[KOHERENT].append(measure(KOHERENT, load, address))
            runs[BY_HAND].append(measure(BY_HAND, load, address))
            runs[BARE].append(measure(BARE, load, address, runs[KOHERENT][-1].samples))
        rows += [_row(way, layer, found) for way, found in runs.items()]
        rate = {way: median(each.rate for each in found) for way, found in runs.items()}
        half = {way: median(each.p50 for each in found) for way, found in runs.items()}
        verdicts += [
            _verdict(
                f"{layer}: deliveries, of the subscription by hand", rate[KOHERENT] / rate[BY_HAND], 4, at_least=True
            ),
            _verdict(f"{layer}: deliveries, of the bare consumer", rate[KOHERENT] / rate[BARE], 0.5, at_least=True),
            _verdict(f"{layer}: p50, of the subscription by hand", half[KOHERENT] / half[BY_HAND], 0.1),
        ]
    return [*parts, _verdicts(verdicts), table(HEADER, rows)]


def _different(options: argparse.Namespace) -> list[str]:
    load = Load(subscribers=options.subscribers, users=options.subscribers, entries=options.entries, different=True)
    unshared = Load(
        subscribers=options.subscribers,
        users=options.subscribers,
        entries=options.entries,
        different=True,
        policy=UNSHARED,
    )
    names = ("default policy", "a policy that shares nothing", BY_HAND)
    runs: Runs = {name: [] for name in names}
    for _ in range(options.rounds):
        note("different rights ")
        runs[names[0]].append(measure(KOHERENT, load, options.redis))
        runs[names[1]].append(measure(KOHERENT, unshared, options.redis))
        runs[names[2]].append(measure(BY_HAND, load, options.redis))
    rate = {name: median(each.rate for each in found) for name, found in runs.items()}
    verdicts = [
        _verdict(f"{name}: deliveries, of by hand", rate[name] / rate[BY_HAND], 2, at_least=True) for name in names[:2]
    ]
    return [
        f"## The same, {load.users} accounts of which no two hold the same permissions",
        _verdicts(verdicts),
        table(HEADER, [_row(name, REDIS, found) for name, found in runs.items()]),
    ]


def _steady(options: argparse.Namespace) -> list[str]:
    load = Load(subscribers=options.subscribers, users=20, entries=10 * options.seconds, per_second=10)
    runs: Runs = {KOHERENT: [], BARE: []}
    for _ in range(options.rounds):
        note("steady ")
        runs[KOHERENT].append(measure(KOHERENT, load, options.redis))
        runs[BARE].append(measure(BARE, load, options.redis, runs[KOHERENT][-1].samples))
    slowest = median(each.p99 for each in runs[KOHERENT]) * 1000
    return [
        f"## The same {load.subscribers}, ten entries a second, written by another process",
        _verdicts([_verdict("p99 from commit to client, ms", slowest, 100)]),
        table(HEADER, [_row(way, REDIS, found) for way, found in runs.items()]),
    ]


def _many(options: argparse.Namespace) -> list[str]:
    rows = []
    reads = {}
    for count in (1, options.subscribers, options.many):
        note(f"{count} subscribers ")
        found = measure(KOHERENT, Load(subscribers=count, users=20, entries=20, per_second=4), options.redis)
        reads[count] = found.reads / 20
        rows.append(
            [
                f"{count:,}",
                f"{found.reads / 20:.1f}",
                f"{found.p50 * 1000:.0f}",
                f"{found.p99 * 1000:.0f}",
                f"{found.opening:.1f}",
                f"{found.megabytes:.0f}",
                str(found.missing),
            ]
        )
    most = max(reads.values())
    header = [
        "subscribers",
        "statements an entry",
        "p50 ms",
        "p99 ms",
        "s until all are live",
        "server's peak MB",
        "missing",
    ]
    # An entry or a poll more or less falls into the time that is counted.
    return [
        "## More subscribers, four entries a second",
        _verdicts([_verdict("statements an entry, of those at one subscriber", most / reads[1], 1.1)]),
        table(header, rows),
    ]


def _doorbell(redis: str) -> list[str]:
    note("doorbell\n")
    with _hanging() as hanging, socket.create_server(("127.0.0.1", 0)) as unused:
        closed = unused.getsockname()[1]
        unused.close()
        waits = {"up": rings(redis), "down": rings(f"redis://127.0.0.1:{closed}/0"), "hanging": rings(hanging)}
    verdicts = [
        _verdict(f"Redis {state}: what 99 of 100 rings keep the committing thread, ms", _part(found, 99) * 1000, 0.2)
        for state, found in waits.items()
    ]
    rows = [[state, *(f"{_part(found, part) * 1000:.3f}" for part in (50, 99))] for state, found in waits.items()]
    return ["## What a commit waits for the doorbell", _verdicts(verdicts), table(["Redis", "p50 ms", "p99 ms"], rows)]


@contextmanager
def _hanging() -> Iterator[str]:
    """The address of a server that takes connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def _part(ascending: list[float], percent: int) -> float:
    return ascending[len(ascending) * percent // 100]


def _verdict(what: str, value: float, limit: float, *, at_least: bool = False) -> list[str]:
    met = value >= limit if at_least else value < limit
    return [what, f"{value:.2f}", f"{'at least' if at_least else 'below'} {limit:g}", "" if met else "**missed**"]


def _verdicts(rows: list[list[str]]) -> str:
    return table(["figure", "value", "limit", ""], rows)


def _row(way: str, layer: str, found: list[Outcome]) -> list[str]:
    """Medians; what was missing in all."""

    def middle(name: str) -> float:
        return float(median(getattr(each, name) for each in found))

    return [
        way,
        layer,
        f"{middle('rate'):,.0f}",
        f"{middle('p50') * 1000:,.0f}",
        f"{middle('p99') * 1000:,.0f}",
        f"{middle('seconds'):.1f}",
        f"{middle('cpu'):.1f}",
        str(sum(each.missing for each in found)),
    ]
