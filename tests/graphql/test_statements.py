"""Each field costs the same number of statements whatever it shows, and reads only what is selected."""

from collections.abc import Callable
from typing import Any

import pytest
import strawberry
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from strawberry import relay
from strawberry_django.optimizer import DjangoOptimizerExtension

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent.graphql import KoherentExtension, Mutation
from tests.graphql.asking import codes, context

pytestmark = pytest.mark.django_db
Ask = Callable[..., Any]


def made(**options: Any) -> strawberry.Schema:
    # A class with relay.node() can be built into one schema only.
    @strawberry.type
    class Query(koherent.graphql.Query):
        node: relay.Node | None = relay.node()

    return strawberry.Schema(query=Query, mutation=Mutation, **options)


SCHEMAS = {"plain": made(), "optimized": made(extensions=[DjangoOptimizerExtension, KoherentExtension])}


@pytest.fixture(params=["plain", "optimized"])
def schema(request: pytest.FixtureRequest) -> strawberry.Schema:
    return SCHEMAS[request.param]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, schema: strawberry.Schema, admin: User) -> Ask:
    def sync(query: str, **variables: Any) -> Any:
        return schema.execute_sync(query, variables, context_value=context(admin))

    async def asynchronous(query: str, **variables: Any) -> Any:
        return await schema.execute(query, variables, context_value=context(admin))

    return sync if request.param == "sync" else async_to_sync(asynchronous)


ENTRY = """__typename id action origin date model objectId objectLabel app assignationId reason metadata snapshot
  user { id username deleted } changes { field label old new oldLabel newLabel added removed redacted erased }
  typed { __typename } ... on DatasetHistory { record { title tags projectId } }"""
PAGE = f"""query($first: Int, $filters: HistoryFilter, $after: String) {{
  history(first: $first, filters: $filters, after: $after) {{
    pageInfo {{ hasNextPage hasPreviousPage startCursor endCursor }} edges {{ cursor node {{ {ENTRY} }} }} }} }}"""


def story(entries: int, admin: User) -> None:
    """So many entries of each of the four models, made and changed by a user under an assignation."""
    for number in range(entries):
        with koherent.audit(user=admin, app="desk", assignation_id=f"task {number}"):
            project = Project.objects.create(name=f"{number}")
            tag = Tag.objects.create(name=f"{number}")
            dataset = Dataset.objects.create(project=project, title=f"{number}")
            dataset.tags.add(tag)
            Image.objects.create(dataset=dataset, name=f"{number}", width=1, height=1)


def cost(ask: Ask, query: str, **variables: Any) -> tuple[int, Any]:
    with CaptureQueriesContext(connection) as queries:
        result = ask(query, **variables)
    assert result.errors is None
    return len(queries), result.data


def test_a_page_costs_the_same_for_1_10_and_100_entries(ask: Ask, admin: User) -> None:
    story(25, admin)
    for filters in ({}, {"models": ["example_schema.dataset"]}, {"users": [str(admin.pk)], "actions": ["UPDATE"]}):
        ask(PAGE, first=1, filters=filters)
        # Five on the first page, so that all of the models are on each.
        costs = [cost(ask, PAGE, first=first, filters=filters)[0] for first in (5, 10, 100)]
        assert costs == [costs[0]] * 3


def test_all_models_with_everything_selected_take_at_most_14_statements(ask: Ask, admin: User) -> None:
    story(10, admin)
    statements, data = cost(ask, PAGE, first=50)
    assert {edge["node"]["__typename"] for edge in data["history"]["edges"]} == {
        "DatasetHistory",
        "ImageHistory",
        "ProjectHistory",
        "TagHistory",
    }
    assert statements <= 14


def test_one_object_with_everything_selected_takes_at_most_6_statements(ask: Ask, admin: User) -> None:
    story(1, admin)
    dataset = Dataset.objects.get()
    for number in range(60):
        with koherent.audit(user=admin):
            dataset.title = f"{number}"
            dataset.save()
    filters = {"models": ["example_schema.dataset"], "objectId": str(dataset.pk)}
    statements, data = cost(ask, PAGE, first=50, filters=filters)
    assert len(data["history"]["edges"]) == 50
    assert statements <= 6


@pytest.mark.parametrize(
    ("selection", "statements"),
    [
        ("edges { cursor }", 1),
        ("edges { node { id date objectLabel user { username } } }", 1),
        ("totalCount edges { cursor }", 2),
        ("edges { node { user { deleted } } }", 2),
        ("edges { node { changes { field old new } } }", 2),
        ("edges { node { changes { field oldLabel } } }", 3),
        ("edges { node { snapshot } }", 2),
        ("pageInfo { hasNextPage hasPreviousPage } edges { cursor }", 1),
        ("...F } } fragment F on HistoryEntryConnection { edges { node { ...G } } } "
         "fragment G on HistoryEntry { ... on DatasetHistory { changes { field", 2),
    ],
)  # fmt: skip
def test_what_is_not_selected_is_not_read(ask: Ask, admin: User, selection: str, statements: int) -> None:
    story(3, admin)
    query = f'{{ history(filters: {{models: ["example_schema.dataset"]}}) {{ {selection} }} }}'
    query += "}" * (query.count("{") - query.count("}"))
    ask(query)
    assert cost(ask, query)[0] == statements


def test_the_side_that_a_cursor_bounds_is_looked_at_only_when_asked_for(ask: Ask, admin: User) -> None:
    story(3, admin)
    after = ask(PAGE, first=1).data["history"]["pageInfo"]["endCursor"]
    query = 'query($after: String) { history(first: 2, after: $after) { pageInfo { %s } } }'  # fmt: skip
    with_it, data = cost(ask, query % "hasPreviousPage", after=after)
    without, _ = cost(ask, query % "hasNextPage", after=after)
    assert data == {"history": {"pageInfo": {"hasPreviousPage": True}}}
    assert with_it == without + 1


@pytest.mark.parametrize("entries", [1, 10, 100])
def test_single_entries_cost_the_same_whatever_there_is(ask: Ask, admin: User, entries: int) -> None:
    story(entries, admin)
    dataset = Dataset.objects.first()
    assert dataset is not None
    entry = relay.to_base64("DatasetHistory", Dataset.history.latest("history_id").history_id)
    one = f"query($id: ID!) {{ historyEntry(id: $id) {{ {ENTRY} }} }}"
    as_of = f"""query($id: ID!, $at: DateTime!) {{
        historyAsOf(model: "example_schema.dataset", objectId: $id, at: $at) {{ {ENTRY} }} }}"""
    node = f"query($id: ID!) {{ node(id: $id) {{ ... on DatasetHistory {{ {ENTRY} }} }} }}"
    detail = f"""{{ assignation(id: "task 0") {{
      id startedAt endedAt users {{ username deleted }} apps models entryCount reverts revertsEntry revertedBy
      entries(first: 5) {{ totalCount edges {{ node {{ {ENTRY} }} }} }} }} }}"""
    ask(detail)
    at = timezone.now().isoformat()
    costs = {
        "historyEntry": cost(ask, one, id=entry)[0],
        "node": cost(ask, node, id=entry)[0],
        "historyAsOf": cost(ask, as_of, id=str(dataset.pk), at=at)[0],
        "assignation": cost(ask, detail)[0],
        "historyModels": cost(ask, "{ historyModels { model fields { name redacted } } }")[0],
    }
    assert costs == {"historyEntry": 4, "node": 4, "historyAsOf": 5, "assignation": 28, "historyModels": 0}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("history(after: %s) { totalCount }", "BAD_CURSOR"),
        ("history(before: %s) { totalCount }", "BAD_CURSOR"),
        ("assignations(after: %s) { edges { cursor } }", "BAD_CURSOR"),
        ('assignation(id: "task 0") { entries(after: %s) { totalCount } }', "BAD_CURSOR"),
    ],
)
def test_cursors_of_elsewhere_are_refused(ask: Ask, admin: User, query: str, code: str) -> None:
    story(1, admin)
    data = ask("{ history(first: 1) { feedCursor edges { cursor } } assignations { edges { cursor } } }").data
    history, feed = data["history"]["edges"][0]["cursor"], data["history"]["feedCursor"]
    assignations = data["assignations"]["edges"][0]["cursor"]
    foreign = {history, feed, assignations} - ({assignations} if query.startswith("assignations") else {history})
    for cursor in ("", "0", "x", "é", history[:-4], history + "AAAA", "null", "W10=", *foreign):
        result = ask("{ " + query % f'"{cursor}"' + " other: __typename }")
        assert codes(result) == [code], cursor
        assert result.data["other"] == "Query"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("first: -1", "BAD_PAGE"),
        ("last: -1", "BAD_PAGE"),
        ("first: 0, last: 0", "BAD_PAGE"),
        ("first: 101", "LIMIT_EXCEEDED"),
        ("last: 2147483647", "LIMIT_EXCEEDED"),
        ('filters: {models: ["example_schema.historicaldataset"]}', "BAD_FILTER"),
        ('filters: {models: ["auth.user", "example_schema.tag"]}', "BAD_FILTER"),
        ('filters: {models: [""]}', "BAD_FILTER"),
        ('filters: {objectId: "1", models: []}', "BAD_FILTER"),
        ('filters: {objectId: "1", models: ["example_schema.tag", "example_schema.image"]}', "BAD_FILTER"),
        ('filters: {objectId: "one", models: ["example_schema.tag"]}', "BAD_FILTER"),
        ('filters: {objectId: "", models: ["example_schema.image"]}', "BAD_FILTER"),
        ('filters: {since: "2026-01-02T00:00Z", until: "2026-01-01T00:00Z"}', "BAD_FILTER"),
        ('filters: {since: "0001-01-01T00:00:00+14:00"}', "BAD_FILTER"),
        ('filters: {until: "9999-12-31T23:59:59-14:00"}', "BAD_FILTER"),
        ("filters: {users: %s}" % str(["1"] * 1001).replace("'", '"'), "LIMIT_EXCEEDED"),  # noqa: UP031
        ("filters: {apps: %s}" % str(["1"] * 1001).replace("'", '"'), "LIMIT_EXCEEDED"),  # noqa: UP031
    ],
)
def test_bad_input_is_refused_with_a_code_and_is_never_all(ask: Ask, admin: User, arguments: str, code: str) -> None:
    story(1, admin)
    result = ask(f"{{ history({arguments}) {{ totalCount edges {{ cursor }} }} }}")
    assert codes(result) == [code]
    assert result.data == {"history": None}


@pytest.mark.parametrize(
    "filters",
    [
        "models: []",
        "users: []",
        "apps: []",
        "actions: []",
        'users: ["nobody", "\\u0000"]',
        'apps: ["\\u0000"]',
        'assignationId: ""',
        'assignationId: "\\u0000"',
        'assignationId: "' + "x" * 5000 + '"',
        'objectId: "99999999999999999999999", models: ["example_schema.tag"]',
        'since: "9999-12-31T23:59:59Z"',
        'until: "0001-01-01T00:00:00Z"',
        'users: ["1"], actions: [DELETE], apps: ["never"]',
    ],
)
def test_what_nothing_can_match_is_empty(ask: Ask, admin: User, filters: str) -> None:
    story(1, admin)
    result = ask(f"{{ history(filters: {{{filters}}}) {{ totalCount edges {{ cursor }} }} }}")
    assert (result.errors, result.data) == (None, {"history": {"totalCount": 0, "edges": []}})


@pytest.mark.parametrize("date", ["2026-02-30T00:00Z", "yesterday", "", "2026-13-01"])
def test_impossible_dates_are_refused_by_graphql_itself(ask: Ask, date: str) -> None:
    result = ask(f'{{ history(filters: {{since: "{date}"}}) {{ totalCount }} }}')
    assert result.data is None
    assert len(result.errors) == 1
