"""``schema.graphql`` is what the example's schema says, every word of it is explained, and clients go on working."""

import io
import json
import re
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from graphql import build_schema
from strawberry.printer import print_schema

from example_schema.schema import schema
from koherent.graphql.sdl import breaking_changes, dangerous_changes, own_sdl
from tests.graphql.sdl_rules import RULES, Rule

ROOT = Path(__file__).parents[2]
FILE = ROOT / "schema.graphql"
#: Our part as the last release had it; `make sdl-release` writes it when a version is released.
RELEASED = ROOT / "tests" / "graphql" / "released.graphql"

# One SDL for each rule that breaks it, and what is said then.
BROKEN = {
    "described": (
        'type Query { "A" a("B" b: Int, c: Int): E d: Int } enum E { X }',
        [
            "Query has no description",
            "Query.a(c) has no description",
            "Query.d has no description",
            "E has no description",
            "E.X has no description",
        ],
    ),
    "named": (
        "type query_root { Some_thing(Bad_one: Int): other_Kind } enum other_Kind { lower }"
        " schema { query: query_root }",
        [
            "query_root is not PascalCase",
            "query_root.Some_thing is not camelCase",
            "other_Kind is not PascalCase",
            "other_Kind.lower is not UPPER_CASE",
            "query_root.Some_thing(Bad_one) is not camelCase",
        ],
    ),
    "without_echo": (
        "type Query { getThing: Thing } type Thing { thingName: Int }",
        ["Thing.thingName repeats its type's name", "Query.getThing says what every query does"],
    ),
    "relay_connections": (
        "type Query { a: AConnection b: BConnection c: CConnection } type PageInfo { x: Int }"
        " type AConnection { pageInfo: PageInfo edges: [Int] }"
        " type BConnection { pageInfo: PageInfo! edges: [AEdge!]! } type AEdge { node: Int cursor: String! }"
        " type CConnection { pageInfo: PageInfo! edges: [CEdge!]! } type CEdge { node: Int cursor: String }",
        [
            "AConnection.pageInfo is no PageInfo!",
            "AConnection.edges is no list of edges",
            "AEdge is not named after BConnection",
            "CEdge has no node or no cursor: String!",
        ],
    ),
    "relay_arguments": (
        "type Query { a(first: Int): AConnection b(first: Int, after: String, last: Int): AConnection }"
        " type AConnection { x: Int }",
        ["Query.a does not take first: Int and after: String", "Query.b does not take last: Int and before: String"],
    ),
    "refusable": (
        "type Query { a: Int! } type Mutation { b: Int! c: Int }",
        ["Query.a is not nullable", "Mutation.b is not nullable"],
    ),
    "reachable": (
        "type Query { a: Int } enum Lonely { X } input Alone { x: Int }",
        ["Lonely is used by nothing", "Alone is used by nothing"],
    ),
}


def subject(change: str) -> str:
    """The name in a change; graphql-core's versions say the rest in different words."""
    found = re.search(r"[A-Z]\w*\.\w+", change) or re.search(r"[A-Z]\w+", re.sub(r"^(Type|Enum value) ", "", change))
    assert found is not None, change
    return found[0]


def run(*arguments: str) -> tuple[int, str]:
    """The exit status of ``koherent_schema``, and what it printed."""
    out = io.StringIO()
    try:
        call_command("koherent_schema", *arguments, stdout=out)
    except CommandError as error:
        return error.returncode, f"{out.getvalue()}{error}"
    return 0, out.getvalue()


def test_the_exported_schema_is_current() -> None:
    assert FILE.read_text(encoding="utf-8").strip() == print_schema(schema).strip(), "run: make sdl"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_our_part_keeps_the_rules(rule: Rule) -> None:
    assert list(rule(build_schema(own_sdl()))) == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_each_rule_finds_what_breaks_it(rule: Rule) -> None:
    sdl, problems = BROKEN[rule.__name__]
    assert sorted(rule(build_schema(sdl))) == sorted(problems)


def test_what_breaks_clients_of_the_last_release_is_in_the_changelog() -> None:
    latest = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split("\n## ")[1]
    breaking = breaking_changes(RELEASED.read_text(encoding="utf-8"), own_sdl())
    assert [change for change in breaking if subject(change) not in latest] == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("Field Assignation.gone was removed.", "Assignation.gone"),
        ("Assignation.gone was removed.", "Assignation.gone"),
        ("Argument Query.b(x:) has changed type from Int to Int!.", "Query.b"),
        ("Type HistoryUser was removed.", "HistoryUser"),
        ("HistoryUser was removed.", "HistoryUser"),
    ],
)
def test_the_changelog_is_searched_for_what_changed(change: str, named: str) -> None:
    assert subject(change) == named


def test_changes_are_told_apart() -> None:
    old = "type Query { a: Int b(x: Int): E } enum E { X }"
    new = "type Query { b(x: Int!): E c: Int } enum E { X Y }"
    assert {subject(change) for change in breaking_changes(old, new)} == {"Query.a", "Query.b"}
    (dangerous,) = dangerous_changes(old, new)
    assert "added to enum type" in dangerous or "Enum value" in dangerous
    assert breaking_changes(old, old) == dangerous_changes(old, old) == []


def test_the_command_prints_our_part_alone(tmp_path: Path) -> None:
    status, text = run()
    assert (status, text) == (0, own_sdl())
    assert "type DatasetHistory implements" in text
    assert "createDataset" not in text
    assert run("--path", str(tmp_path / "ours.graphql")) == (0, "")
    assert (tmp_path / "ours.graphql").read_text(encoding="utf-8") == text


def test_the_command_says_what_breaks(tmp_path: Path) -> None:
    other = tmp_path / "other.graphql"
    other.write_text(own_sdl(), encoding="utf-8")
    assert run("--against", str(other)) == (0, f"Clients of {other} go on working.\n")
    other.write_text(own_sdl().replace("  entryCount: Int!", "  entryCount: Int!\n  gone: Int"), encoding="utf-8")
    status, text = run("--against", str(other))
    assert (status, text.startswith("breaking ")) == (1, True)
    assert "Assignation.gone was removed." in text
    assert text.endswith(f"1 changes break clients of {other}.")
    status, text = run("--against", str(other), "--json")
    report = json.loads(text.splitlines()[0])
    assert (status, report["dangerous"]) == (1, [])
    assert [subject(change) for change in report["breaking"]] == ["Assignation.gone"]


def test_the_command_refuses_what_it_cannot_use(tmp_path: Path) -> None:
    nonsense = tmp_path / "nonsense.graphql"
    nonsense.write_text("type Query {", encoding="utf-8")
    assert run("--against", str(nonsense))[0] == 2
    nonsense.write_text("type Query { a: Unknown }", encoding="utf-8")
    assert run("--against", str(nonsense))[0] == 2
    assert run("--against", str(tmp_path / "absent"))[0] == 2
    assert run("--path", str(tmp_path / "no" / "folder"))[0] == 2
    assert run("--json") == (2, "--json goes with --against: the SDL itself is no JSON.")
