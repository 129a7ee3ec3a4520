"""The tables, as Markdown: ratios first."""

import datetime
import os
import platform
import sqlite3
from collections.abc import Sequence

from benchmarks import driver, figures
from benchmarks.cases import CASES, KINDS
from benchmarks.driver import POSTGRESQL, Outcome, Results
from benchmarks.packages import TITLES

NAMES = {driver.SQLITE: "SQLite", driver.POSTGRESQL: "PostgreSQL"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def machine(results: Sequence[Results]) -> str:
    """When and on what, without a path."""
    facts = [
        f"{datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d %H:%M} UTC",
        f"{os.cpu_count()} cores ({platform.machine()})",
        f"Python {platform.python_version()}",
    ]
    for result in results:
        if result.database == POSTGRESQL:
            settings = driver.server_facts()
            server = settings.pop("server_version").split(" ")[0]
            facts.append(f"PostgreSQL {server} ({', '.join(f'{name}={value}' for name, value in settings.items())})")
        else:
            facts.append(f"SQLite {sqlite3.sqlite_version} (WAL, synchronous=NORMAL)")
    text = "; ".join(facts) + ".\n\n"
    versions: dict[str, dict[str, str]] = {}
    for result in results:
        versions.update(result.versions)
    lines = [
        f"- {TITLES[package]}: {', '.join(f'{name} {number}' for name, number in found.items())}"
        for package, found in versions.items()
    ]
    return text + "\n".join(lines)


#: What each kind's times are compared with.
BASELINES = {"writes": "plain", "undo": "koherent", "read": "koherent", "growth": "koherent_10k"}


def markdown(kinds: Sequence[str], results: Sequence[Results], command: str) -> str:
    """The whole report of one run."""
    parts = [f"# {', '.join(kinds).capitalize()}", f"`{command}`: {machine(results)}"]
    for result in results:
        parts.append(f"## {NAMES[result.database]}")
        rows = figures.verdicts(result)
        if rows:
            parts.append(table(["case", "figure", "by time", "by CPU time", "limit", "aim", ""], rows))
        for kind in kinds:
            parts += _times(result, kind)
    return "\n\n".join(parts) + "\n"


def _times(result: Results, kind: str) -> list[str]:
    baseline = BASELINES[kind]
    cases = {case: outcomes for case, outcomes in result.outcomes.items() if case in KINDS[kind]}
    packages = [name for name in result.versions if any(name in outcomes for outcomes in cases.values())]
    body = [
        [CASES[case].title.format(size=f"{result.sizes[case]:,}")]
        + [_cell(outcomes.get(package), outcomes.get(baseline)) for package in packages]
        for case, outcomes in cases.items()
    ]
    return [
        f"Times of {TITLES[baseline].strip('*')}'s time, then median milliseconds (of them CPU) / statements:",
        table(["", *(TITLES[package] for package in packages)], body),
    ]


def _cell(outcome: Outcome | None, baseline: Outcome | None) -> str:
    if outcome is None or not outcome.seconds:
        return "-"
    times = f"{_milliseconds(outcome.median)} ({_milliseconds(outcome.by_cpu.median)})"
    absolute = f"{times} / {len(outcome.statements)}"
    if outcome.note:
        absolute += f", {outcome.note}"
    if baseline is None or not baseline.seconds or baseline is outcome:
        return absolute
    return f"**{outcome.median / baseline.median:.2f}**: {absolute}"


def _milliseconds(seconds: float) -> str:
    value = seconds * 1000
    return f"{value:.2f}" if value < 10 else f"{value:.0f}"


def statements(results: Sequence[Results], package: str) -> str:
    """The SQL of one package's cases, each statement cut to a line."""
    lines = []
    for result in results:
        for case, outcomes in result.outcomes.items():
            if package in outcomes:
                lines.append(f"\n{NAMES[result.database]}, {case}:")
                lines += [f"  {sql[:300]}" for sql in outcomes[package].statements[:20]]
    return "\n".join(lines) + "\n"
