"""The trail through GraphQL: pages, single entries, assignations, undo, and coded errors for what cannot be."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from strawberry import relay

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from tests.graphql.asking import codes

pytestmark = pytest.mark.django_db
Ask = Callable[..., Any]

PAGE = """
query($filters: HistoryFilter, $first: Int, $after: String, $last: Int, $before: String) {
  history(filters: $filters, first: $first, after: $after, last: $last, before: $before) {
    totalCount feedCursor pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
    edges { cursor node { id action origin date model objectId objectLabel app assignationId reason metadata snapshot
      user { id username deleted }
      changes { field label old new oldLabel newLabel added removed redacted erased } } }
  }
}
"""
REVERT = """
fragment Report on RevertPayload {
  ... on RevertReport { status plan assignationId stepCount conflictCount
    steps { pageInfo { hasNextPage } edges { cursor node { action model objectId objectLabel applied
      changes { field old new } conflicts { code message fields entry { id } } } } }
    entries { totalCount feedCursor edges { node { action objectLabel origin } } } }
  ... on OperationInfo { messages { message } }
}
mutation To($id: ID!, $latest: ID, $dry: Boolean! = false) {
  revertTo(entryId: $id, expectedLatest: $latest, dryRun: $dry, reason: "oops") { ...Report } }
mutation All($id: ID!, $policy: RevertPolicy! = ABORT) {
  revertAssignation(assignationId: $id, policy: $policy) { ...Report } }
"""
TO = REVERT.split("mutation All")[0]
ALL = REVERT.split("mutation To")[0] + "mutation All" + REVERT.split("mutation All")[1]


@pytest.fixture
def dataset(admin: User) -> Dataset:
    """Made and changed under the assignation ``task-1``: 5 entries."""
    with koherent.audit(user=admin, app="lab", assignation_id="task-1", reason="because", ticket=7):
        project = Project.objects.create(name="Cells")
        tag = Tag.objects.create(name="live")
        dataset = Dataset.objects.create(project=project, title="Plate 1", access_notes="ask Ada")
        dataset.tags.add(tag)
        dataset.title = "Plate 2"
        dataset.status = Dataset.Status.PUBLISHED
        dataset.save()
    return dataset


def test_an_entry_says_who_what_and_how(ask: Ask, dataset: Dataset, admin: User) -> None:
    result = ask(PAGE, first=1)
    assert result.errors is None
    page = result.data["history"]
    assert page["totalCount"] == 5
    assert page["feedCursor"]
    [edge] = page["edges"]
    node = edge["node"]
    assert node["user"] == {"id": str(admin.pk), "username": "root", "deleted": False}
    expected = {
        "action": "UPDATE",
        "origin": "CHANGE",
        "model": "example_schema.dataset",
        "objectId": str(dataset.pk),
        "objectLabel": "Plate 2",
        "app": "lab",
        "assignationId": "task-1",
        "reason": "because",
        "metadata": {"ticket": 7},
    }
    assert {name: node[name] for name in expected} == expected
    changes = {change["field"]: change for change in node["changes"]}
    assert (changes["title"]["old"], changes["title"]["new"]) == ("Plate 1", "Plate 2")
    assert changes["status"]["newLabel"] == "Published"
    assert node["snapshot"]["project"] == dataset.project_id
    assert node["snapshot"]["tags"] == [dataset.tags.get().pk]


def test_the_record_is_typed(ask: Ask, dataset: Dataset) -> None:
    image = Image.objects.create(dataset=dataset, name="a", width=1, height=2, exposure_ms="1.500")
    result = ask(
        """{ history(first: 2) { edges { node { __typename
          ... on DatasetHistory { record { pk projectId title tags accessNotes createdAt } }
          ... on ImageHistory { record { pk datasetId name width exposureMs extra } } } } } }"""
    )
    assert result.errors is None
    newest, before = (edge["node"] for edge in result.data["history"]["edges"])
    assert newest == {
        "__typename": "ImageHistory",
        "record": {
            "pk": str(image.pk),
            "datasetId": str(dataset.pk),
            "name": "a",
            "width": 1,
            "exposureMs": "1.500",
            "extra": {},
        },
    }
    assert before["record"]["projectId"] == str(dataset.project_id)
    assert before["record"]["tags"] == [str(dataset.tags.get().pk)]


def test_pages_in_both_directions_give_every_entry_once(ask: Ask, dataset: Dataset) -> None:
    everything = [edge["node"]["id"] for edge in ask(PAGE).data["history"]["edges"]]
    assert len(everything) == 5
    forward: list[str] = []
    cursor = None
    while True:
        page = ask(PAGE, first=2, after=cursor).data["history"]
        forward += [edge["node"]["id"] for edge in page["edges"]]
        cursor = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break
    assert forward == everything
    backward: list[str] = []
    cursor = None
    while True:
        page = ask(PAGE, last=2, before=cursor).data["history"]
        backward = [edge["node"]["id"] for edge in page["edges"]] + backward
        cursor = page["pageInfo"]["startCursor"]
        if not page["pageInfo"]["hasPreviousPage"]:
            break
    assert backward == everything


def test_a_page_costs_the_same_number_of_statements_whatever_its_size(ask: Ask, dataset: Dataset) -> None:
    for number in range(20):
        Tag.objects.create(name=f"t{number}")
        dataset.title = f"Plate {number}"
        dataset.save()

    def cost(first: int) -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert ask(PAGE, first=first, filters={"models": ["example_schema.dataset"]}).errors is None
        return len(queries)

    ask(PAGE)
    assert cost(2) == cost(20)


def test_filters_narrow(ask: Ask, dataset: Dataset) -> None:
    def labels(**filters: Any) -> list[str]:
        result = ask(PAGE, filters=filters)
        assert result.errors is None
        return [edge["node"]["objectLabel"] for edge in result.data["history"]["edges"]]

    assert labels(models=["example_schema.tag"]) == ["live"]
    assert labels(models=[]) == []
    assert labels(actions=["CREATE"]) == ["Plate 1", "live", "Cells"]
    assert labels(models=["example_schema.dataset"], objectId=str(dataset.pk), actions=["UPDATE"])[0] == "Plate 2"
    assert labels(assigned=False) == []
    assert labels(assignationId="task-1", apps=["lab"], actions=["CREATE"], models=["example_schema.project"]) == [
        "Cells"
    ]


def test_single_entries_and_the_one_in_force(ask: Ask, dataset: Dataset) -> None:
    id = ask(PAGE, first=1).data["history"]["edges"][0]["node"]["id"]
    found = ask("query($id: ID!) { historyEntry(id: $id) { id objectLabel } }", id=id)
    assert found.data == {"historyEntry": {"id": id, "objectLabel": "Plate 2"}}
    nothing = ask("query($id: ID!) { historyEntry(id: $id) { id } }", id=relay.to_base64("DatasetHistory", 99999))
    assert (nothing.errors, nothing.data) == (None, {"historyEntry": None})
    as_of = """query($at: DateTime!, $id: ID!) {
        historyAsOf(model: "example_schema.dataset", objectId: $id, at: $at) { objectLabel } }"""
    now = ask(as_of, id=str(dataset.pk), at=dt.datetime.now(dt.UTC).isoformat())
    assert now.data == {"historyAsOf": {"objectLabel": "Plate 2"}}
    before = ask(as_of, id=str(dataset.pk), at="2020-01-01T00:00:00Z")
    assert (before.errors, before.data) == (None, {"historyAsOf": None})


def test_assignations(ask: Ask, dataset: Dataset) -> None:
    fields = "id startedAt endedAt users { username } apps models entryCount reverts revertsEntry revertedBy"
    result = ask(
        f'{{ assignation(id: "task-1") {{ {fields} entries(first: 1) {{ totalCount edges {{ node {{ id }} }} }} }} }}'
    )
    assert result.errors is None
    found = result.data["assignation"]
    assert found["users"] == [{"username": "root"}]
    assert (found["apps"], found["entryCount"], found["entries"]["totalCount"]) == (["lab"], 5, 5)
    assert found["models"] == ["example_schema.dataset", "example_schema.project", "example_schema.tag"]
    listed = ask(
        f"{{ assignations(first: 5) {{ pageInfo {{ hasNextPage }} edges {{ cursor node {{ {fields} }} }} }} }}"
    )
    assert [edge["node"]["id"] for edge in listed.data["assignations"]["edges"]] == ["task-1"]
    assert ask('{ assignation(id: "unknown") { id } }').data == {"assignation": None}


def test_models_say_what_is_hidden(ask: Ask, django_user_model: type[User]) -> None:
    eve = django_user_model.objects.create_user("eve")
    eve.user_permissions.add(Permission.objects.get(codename="view_historicaldataset"))
    result = ask("{ historyModels { model label typeName fields { name label redacted } } }", user=eve)
    [model] = result.data["historyModels"]
    assert (model["model"], model["typeName"]) == ("example_schema.dataset", "Dataset")
    assert [field["name"] for field in model["fields"] if field["redacted"]] == ["access_notes"]


def test_hidden_values_are_nowhere(ask: Ask, dataset: Dataset, django_user_model: type[User]) -> None:
    eve = django_user_model.objects.create_user("eve")
    eve.user_permissions.add(Permission.objects.get(codename="view_historicaldataset"))
    result = ask(
        "{ history { edges { node { snapshot changes { field old new redacted } ... on DatasetHistory { record "
        "{ accessNotes } } } } } }",
        user=eve,
    )
    assert result.errors is None
    assert "ask Ada" not in str(result.data)
    assert ask(PAGE).errors is None


def test_go_back_to_an_entry(ask: Ask, dataset: Dataset) -> None:
    edges = ask(PAGE, filters={"models": ["example_schema.dataset"]}).data["history"]["edges"]
    latest, first = edges[0]["node"]["id"], edges[-1]["node"]["id"]
    planned = ask(TO, id=first, latest=latest, dry=True)
    assert planned.errors is None
    assert planned.data["revertTo"]["status"] == "PLANNED"
    result = ask(TO, id=first, latest=latest)
    assert result.errors is None
    report = result.data["revertTo"]
    assert (report["status"], report["stepCount"], report["conflictCount"]) == ("APPLIED", 1, 0)
    [step] = report["steps"]["edges"]
    assert (step["node"]["action"], step["node"]["applied"]) == ("UPDATE", True)
    assert report["entries"]["edges"][0]["node"] == {"action": "UPDATE", "objectLabel": "Plate 1", "origin": "REVERT"}
    assert report["entries"]["totalCount"] == 1
    dataset.refresh_from_db()
    assert (dataset.title, dataset.tags.count()) == ("Plate 1", 0)
    stale = ask(TO, id=first, latest=latest)
    assert stale.data["revertTo"]["status"] in ("CONFLICTED", "UNCHANGED")


def test_undo_an_assignation(ask: Ask, dataset: Dataset) -> None:
    with koherent.audit(assignation_id="task-2"):
        Project.objects.filter(pk=dataset.project_id).update(description="changed")
    refused = ask(ALL, id="task-1")
    assert refused.errors is None
    report = refused.data["revertAssignation"]
    assert (report["status"], report["conflictCount"]) == ("CONFLICTED", 1)
    conflicts = [conflict for edge in report["steps"]["edges"] for conflict in edge["node"]["conflicts"]]
    assert conflicts[0]["code"] == "CHANGED_SINCE"
    assert conflicts[0]["entry"] is not None
    done = ask(ALL, id="task-2")
    assert done.data["revertAssignation"]["status"] == "APPLIED"
    done = ask(ALL, id="task-1")
    assert done.data["revertAssignation"]["status"] == "APPLIED"
    assert (Project.objects.count(), Tag.objects.count(), Dataset.objects.count()) == (0, 0, 0)
    undone = ask('{ assignation(id: "task-1") { revertedBy } }').data["assignation"]["revertedBy"]
    assert undone == [done.data["revertAssignation"]["assignationId"]]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("{ field: history(first: -1) { totalCount } }", "BAD_PAGE"),
        ("{ field: history(first: 1, last: 1) { totalCount } }", "BAD_PAGE"),
        ("{ field: history(first: 101) { totalCount } }", "LIMIT_EXCEEDED"),
        ('{ field: history(after: "x") { totalCount } }', "BAD_CURSOR"),
        ('{ field: history(filters: {models: ["auth.user"]}) { totalCount } }', "BAD_FILTER"),
        ('{ field: history(filters: {objectId: "1"}) { totalCount } }', "BAD_FILTER"),
        (
            '{ field: history(filters: {since: "2026-02-01T00:00Z", until: "2026-01-01T00:00Z"}) { totalCount } }',
            "BAD_FILTER",
        ),
        ('{ field: historyEntry(id: "x") { id } }', "BAD_ID"),
        ('{ field: historyEntry(id: "VXNlcjox") { id } }', "BAD_ID"),
        ('{ field: historyEntry(id: "RGF0YXNldEhpc3Rvcnk6LTE=") { id } }', "BAD_ID"),
        (
            '{ field: historyAsOf(model: "no.model", objectId: "1", at: "2026-01-01T00:00:00Z") { id } }',
            "BAD_FILTER",
        ),
        ('{ field: assignation(id: "\\u0000") { id } }', "BAD_ASSIGNATION_ID"),
        ('mutation { field: revertAssignation(assignationId: "") { __typename } }', "BAD_ASSIGNATION_ID"),
        ("{ field: assignations(first: -1) { edges { cursor } } }", "BAD_PAGE"),
        ('{ field: assignations(after: "x") { edges { cursor } } }', "BAD_CURSOR"),
        ('mutation { field: revertTo(entryId: "x") { __typename } }', "BAD_ID"),
        ('mutation { field: revertTo(entryId: "RGF0YXNldEhpc3Rvcnk6OTk5") { __typename } }', "NOT_FOUND"),
        ('mutation { field: revertAssignation(assignationId: "x") { __typename } }', "NOT_FOUND"),
        (
            'mutation { field: revertAssignation(assignationId: "x", reason: "a\\tb") { __typename } }',
            "BAD_INPUT",
        ),
    ],
)
def test_what_cannot_be_is_null_with_a_code_and_empties_nothing_else(ask: Ask, query: str, code: str) -> None:
    other = "__typename"
    result = ask(query[: query.rindex("}")] + other + " }")
    assert codes(result) == [code]
    assert result.data["field"] is None
    assert result.data["__typename"] in ("Query", "Mutation")


def test_who_may_not_read(ask: Ask, dataset: Dataset, django_user_model: type[User]) -> None:
    assert codes(ask("{ history { totalCount } }", user=None)) == ["UNAUTHENTICATED"]
    assert codes(ask("{ historyModels { model } }", user=django_user_model.objects.create_user("eve"))) == ["FORBIDDEN"]
