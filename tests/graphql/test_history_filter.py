"""A team's own models, filtered by their history: each object once, and never "all"."""

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
import strawberry
import strawberry_django
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from strawberry_django.optimizer import DjangoOptimizerExtension

import koherent
from example_schema.models import Dataset, Project
from koherent.graphql import HistoryFilterMixin
from koherent.policy import Policy, Viewer
from koherent.registry import TrackedModel
from tests.graphql.asking import codes, context

pytestmark = pytest.mark.django_db
Ask = Callable[..., Any]


@strawberry_django.filter_type(Dataset)
class DatasetFilter(HistoryFilterMixin):
    title: strawberry.auto


@strawberry_django.filter_type(Project)
class ProjectFilter:
    name: strawberry.auto
    datasets: DatasetFilter | None


@strawberry_django.filter_type(User)
class UserFilter(HistoryFilterMixin):
    pass


@strawberry_django.type(Dataset, filters=DatasetFilter)
class DatasetNode:
    title: strawberry.auto


@strawberry_django.type(Project, filters=ProjectFilter)
class ProjectNode:
    name: strawberry.auto
    datasets: list[DatasetNode]


@strawberry_django.type(User, filters=UserFilter)
class UserNode:
    username: strawberry.auto


@strawberry.type
class Query(koherent.graphql.Query):
    datasets: list[DatasetNode] = strawberry_django.field()
    projects: list[ProjectNode] = strawberry_django.field()
    users: list[UserNode] = strawberry_django.field()


SCHEMA = strawberry.Schema(query=Query, extensions=[DjangoOptimizerExtension])
QUERY = "query($history: HistoryFilter) { datasets(filters: {history: $history}) { title } }"


class OwnRows(Policy):
    """Shows only the entries that the viewer made."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        return queryset.filter(actor_id=str(viewer.user.pk))


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest, admin: User) -> Ask:
    def sync(query: str, user: Any = admin, **variables: Any) -> Any:
        return SCHEMA.execute_sync(query, variables, context_value=context(user))

    async def asynchronous(query: str, user: Any = admin, **variables: Any) -> Any:
        return await SCHEMA.execute(query, variables, context_value=context(user))

    return sync if request.param == "sync" else async_to_sync(asynchronous)


@pytest.fixture
def titles(ask: Ask) -> Callable[..., list[str]]:
    def found(user: Any = None, **history: Any) -> list[str]:
        result = ask(QUERY, history=history, **({} if user is None else {"user": user}))
        assert result.errors is None
        return [dataset["title"] for dataset in result.data["datasets"]]

    return found


@pytest.fixture
def ada(django_user_model: type[User]) -> User:
    return django_user_model.objects.create_user("ada")


@pytest.fixture
def notebook(ada: User) -> Project:
    """Three datasets; "b" and "c" were changed by Ada, "c" thrice and under an assignation."""
    project = Project.objects.create(name="Moon")
    made = {title: Dataset.objects.create(project=project, title=title) for title in "abc"}
    with koherent.audit(user=ada, app="desk"):
        made["b"].save_base()
        Dataset.objects.filter(title="b").update(access_notes="1")
    for number in range(3):
        with koherent.audit(user=ada, assignation_id="task"):
            Dataset.objects.filter(title="c").update(access_notes=str(number))
    return project


@pytest.mark.usefixtures("notebook")
def test_objects_that_an_assignation_touched_each_once(titles: Callable[..., list[str]], ada: User) -> None:
    assert titles(assignationId="task") == ["c"]
    assert titles(users=[str(ada.pk)]) == ["b", "c"]
    assert titles(users=[str(ada.pk)], since=(timezone.now() - dt.timedelta(hours=1)).isoformat()) == ["b", "c"]
    assert titles(users=[str(ada.pk)], since=timezone.now().isoformat()) == []
    assert titles(apps=["desk"]) == ["b"]
    assert titles(actions=["CREATE"]) == titles() == ["a", "b", "c"]
    assert titles(assigned=True, actions=["UPDATE"]) == ["c"]
    assert titles(users=[str(ada.pk)], assignationId="other") == []


@pytest.mark.usefixtures("notebook")
def test_empty_lists_and_other_models_match_nothing_and_null_filters_nothing(
    ask: Ask, titles: Callable[..., list[str]]
) -> None:
    assert titles(users=[]) == titles(models=[]) == titles(models=["example_schema.tag"]) == []
    assert titles(models=["example_schema.dataset", "example_schema.tag"]) == ["a", "b", "c"]
    assert len(ask(QUERY, history=None).data["datasets"]) == 3


@pytest.mark.usefixtures("notebook")
def test_it_combines_with_the_teams_own_filters(ask: Ask) -> None:
    either = '{ datasets(filters: {title: "a", OR: {history: {apps: ["desk"]}}}) { title } }'
    assert ask(either).data == {"datasets": [{"title": "a"}, {"title": "b"}]}
    negated = '{ datasets(filters: {NOT: {history: {apps: ["desk"]}}}) { title } }'
    assert ask(negated).data == {"datasets": [{"title": "a"}, {"title": "c"}]}


@pytest.mark.usefixtures("notebook")
def test_it_filters_through_a_relation(ask: Ask) -> None:
    Project.objects.create(name="Mars")
    query = '{ projects(filters: {datasets: {history: {assignationId: "%s"}}}) { name datasets { title } } }'
    assert ask(query % "task").data == {"projects": [{"name": "Moon", "datasets": [{"title": t} for t in "abc"]}]}
    assert ask(query % "other").data == {"projects": []}


@pytest.mark.usefixtures("notebook")
def test_it_is_one_statement_without_a_join(admin: User) -> None:
    with CaptureQueriesContext(connection) as queries:
        SCHEMA.execute_sync(QUERY, {"history": {"assignationId": "task"}}, context_value=context(admin))
    [statement] = [query["sql"] for query in queries if "FROM" in query["sql"]]
    objects, exists, _ = statement.partition("EXISTS(SELECT")
    assert exists
    assert "JOIN" not in objects
    assert "DISTINCT" not in statement


@pytest.mark.usefixtures("notebook")
def test_who_may_not_see_history_gets_the_code_and_no_object(ask: Ask, ada: User, django_user_model: Any) -> None:
    def refused(user: Any, **history: Any) -> Any:
        result = ask(QUERY, user=user, history=history)
        assert result.data is None
        return codes(result)

    assert refused(None) == ["UNAUTHENTICATED"]
    assert refused(ada) == ["FORBIDDEN"]
    reader = django_user_model.objects.create_user("reader")
    reader.user_permissions.add(Permission.objects.get(codename="view_historicaltag"))
    hidden = ask(QUERY, user=reader, history={"actions": ["CREATE"]})
    assert (hidden.errors, hidden.data) == (None, {"datasets": []})
    for bad in (
        {"models": ["no.model"]},
        {"models": ["example_schema.dataset"]},
        {"objectId": "1"},
        {"since": "2026-02-01T00:00Z", "until": "2026-01-01T00:00Z"},
    ):
        assert refused(reader, **bad) == ["BAD_FILTER"]


@pytest.mark.usefixtures("notebook")
def test_entries_that_the_policy_hides_match_nothing(
    titles: Callable[..., list[str]], ada: User, settings: Any
) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.OwnRows"}
    ada.user_permissions.add(Permission.objects.get(codename="view_historicaldataset"))
    ada = User.objects.get(pk=ada.pk)
    assert titles(user=ada) == ["b", "c"]
    assert titles(user=ada, actions=["CREATE"]) == []


def test_a_filter_of_an_untracked_model_says_so(ask: Ask) -> None:
    result = ask("{ users(filters: {history: {}}) { username } }")
    assert result.errors is not None
    assert "HistoryFilterMixin is for filters of tracked models; User has no HistoryField." in result.errors[0].message
