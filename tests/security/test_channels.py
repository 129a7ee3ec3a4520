"""Small ways in which what is hidden could show, one by one."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import export, policy, timeline
from koherent.diff import ForeignKeyLabels
from koherent.policy import Policy, Viewer, scope_for
from koherent.registry import by_label, tracked_models
from koherent.revert import ConflictCode, RevertStatus, plan_assignation, revert_assignation, revert_to
from tests.security import questions
from tests.security.policies import Counting
from tests.security.world import SECRET, World, fresh

pytestmark = pytest.mark.django_db
PROJECT, DATASET, TAG = "example_schema.project", "example_schema.dataset", "example_schema.tag"


def lesser(world: World) -> Viewer:
    return Viewer(user=fresh(world.lesser))


def test_the_policy_is_asked_as_often_for_many_entries_as_for_few(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting()
    monkeypatch.setattr(policy, "get_policy", lambda: counting)
    for assignation in ["many"] * 8 + [f"many {number}" for number in range(8)]:
        with world.openly(assignation):
            image = Image.objects.create(dataset=world.dataset, name="many", width=1, height=1)
            image.dataset = Dataset.objects.create(project=world.project, title="many")
            image.save()

    def asked(query: str, **variables: Any) -> dict[str, int]:
        counting.asked.clear()
        assert world.ask(world.lesser, query, **variables).errors is None
        return {name: counting.asked.count(name) for name in sorted(set(counting.asked))}

    few = asked(questions.HISTORY, first=3, filters={"assignationId": "many"})
    assert asked(questions.HISTORY, first=24, filters={"assignationId": "many"}) == few
    assert few.keys() == {"redacted_fields", "viewable_models", "visible_entries", "visible_metadata"}
    lists = questions.ASSIGNATIONS
    assert asked(lists, first=3).keys() == few.keys()
    assert asked(lists, first=3) == asked(lists, first=8)
    own = "{ datasets(pagination: {limit: %s}) { history { edges { node { metadata changes { oldLabel } } } } } }"
    assert asked(own % 2) == asked(own % 12)
    plan = (
        "mutation($id: ID!) { revertAssignation(assignationId: $id, dryRun: true) { ... on RevertReport { status } } }"
    )
    assert asked(plan, id="late")["may_revert"] == 1
    assert asked(plan, id="many")["may_revert"] == 2  # two models


def test_metadata_is_what_the_policy_shows_also_in_an_export(world: World) -> None:
    for scope, shown in ((scope_for(lesser(world)), {"ticket"}), (export.unrestricted(), {"ticket", "address"})):
        records = [export.record(entry) for entry in export.entries(scope)]
        own = [record for record in records if record["assignationId"] == "work" and record["app"] == "lab"]
        assert [set(record["metadata"]) for record in own] == [shown] * 3
        assert (SECRET in json.dumps(records)) == (shown != {"ticket"})


def test_metadata_that_is_no_object_is_none(world: World) -> None:
    Project.history.update(metadata=["x"])
    assert {e.metadata.__class__ for e in timeline.page(scope_for(lesser(world))).entries} == {dict}


def test_objects_without_history_are_named_to_those_who_may_view_them(lesser: User) -> None:
    tracked = by_label(DATASET)
    assert tracked is not None
    foreign: Any = Permission._meta.get_field("content_type")

    class Pointing:
        fields = (foreign,)

    key = ContentType.objects.get_for_model(Project).pk

    def label(user: User) -> str | None:
        labels = ForeignKeyLabels(scope_for(Viewer(user=fresh(user))))
        labels.want(Pointing, None, {"content_type_id": key})  # type: ignore[arg-type]
        labels.load()
        return labels.get(foreign, key)

    assert label(lesser) is None
    lesser.user_permissions.add(Permission.objects.get(codename="view_contenttype"))
    assert label(lesser) == str(ContentType.objects.get(pk=key))


def test_what_str_reads_is_for_those_who_see_everything(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows(Policy):
        """Hides no row, so that names are those of live objects."""

    monkeypatch.setattr(policy, "get_policy", Rows)
    monkeypatch.setattr(Project, "__str__", lambda self: f"read by str: {self.name}")
    query = '{ history(filters: {models: ["example_schema.dataset"]}) { edges { node { changes { newLabel } } } } }'
    assert "read by str" in str(world.ask(world.greater, query).data)
    assert "Moon" in str(world.ask(world.lesser, query).data)
    assert "read by str" not in str(world.ask(world.lesser, query).data)


def test_entries_of_a_revert_are_counted_as_far_as_they_show(world: World, settings: Any) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.NoDatasets"}
    with koherent.audit(assignation_id="both"):
        project = Project.objects.create(name="P")
        Dataset.objects.create(project=project, title="D")
    report = revert_assignation(Viewer(user=world.greater), "both")
    assert len(report.entry_keys) == 2
    with koherent.audit(assignation_id="again"):
        project = Project.objects.create(name="P")
        Dataset.objects.create(project=project, title="D")
    settings.KOHERENT = {"POLICY": f"{__name__}.NoRevertsOfDatasets"}
    query = """mutation { revertAssignation(assignationId: "again") { ... on RevertReport { status
        entries(first: 1) { totalCount pageInfo { hasNextPage } edges { cursor node { model } } } } } }"""
    result = world.ask(world.lesser, query)
    assert result.errors is None
    assert result.data["revertAssignation"] == {
        "status": "APPLIED",
        "entries": {
            "totalCount": 1,
            "pageInfo": {"hasNextPage": False},
            "edges": [{"cursor": "0", "node": {"model": PROJECT}}],
        },
    }


class NoDatasets(Policy):
    """Hides what reverts wrote about datasets, from all."""

    def visible_entries(self, viewer: Viewer, tracked: Any, queryset: Any) -> Any:
        return queryset.exclude(origin="revert") if tracked.label == DATASET else queryset


NoRevertsOfDatasets = NoDatasets


def test_a_later_entry_that_is_hidden_is_not_later(world: World) -> None:
    entry = Project.history.filter(pk__gt=0, app="lab").latest("history_id")
    with world.secretly("z"):
        Project.objects.filter(pk=entry.id).update(description="and back")
        Project.objects.filter(pk=entry.id).update(description=entry.description)
    assert Project.history.filter(id=entry.id).latest("history_id").pk > entry.pk
    report = revert_to(lesser(world), PROJECT, entry.pk, expected_latest=(PROJECT, entry.pk), dry_run=True)
    assert report.status is RevertStatus.UNCHANGED
    stale = revert_to(Viewer(user=world.greater), PROJECT, entry.pk, expected_latest=(PROJECT, entry.pk), dry_run=True)
    assert stale.status is RevertStatus.CONFLICTED


def test_a_plan_does_not_change_with_what_is_hidden_behind_a_conflict(world: World) -> None:
    with world.openly("rename"):
        Project.objects.filter(pk=world.project.pk).update(name="Mond")
    with world.secretly("taken"):
        taken = Project.objects.create(name="Moon")
    plan = plan_assignation(lesser(world), "rename")
    [conflict] = plan.steps[0].conflicts
    assert (conflict.code, conflict.fields, conflict.entry) == (ConflictCode.UNIQUE_TAKEN, ("name",), None)
    with world.secretly("taken"):
        Project.objects.filter(pk=taken.pk).update(description="moved on")
    again = plan_assignation(lesser(world), "rename")
    assert (again.plan, again.steps[0].conflicts) == (plan.plan, plan.steps[0].conflicts)
    assert plan_assignation(Viewer(user=world.greater), "rename").plan != plan.plan


class HidesNames(Policy):
    """A unique value is hidden."""

    def redacted_fields(self, viewer: Viewer, tracked: Any) -> frozenset[str]:
        return frozenset() if viewer.is_superuser or tracked.label != TAG else frozenset({"name"})


def test_whose_a_hidden_unique_value_is_does_not_show(world: World, settings: Any) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.HidesNames"}
    tag = Tag.objects.create(name="one")
    with koherent.audit(assignation_id="away"):
        tag.delete()
    Tag.objects.create(name="one")
    world.lesser.user_permissions.add(*Permission.objects.filter(codename__in=["view_historicaltag", "add_tag"]))
    [seen] = plan_assignation(Viewer(user=world.greater), "away").steps[0].conflicts
    assert seen.entry is not None
    [conflict] = plan_assignation(lesser(world), "away").steps[0].conflicts
    assert (conflict.code, conflict.fields, conflict.entry) == (ConflictCode.UNIQUE_TAKEN, ("name",), None)


def test_what_a_validator_quotes_may_be_of_a_hidden_row(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def clean(self: Any) -> None:
        raise ValidationError(f"taken by {SECRET}")

    monkeypatch.setattr(Project, "clean", clean)
    for viewer, message in ((None, f"taken by {SECRET}"), (lesser(world), "not valid")):
        [conflict] = plan_assignation(viewer, "late").steps[0].conflicts
        assert conflict.code is ConflictCode.INVALID
        assert message in conflict.message
        assert (SECRET in conflict.message) == (SECRET in message)


def test_hidden_kinds_of_referrers_are_one_conflict(world: World) -> None:
    assert len(tracked_models()) == 4
    with world.openly("made"):
        dataset = Dataset.objects.create(project=world.project, title="New")
    with world.secretly("later"):
        Image.objects.create(dataset=dataset, name=SECRET, width=1, height=1)
    [conflict] = plan_assignation(lesser(world), "made").steps[0].conflicts
    assert (conflict.code, conflict.entry) == (ConflictCode.STILL_REFERENCED, None)
    assert conflict.message == "Other rows still refer to it."
