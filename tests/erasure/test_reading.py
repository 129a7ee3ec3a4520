"""What clients see of an erasure through GraphQL, and what erasing inside a unit of work does."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import RequestFactory

import koherent
from example_schema.models import Dataset, Project
from example_schema.schema import schema
from koherent.policy import Viewer, scope_for
from koherent.revert import RevertStatus, plan_assignation, revert_assignation
from koherent.timeline import Filters, page

pytestmark = pytest.mark.django_db

QUERY = """
query($filters: HistoryFilter) {
  history(filters: $filters) {
    edges { node {
      action origin objectLabel snapshot
      changes { field old new redacted erased }
      ... on DatasetHistory { record { title accessNotes } }
    } }
  }
}
"""


def ask(user: Any, key: Any) -> list[dict[str, Any]]:
    request = RequestFactory().post("/")
    request.user = user
    filters = {"models": ["example_schema.dataset"], "objectId": str(key)}
    result = schema.execute_sync(QUERY, variable_values={"filters": filters}, context_value={"request": request})
    assert result.errors is None
    assert result.data is not None
    return [edge["node"] for edge in result.data["history"]["edges"]]


@pytest.fixture
def dataset() -> Dataset:
    dataset = Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Ada's", access_notes="for Ada")
    dataset.title = "Craters of Ada"
    dataset.save()
    return dataset


def test_clients_see_that_and_what_was_erased(dataset: Dataset, admin: User) -> None:
    koherent.erase(dataset, fields=["title"])
    erasure, change, creation = ask(admin, dataset.pk)
    assert (erasure["action"], erasure["origin"]) == ("UPDATE", "ERASURE")
    assert erasure["changes"] == []
    titled = {"field": "title", "old": None, "new": None, "redacted": False, "erased": True}
    assert [c for c in change["changes"] if c["field"] != "updated_at"] == [titled]
    assert titled in creation["changes"]
    for node in (erasure, change, creation):
        assert node["record"]["title"] is None
        assert node["snapshot"]["title"] is None
        assert node["objectLabel"] == f"dataset {dataset.pk}"


def test_what_was_erased_is_redacted_all_the_same(dataset: Dataset, accounts: dict[str, User]) -> None:
    koherent.erase(dataset, fields=["access_notes"])
    *_, creation = ask(accounts["viewer"], dataset.pk)
    [hidden] = [c for c in creation["changes"] if c["field"] == "access_notes"]
    assert hidden == {"field": "access_notes", "old": None, "new": None, "redacted": True, "erased": True}


def test_entries_that_still_wait_in_a_unit_of_work_are_erased_too(admin: User) -> None:
    with koherent.atomic():
        project = Project.objects.create(name="secret")
        project.name = "more secret"
        project.save()
        report = koherent.erase(project, fields=["name"])
    assert report.entries == 3
    assert set(Project.history.values_list("name", flat=True)) == {""}
    entries = page(scope_for(Viewer(user=admin)), Filters(models=["example_schema.project"])).entries
    assert [(e.row.history_type, e.row.origin) for e in entries] == [("~", "erasure"), ("~", "change"), ("+", "change")]


@pytest.mark.parametrize("gone", [False, True])
def test_a_plan_from_before_the_erasure_is_not_applied_after_it(dataset: Dataset, gone: bool) -> None:
    """What was shown would write values that are wiped by now."""
    with koherent.audit(assignation_id="work"):
        if gone:
            Dataset.objects.all().delete()
        else:
            Dataset.objects.update(title="Seas", status="published")
    plan = plan_assignation(None, "work")
    koherent.erase(Dataset(pk=dataset.pk), fields=["title"])
    report = revert_assignation(None, "work", expected_plan=plan.plan)
    assert report.status is RevertStatus.CONFLICTED
    again = revert_assignation(None, "work")
    if gone:
        # A title may be neither null nor left out.
        assert again.status is RevertStatus.CONFLICTED
        assert not Dataset.objects.exists()
    else:
        assert again.status is RevertStatus.APPLIED
        assert Dataset.objects.values_list("title", "status").get() == ("Seas", "draft")
