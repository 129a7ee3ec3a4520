"""The mutations: what they refuse, they refuse before anything is written."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from example_schema.models import Dataset, Image, Project
from example_schema.schema import schema
from koherent import audit
from tests.graphql.asking import codes, context

pytestmark = pytest.mark.django_db

REVERT = """%s { revertAssignation(assignationId: "work") { __typename ...Part } }
fragment Part on RevertReport { status %s }"""


def ask(user: User, query: str, **variables: Any) -> Any:
    return schema.execute_sync(query, variable_values=variables, context_value=context(user))


@pytest.fixture
def work(admin: User) -> None:
    with audit(assignation_id="setup"):
        dataset = Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters")
        for name in ("a", "b", "c"):
            Image.objects.create(dataset=dataset, name=name, width=1, height=1)
    with audit(assignation_id="work"):
        Dataset.objects.update(title="Seas")
        Image.objects.update(width=2)


@pytest.mark.usefixtures("work")
@pytest.mark.parametrize("field", ["steps", "entries"])
@pytest.mark.parametrize(
    ("variables", "arguments", "code"),
    [
        ("", "first: -1", "BAD_PAGE"),
        ("", "first: 101", "LIMIT_EXCEEDED"),
        ("", 'after: "x"', "BAD_CURSOR"),
        ("($first: Int)", "first: $first", "BAD_PAGE"),
        ("($after: String)", "after: $after", "BAD_CURSOR"),
    ],
)
def test_a_bad_page_of_the_report_is_refused_before_anything_is_written(
    admin: User, field: str, variables: str, arguments: str, code: str
) -> None:
    query = REVERT % (f"mutation{variables}", f"page: {field}({arguments}) {{ __typename }}")
    result = ask(admin, query, first=-1, after="-3")
    assert (codes(result), result.data) == ([code], {"revertAssignation": None})
    assert Dataset.objects.get().title == "Seas"


@pytest.mark.usefixtures("work")
def test_steps_and_entries_come_in_pages(admin: User) -> None:
    pages = """stepCount steps(first: 3) { pageInfo { hasNextPage endCursor } edges { node { applied model } } }
      rest: steps(after: "2") { pageInfo { hasNextPage hasPreviousPage } edges { cursor node { model } } }
      beyond: steps(after: "99") { edges { cursor } }
      entries(first: 1) { totalCount pageInfo { hasNextPage } edges { cursor node { origin } } }
      none: entries(after: "99") { edges { cursor } }"""
    result = ask(admin, REVERT % ("mutation", pages))
    image, dataset = "example_schema.image", "example_schema.dataset"
    assert result.errors is None
    assert result.data["revertAssignation"] == {
        "__typename": "RevertReport",
        "status": "APPLIED",
        "stepCount": 4,
        "steps": {
            "pageInfo": {"hasNextPage": True, "endCursor": "2"},
            "edges": [{"node": {"applied": True, "model": model}} for model in (dataset, image, image)],
        },
        "rest": {
            "pageInfo": {"hasNextPage": False, "hasPreviousPage": True},
            "edges": [{"cursor": "3", "node": {"model": image}}],
        },
        "beyond": {"edges": []},
        "entries": {
            "totalCount": 4,
            "pageInfo": {"hasNextPage": True},
            "edges": [{"cursor": "0", "node": {"origin": "REVERT"}}],
        },
        "none": {"edges": []},
    }


@pytest.mark.usefixtures("work")
def test_a_revert_beyond_the_limit_is_refused_before_it_is_planned(admin: User, settings: Any) -> None:
    settings.KOHERENT = {"REVERT_LIMIT": 3}
    with CaptureQueriesContext(connection) as queries:
        result = ask(admin, REVERT % ("mutation", ""))
    assert codes(result) == ["LIMIT_EXCEEDED"]
    assert result.errors[0].extensions["limit"] == 3
    assert not [q for q in queries if 'FROM "example_schema_image"' in q["sql"]]
    assert Dataset.objects.get().title == "Seas"
    settings.KOHERENT = {"REVERT_LIMIT": 4}
    assert ask(admin, REVERT % ("mutation", "")).data["revertAssignation"]["status"] == "APPLIED"
