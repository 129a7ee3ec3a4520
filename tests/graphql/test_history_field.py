"""The history of each object on a team's own type costs the same for one object and for a hundred."""

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import strawberry
import strawberry_django
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from strawberry_django.optimizer import DjangoOptimizerExtension

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import timeline
from koherent.graphql import HistoryEntryConnection, history_field
from koherent.policy import Scope, Viewer, scope_for
from tests.graphql.asking import codes, context

pytestmark = pytest.mark.django_db


@strawberry_django.type(Project)
class ProjectNode:
    name: strawberry.auto
    datasets: list["DatasetNode"]
    history: HistoryEntryConnection | None = history_field()


@strawberry_django.type(Dataset)
class DatasetNode:
    title: strawberry.auto
    project: ProjectNode
    history: HistoryEntryConnection | None = history_field()


@strawberry_django.type(Image)
class ImageNode:
    name: strawberry.auto
    dataset: DatasetNode
    history: HistoryEntryConnection | None = history_field()


@strawberry_django.type(Tag)
class TagNode:
    name: strawberry.auto
    history: HistoryEntryConnection | None = history_field()

    @classmethod
    def get_queryset(cls, queryset: Any, info: strawberry.Info) -> Any:
        return queryset.exclude(name="hidden")


@strawberry.type
class Query(koherent.graphql.Query):
    projects: list[ProjectNode] = strawberry_django.field()
    datasets: list[DatasetNode] = strawberry_django.field()
    images: list[ImageNode] = strawberry_django.field()
    tags: list[TagNode] = strawberry_django.field()
    paged: list[DatasetNode] = strawberry_django.field(pagination=True)

    @strawberry.field
    def past(self, at: dt.datetime) -> list[DatasetNode]:
        return koherent.as_of(Dataset, at)

    @strawberry.field
    async def listed(self) -> list[DatasetNode]:
        return [dataset async for dataset in Dataset.objects.order_by("pk")]  # type: ignore[misc]


PLAIN = strawberry.Schema(query=Query)
OPTIMIZED = strawberry.Schema(query=Query, extensions=[DjangoOptimizerExtension])
Ask = Callable[..., Any]


def run(schema: strawberry.Schema, asynchronous: bool, query: str, user: Any, **variables: Any) -> Any:
    if not asynchronous:
        return schema.execute_sync(query, variables, context_value=context(user))

    async def asked() -> Any:
        return await schema.execute(query, variables, context_value=context(user))

    return async_to_sync(asked)()


@pytest.fixture(params=["sync", "async"])
def asynchronous(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "async")


@pytest.fixture(params=["plain", "optimized"])
def ask(request: pytest.FixtureRequest, asynchronous: bool, admin: User) -> Ask:
    schema = PLAIN if request.param == "plain" else OPTIMIZED
    return lambda query, user=admin, **variables: run(schema, asynchronous, query, user, **variables)


@contextlib.contextmanager
def counted() -> Iterator[CaptureQueriesContext]:
    with CaptureQueriesContext(connection) as queries:
        yield queries


def notebook(datasets: int, *, edits: int = 4) -> None:
    """So many datasets in one project, each with a tag and an image, and edited."""
    with koherent.audit(user=User.objects.get(), assignation_id=f"make-{datasets}"):
        project = Project.objects.create(name=f"project of {datasets}")
        tag = Tag.objects.create(name=f"tag of {datasets}")
        made = Dataset.objects.bulk_create(Dataset(project=project, title=f"{n}") for n in range(datasets))
        Image.objects.bulk_create(Image(dataset=d, name=f"{n}", width=1, height=1) for n, d in enumerate(made))
        tag.datasets.set(made)
    for edit in range(edits):
        Dataset.objects.filter(project=project).update(title=f"edit {edit}")


ENTRY = """
  totalCount feedCursor pageInfo { hasNextPage hasPreviousPage startCursor endCursor }
  edges { cursor node { id action objectLabel snapshot user { username deleted }
    changes { field old new oldLabel newLabel added removed } ... on DatasetHistory { record { title tags } } } }
"""
OWN = f"{{ datasets {{ title history(first: 3) {{ {ENTRY} }} }} }}"


def test_it_shows_what_the_objects_own_page_shows(ask: Ask, admin: User) -> None:
    notebook(3)
    result = ask(OWN)
    assert result.errors is None
    scope: Scope = scope_for(Viewer(user=admin))
    for dataset, shown in zip(Dataset.objects.order_by("pk"), result.data["datasets"], strict=True):
        filters = timeline.Filters(models=["example_schema.dataset"], object_id=str(dataset.pk))
        page = timeline.page(scope, filters, first=3)
        history = shown["history"]
        assert [edge["cursor"] for edge in history["edges"]] == [entry.cursor for entry in page.entries]
        assert [edge["node"]["snapshot"] for edge in history["edges"]] == [entry.snapshot for entry in page.entries]
        changes = [[c.field for c in entry.changes or ()] for entry in page.entries]
        assert [[c["field"] for c in edge["node"]["changes"]] for edge in history["edges"]] == changes
        assert history["totalCount"] == timeline.count(scope, filters) == 6
        assert history["feedCursor"]
        assert history["pageInfo"]["hasNextPage"] is True
        assert history["pageInfo"]["hasPreviousPage"] is False


@pytest.mark.parametrize(
    "query",
    [
        OWN,
        "{ datasets { history { edges { node { id } } } } }",
        "{ datasets { history(last: 2) { edges { node { changes { field } } } } } }",
        """{ datasets { newest: history(first: 1) { edges { node { id } } } creations:
             history(filters: {actions: [CREATE]}, first: 2) { totalCount edges { node { user { deleted } } } } } }""",
        f"{{ paged(pagination: {{limit: 1000}}) {{ history(first: 2) {{ {ENTRY} }} }} }}",
        f"{{ projects {{ datasets {{ history(first: 2) {{ {ENTRY} }} }} }} }}",
        f"{{ images {{ history(first: 2) {{ {ENTRY} }} }} }}",
    ],
    ids=["all of it", "ids", "last", "aliased", "paged", "nested", "uuid"],
)
def test_it_costs_the_same_for_1_10_and_100_objects(ask: Ask, query: str) -> None:
    costs = []
    for parents in (1, 10, 100):
        for model in (Image, Dataset, Tag, Project):
            model.objects.all().delete()
        notebook(parents)
        ask(query)
        with counted() as queries:
            result = ask(query)
        assert result.errors is None
        costs.append(len(queries))
    assert costs == [costs[0]] * 3


@pytest.mark.parametrize("asynchronous", [False, True], indirect=True, ids=["sync", "async"])
def test_objects_that_came_by_a_join_cost_the_same_under_the_optimizer(asynchronous: bool, admin: User) -> None:
    query = f"{{ images {{ dataset {{ history(first: 2) {{ {ENTRY} }} project {{ history {{ totalCount }} }} }} }} }}"
    notebook(2)
    run(OPTIMIZED, asynchronous, query, admin)  # the first cursor of a process takes looking up which database this is
    costs = []
    for parents in (1, 10, 100):
        notebook(parents)
        with counted() as queries:
            result = run(OPTIMIZED, asynchronous, query, admin)
        assert result.errors is None
        costs.append(len(queries))
    assert costs == [costs[0]] * 3


@pytest.mark.parametrize("asynchronous", [False, True], indirect=True, ids=["sync", "async"])
def test_nested_lists_of_many_objects_cost_the_same_under_the_optimizer(asynchronous: bool, admin: User) -> None:
    query = f"{{ projects {{ history {{ totalCount }} datasets {{ history(first: 2) {{ {ENTRY} }} }} }} }}"
    costs = []
    for parents in (1, 10, 100):
        for number in range(Project.objects.count(), parents):
            project = Project.objects.create(name=f"{number}")
            Dataset.objects.bulk_create(Dataset(project=project, title=f"{n}") for n in range(3))
        run(OPTIMIZED, asynchronous, query, admin)
        with counted() as queries:
            result = run(OPTIMIZED, asynchronous, query, admin)
        assert result.errors is None
        assert len(result.data["projects"]) == parents
        assert all(len(project["datasets"]) == 3 for project in result.data["projects"])
        costs.append(len(queries))
    assert costs == [costs[0]] * 3


def test_objects_of_a_plain_list_cost_the_same_in_asynchronous_code(admin: User) -> None:
    query = f"{{ listed {{ history(first: 2) {{ {ENTRY} }} }} }}".replace("feedCursor", "")
    costs = []
    for parents in (1, 10, 100):
        notebook(parents)
        with counted() as queries:
            result = run(PLAIN, True, query, admin)
        assert result.errors is None
        same = run(PLAIN, False, query.replace("listed", "datasets"), admin)
        assert result.data["listed"] == same.data["datasets"]
        costs.append(len(queries))
    assert costs == [costs[0]] * 3


def test_a_walk_with_filters(ask: Ask) -> None:
    notebook(1, edits=5)
    query = """query($after: String, $filters: HistoryFilter) {
        datasets { history(first: 2, after: $after, filters: $filters) {
          pageInfo { hasNextPage hasPreviousPage endCursor } edges { node { objectLabel } } } } }"""
    labels, after, sides = [], None, []
    for _ in range(3):
        [dataset] = ask(query, after=after, filters={"actions": ["UPDATE"], "until": "2100-01-01T00:00Z"}).data[
            "datasets"
        ]
        page = dataset["history"]
        labels += [edge["node"]["objectLabel"] for edge in page["edges"]]
        sides.append((page["pageInfo"]["hasPreviousPage"], page["pageInfo"]["hasNextPage"]))
        after = page["pageInfo"]["endCursor"]
    assert labels == ["edit 4", "edit 3", "edit 2", "edit 1", "edit 0", "0"]
    assert sides == [(False, True), (True, True), (True, False)]


def test_a_get_queryset_of_the_types_own_stays(ask: Ask) -> None:
    for name in ("shown", "hidden", "shown, too"):
        Tag.objects.create(name=name)
    result = ask("{ tags { name history { totalCount } } }")
    assert result.errors is None
    assert result.data == {"tags": [{"name": name, "history": {"totalCount": 1}} for name in ("shown", "shown, too")]}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ("first: -1", "BAD_PAGE"),
        ("first: 1, last: 1", "BAD_PAGE"),
        ("first: 101", "LIMIT_EXCEEDED"),
        ('after: "x"', "BAD_CURSOR"),
        ('filters: {models: ["no.model"]}', "BAD_FILTER"),
        ('filters: {objectId: "1"}', "BAD_FILTER"),
    ],
)
def test_bad_arguments_are_null_with_a_code_for_each_object(ask: Ask, arguments: str, code: str) -> None:
    notebook(2)
    result = ask(f"{{ datasets {{ title history({arguments}) {{ totalCount }} }} }}")
    assert codes(result) == [code, code]
    assert [dataset["history"] for dataset in result.data["datasets"]] == [None, None]


def test_another_model_in_the_filter_matches_nothing(ask: Ask) -> None:
    notebook(1)
    query = "{ datasets { history(filters: {models: [%s]}) { totalCount edges { cursor } } } }"
    other = ask(query % '"example_schema.tag"').data["datasets"][0]["history"]
    own = ask(query % '"example_schema.tag", "example_schema.dataset"').data["datasets"][0]["history"]
    assert other == {"totalCount": 0, "edges": []}
    assert own["totalCount"] == 6


def test_who_may_not_read(ask: Ask, django_user_model: type[User]) -> None:
    notebook(1)
    assert codes(ask(OWN, user=None)) == ["UNAUTHENTICATED"]
    eve = django_user_model.objects.create_user("eve")
    assert codes(ask(OWN, user=eve)) == ["FORBIDDEN"]
    eve.user_permissions.add(Permission.objects.get(codename="view_historicaltag"))
    eve = User.objects.get(pk=eve.pk)
    [dataset] = ask("{ datasets { history { totalCount edges { cursor } } } }", user=eve).data["datasets"]
    assert dataset["history"] == {"totalCount": 0, "edges": []}


def test_instances_that_outlive_an_operation_show_each_caller_his_own(
    admin: User, django_user_model: type[User]
) -> None:
    """A list that an application keeps in memory: what was read for one user is not given to the next."""
    notebook(2)
    kept = list(koherent.graphql.peers.with_peers(Dataset.objects.all()))

    @strawberry.type
    class Kept:
        @strawberry.field
        def datasets(self) -> list[DatasetNode]:
            return kept

    schema = strawberry.Schema(query=Kept, types=[koherent.graphql.Query])
    query = "{ datasets { history { totalCount } } }"
    first = run(schema, False, query, admin)
    assert first.data == {"datasets": [{"history": {"totalCount": 6}}] * 2}
    assert codes(run(schema, False, query, django_user_model.objects.create_user("eve"))) == ["FORBIDDEN"] * 2
    Dataset.objects.update(title="later")
    assert run(schema, False, query, admin).data == {"datasets": [{"history": {"totalCount": 7}}] * 2}


def test_a_type_of_an_untracked_model_says_so(admin: User) -> None:
    @strawberry_django.type(User)
    class UserNode:
        username: strawberry.auto
        history: HistoryEntryConnection | None = history_field()

    @strawberry.type
    class Users(koherent.graphql.Query):
        users: list[UserNode] = strawberry_django.field()

    result = run(strawberry.Schema(query=Users), False, "{ users { history { totalCount } } }", admin)
    assert result.errors is not None
    assert "history_field() is for types of tracked models; User has no HistoryField." in result.errors[0].message


def test_a_date_before_everything_is_empty(ask: Ask) -> None:
    notebook(1)
    until = dt.datetime(2001, 1, 1, tzinfo=dt.UTC).isoformat()
    query = "query($until: DateTime) { datasets { history(filters: {until: $until}) { totalCount edges { cursor } } } }"
    assert ask(query, until=until).data == {"datasets": [{"history": {"totalCount": 0, "edges": []}}]}


@pytest.mark.parametrize("schema", [PLAIN, OPTIMIZED], ids=["plain", "optimized"])
def test_objects_of_the_past_have_a_history_and_relations_too(schema: strawberry.Schema, admin: User) -> None:
    notebook(1)
    then = Dataset.history.earliest("history_id").history_date
    query = (
        "query($at: DateTime!) { past(at: $at) { title project { name datasets { title } } history { totalCount } } }"
    )
    result = run(schema, False, query, admin, at=then.isoformat())
    assert result.errors is None
    project = {"name": "project of 1", "datasets": [{"title": "0"}]}
    assert result.data["past"] == [{"title": "0", "project": project, "history": {"totalCount": 6}}]
