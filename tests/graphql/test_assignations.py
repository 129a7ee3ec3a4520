"""Units of work through GraphQL, with their entries, for the same number of statements whatever their number."""

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Dataset, Project
from example_schema.schema import schema
from tests.graphql.asking import codes, context

pytestmark = pytest.mark.django_db
Ask = Callable[..., Any]

ENTRIES = (
    "entries(first: 2) { totalCount feedCursor edges { node { id user { deleted } changes { field oldLabel } } } }"
)
LIST = f"""query($first: Int, $after: String) {{ assignations(first: $first, after: $after) {{
  pageInfo {{ hasNextPage hasPreviousPage endCursor }}
  edges {{ cursor node {{ id startedAt endedAt users {{ username deleted }} apps models entryCount
    reverts revertsEntry revertedBy {ENTRIES} }} }} }} }}"""


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, admin: User) -> Ask:
    def sync(query: str, **variables: Any) -> Any:
        return schema.execute_sync(query, variables, context_value=context(admin))

    async def asynchronous(query: str, **variables: Any) -> Any:
        return await schema.execute(query, variables, context_value=context(admin))

    return sync if request.param == "sync" else async_to_sync(asynchronous)


def work(number: int) -> None:
    with koherent.audit(user=User.objects.get(), app="desk", assignation_id=f"task {number}"):
        project = Project.objects.create(name=f"{number}")
        Dataset.objects.create(project=project, title="a")
        project.name = f"{number}, renamed"
        project.save()


def test_a_list_with_entries_costs_the_same_for_1_10_and_100(ask: Ask) -> None:
    costs, done = [], 0
    for number_of in (1, 10, 100):
        for number in range(done, number_of):
            work(number)
        done = number_of
        ask(LIST, first=100)
        with CaptureQueriesContext(connection) as queries:
            result = ask(LIST, first=100)
        assert result.errors is None
        costs.append(len(queries))
        nodes = [edge["node"] for edge in result.data["assignations"]["edges"]]
        assert [node["id"] for node in nodes] == [f"task {number}" for number in reversed(range(number_of))]
        assert {node["entryCount"] for node in nodes} == {node["entries"]["totalCount"] for node in nodes} == {3}
        assert [[change["field"] for change in edge["node"]["changes"]] for edge in nodes[0]["entries"]["edges"]] == [
            ["name"],
            ["project", "title", "status", "access_notes", "created_at", "updated_at"],
        ]
    assert costs == [costs[0]] * 3


def test_what_is_not_asked_for_is_not_read(ask: Ask) -> None:
    work(1)
    with CaptureQueriesContext(connection) as lean:
        ask("{ assignations { edges { node { id } } } }")
    with CaptureQueriesContext(connection) as all_of_it:
        ask(LIST)
    assert len(lean) == 2
    assert not any("COUNT" in query["sql"] for query in lean)
    assert len(all_of_it) > 10


def test_a_walk(ask: Ask) -> None:
    for number in range(3):
        work(number)
    first = ask(LIST, first=2).data["assignations"]
    assert first["pageInfo"]["hasNextPage"] is True
    assert first["pageInfo"]["hasPreviousPage"] is False
    second = ask(LIST, first=2, after=first["pageInfo"]["endCursor"]).data["assignations"]
    assert [edge["node"]["id"] for edge in second["edges"]] == ["task 0"]
    assert second["pageInfo"]["hasNextPage"] is False
    assert second["pageInfo"]["hasPreviousPage"] is True


def test_bad_arguments_of_the_entries_leave_the_list_standing(ask: Ask) -> None:
    work(1)
    result = ask("{ assignations { edges { node { id entries(first: -1) { totalCount } } } } }")
    assert codes(result) == ["BAD_PAGE"]
    assert result.data["assignations"]["edges"] == [{"node": {"id": "task 1", "entries": None}}]
