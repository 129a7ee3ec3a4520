"""The trail is read in one order, completely, in a constant number of statements, and as far as the policy allows."""

import base64
import datetime as dt
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import timeline
from koherent.errors import BadCursor, BadFilter, BadPage, HistoryPruned, LimitExceeded
from koherent.models import Assignation
from koherent.policy import Policy, Scope, Viewer, scope_for
from koherent.registry import TrackedModel, tracked_models
from koherent.timeline import Filters

pytestmark = pytest.mark.django_db

LABELS = ["example_schema.dataset", "example_schema.image", "example_schema.project", "example_schema.tag"]
DATASET, IMAGE, PROJECT, TAG = LABELS


class OwnRows(Policy):
    """Shows only the entries that the viewer made."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        return queryset.filter(actor_id=str(viewer.user.pk))


class Joining(Policy):
    """Narrows by a join that repeats rows."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        if tracked.model is Dataset:
            return queryset.filter(historicaldataset_tags__isnull=False)
        return queryset


def user(name: str, *, root: bool = False) -> Any:
    users: Any = get_user_model().objects
    return users.create_superuser(name) if root else users.create_user(name)


@pytest.fixture
def root() -> Any:
    return user("root", root=True)


@pytest.fixture
def scope(root: Any) -> Scope:
    return scope_for(Viewer(user=root))


@pytest.fixture
def reader() -> Any:
    """May read everything, is no superuser."""
    account = user("reader")
    account.user_permissions.set(Permission.objects.filter(codename__startswith="view_historical"))
    return account


def with_policy(account: Any, policy: Policy) -> Scope:
    return Scope(viewer=Viewer(user=account), policy=policy, models=tracked_models())


def story() -> tuple[Project, Dataset]:
    """Three models, three actions, links."""
    project = Project.objects.create(name="Moon")
    tag = Tag.objects.create(name="night")
    dataset = Dataset.objects.create(project=project, title="Craters")
    dataset.tags.add(tag)
    dataset.title = "Craters, large"
    dataset.save()
    image = Image.objects.create(dataset=dataset, name="one.tif", width=1, height=2)
    image.delete()
    return project, dataset


def everything() -> set[tuple[str, int]]:
    tables = [(tracked.label, tracked.history_model._default_manager) for tracked in tracked_models()]
    return {(label, pk) for label, rows in tables for pk in rows.values_list("pk", flat=True)}


def same_moment(moment: dt.datetime) -> None:
    for tracked in tracked_models():
        tracked.history_model._default_manager.update(history_date=moment)


def walk(scope: Scope, size: int, filters: Filters = Filters()) -> list[tuple[str, int]]:
    keys, after = [], None
    while True:
        page = timeline.page(scope, filters, first=size, after=after)
        keys += [entry.key for entry in page.entries]
        if not page.has_next_page:
            return keys
        after = page.entries[-1].cursor


def walk_back(scope: Scope, size: int, filters: Filters = Filters()) -> list[tuple[str, int]]:
    keys: list[tuple[str, int]] = []
    before = None
    while True:
        page = timeline.page(scope, filters, last=size, before=before)
        keys = [entry.key for entry in page.entries] + keys
        if not page.has_previous_page:
            return keys
        before = page.entries[0].cursor


@pytest.mark.parametrize("equal", [True, False], ids=["equal timestamps", "own timestamps"])
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_walk_gives_every_entry_once_in_both_directions(scope: Scope, size: int, equal: bool) -> None:
    story()
    story_two = Project.objects.create(name="Mars")
    Dataset.objects.create(project=story_two, title="Dunes")
    if equal:
        same_moment(timezone.now())
    forwards = walk(scope, size)
    assert len(forwards) == len(set(forwards))
    assert set(forwards) == everything()
    assert walk_back(scope, size) == forwards
    entries = timeline.page(scope).entries
    assert [e.key for e in entries] == [e.key for e in sorted(entries, key=lambda e: e.position, reverse=True)]


def test_both_cursors_bound_a_page(scope: Scope) -> None:
    story()
    entries = timeline.page(scope).entries
    between = timeline.page(scope, first=10, after=entries[0].cursor, before=entries[4].cursor)
    assert [e.key for e in between.entries] == [e.key for e in entries[1:4]]
    assert timeline.page(scope, last=2).entries[-1].key == entries[-1].key
    nothing = timeline.page(scope, first=0)
    assert (nothing.entries, nothing.has_next_page) == ([], True)


def test_an_entry_says_who_what_and_why(scope: Scope, root: Any) -> None:
    ada = user("ada")
    with koherent.audit(user=ada, app="desk", assignation_id="task-1", reason="tidy up", ticket=7):
        project = Project.objects.create(name="Moon")
    [entry] = timeline.page(scope).entries
    assert (entry.action, entry.object_id, entry.object_label) == ("+", str(project.pk), "Moon")
    assert entry.user == (str(ada.pk), "ada", False)
    assert (entry.row.app, entry.row.assignation_id, entry.reason) == ("desk", "task-1", "tidy up")
    assert entry.row.metadata == {"ticket": 7}
    key = ada.pk
    ada.delete()
    [entry] = timeline.page(scope).entries
    assert entry.user == (str(key), "ada", True)


def test_changes_snapshots_and_labels(scope: Scope) -> None:
    project, dataset = story()
    other = Project.objects.create(name="Mars")
    dataset.project = other
    dataset.status = Dataset.Status.PUBLISHED
    dataset.save()
    entry = timeline.page(scope, Filters(models=[DATASET]), first=1).entries[0]
    assert entry.changes is not None
    changes = {change.field: change for change in entry.changes}
    assert set(changes) == {"project", "status", "updated_at"}
    moved = changes["project"]
    assert (moved.old, moved.new, moved.old_label, moved.new_label) == (project.pk, other.pk, "Moon", "Mars")
    assert (changes["status"].old_label, changes["status"].new_label) == ("Draft", "Published")
    tag = Tag.objects.get()
    assert entry.snapshot["tags"] == [tag.pk]
    assert entry.snapshot["project"] == other.pk
    assert entry.values["project_id"] == other.pk
    links = [
        change
        for e in timeline.page(scope, Filters(models=[DATASET])).entries
        for change in e.changes or ()
        if change.field == "tags"
    ]
    assert [(c.added, c.removed) for c in links] == [([tag.pk], [])]
    gone, created = timeline.page(scope, Filters(models=[IMAGE])).entries
    assert {c.field: (c.old, c.new) for c in gone.changes or ()}["width"] == (1, None)
    assert {c.field: (c.old, c.new) for c in created.changes or ()} == {
        "dataset": (None, dataset.pk),
        "name": (None, "one.tif"),
        "width": (None, 1),
        "height": (None, 2),
        "extra": (None, {}),
    }


def test_the_label_of_a_related_object_that_is_gone_is_null(scope: Scope) -> None:
    _, dataset = story()
    dataset.delete()
    created = timeline.page(scope, Filters(models=[IMAGE], actions=["+"])).entries[0]
    change = next(c for c in created.changes or () if c.field == "dataset")
    assert change.new is not None
    assert change.new_label is None


def test_an_update_whose_entry_before_is_gone_has_no_changes(scope: Scope) -> None:
    project = Project.objects.create(name="Moon")
    project.name = "Luna"
    project.save()
    Project.history.first().prev_record.delete()
    [entry] = timeline.page(scope).entries
    assert (entry.action, entry.changes) == ("~", None)


def test_a_field_that_the_model_did_not_have_is_absent(scope: Scope) -> None:
    from koherent import registry
    from koherent.models import FieldSet

    project = Project.objects.create(name="Moon")
    FieldSet.objects.create(digest=1, model=PROJECT, names=["id", "name", "gone"])
    registry._known_field_sets.cache_clear()
    try:
        Project.history.update(field_set=1)
        project.description = "Dust."
        project.name = "Luna"
        project.save()
        update, creation = timeline.page(scope).entries
    finally:
        registry._known_field_sets.cache_clear()
    assert set(creation.snapshot) == {"id", "name"}
    assert [c.field for c in update.changes or ()] == ["name"]
    assert update.snapshot["description"] == "Dust."


def test_redacted_fields_show_that_they_changed_and_nothing_more(reader: Any) -> None:
    _, dataset = story()
    dataset.access_notes = "secret"
    dataset.save()
    entry = timeline.page(scope_for(Viewer(user=reader)), Filters(models=[DATASET]), first=1).entries[0]
    change = next(c for c in entry.changes or () if c.field == "access_notes")
    assert change.redacted
    assert (change.old, change.new) == (None, None)
    assert entry.snapshot["access_notes"] is None
    assert entry.values["access_notes"] is None


def test_the_object_label_comes_from_visible_fields_only(root: Any) -> None:
    class HidesNames(Policy):
        def redacted_fields(self, viewer: Viewer, tracked: TrackedModel) -> frozenset[str]:
            return frozenset({"name"})

    project, _ = story()
    scope = with_policy(root, HidesNames())
    for entry in timeline.page(scope, Filters(models=[PROJECT])).entries:
        assert entry.object_label == f"project {project.pk}"
    created = timeline.page(scope, Filters(models=[DATASET], actions=["+"])).entries[0]
    change = next(c for c in created.changes or () if c.field == "project")
    assert change.new_label == f"project {project.pk}"


@pytest.mark.parametrize("label", ["example_schema.nothing", "auth.user", ""])
def test_an_unknown_label_is_a_bad_filter(scope: Scope, label: str) -> None:
    with pytest.raises(BadFilter):
        timeline.page(scope, Filters(models=[label]))
    with pytest.raises(BadFilter):
        timeline.as_of(scope, label, "1", timezone.now())


def test_a_hidden_label_fails_like_an_unknown_one(root: Any) -> None:
    only_tags = Scope(
        viewer=Viewer(user=root), policy=Policy(), models=tuple(t for t in tracked_models() if t.label == TAG)
    )
    story()
    messages = []
    for label in (PROJECT, "example_schema.nothing"):
        with pytest.raises(BadFilter) as caught:
            timeline.count(only_tags, Filters(models=[label]))
        messages.append(caught.value.message.replace(label, "?"))
    assert messages[0] == messages[1]
    assert {e.tracked.label for e in timeline.page(only_tags).entries} == {TAG}


def test_filters(scope: Scope, root: Any) -> None:
    ada = user("ada")
    with koherent.audit(user=ada, app="desk", assignation_id="task"):
        project, _ = story()
    Project.objects.create(name="Mars")

    def found(**filters: Any) -> int:
        total = timeline.count(scope, Filters(**filters))
        assert len(timeline.page(scope, Filters(**filters)).entries) == total
        return total

    everything_ = len(everything())
    assert found() == everything_
    assert found(models=[]) == found(users=[]) == found(apps=[]) == found(actions=[]) == 0
    assert found(models=[PROJECT, PROJECT.upper()]) == 2
    assert found(models=[PROJECT], object_id=str(project.pk)) == 1
    assert found(models=[PROJECT], object_id=str(10**30)) == 0
    assert found(users=[str(ada.pk)]) == found(apps=["desk"]) == found(assignation_id="task") == everything_ - 1
    assert found(assigned=False) == 1
    assert found(assigned=True) == everything_ - 1
    assert found(actions=["-"]) == 1
    assert found(users=["a\x00b", "\ud800"]) == found(assignation_id="\x00") == 0
    last = timeline.page(scope).entries[0].date
    assert found(since=last) == 1
    assert found(until=last) == everything_ - 1
    assert found(since=last, until=last) == 0


@pytest.mark.parametrize(
    "filters",
    [
        Filters(object_id="1"),
        Filters(object_id="1", models=[PROJECT, TAG]),
        Filters(object_id="1", models=[]),
        Filters(object_id="one", models=[PROJECT]),
        Filters(object_id="one", models=[IMAGE]),
        Filters(since=timezone.now(), until=timezone.now() - dt.timedelta(1)),
        Filters(since=dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14)))),
    ],
)
def test_bad_filters(scope: Scope, filters: Filters) -> None:
    with pytest.raises(BadFilter):
        timeline.page(scope, filters)
    with pytest.raises(BadFilter):
        timeline.count(scope, filters)


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "?",
        "é",
        "abc",
        encoded(None),
        encoded([]),
        encoded(["2026-01-01T00:00:00", PROJECT, 1]),
        encoded(["2026-01-01T00:00:00+00:00", PROJECT, "1"]),
        encoded(["2026-01-01T00:00:00+00:00", PROJECT, True]),
        encoded(["2026-01-01T00:00:00+00:00", PROJECT, 2**63]),
        encoded(["0001-01-01T00:00:00+14:00", PROJECT, 1]),
        encoded(["yesterday", PROJECT, 1]),
        encoded(["assignation", 1]),
    ],
)
def test_bad_cursors(scope: Scope, cursor: str) -> None:
    with pytest.raises(BadCursor):
        timeline.page(scope, first=1, after=cursor)
    with pytest.raises(BadCursor):
        timeline.page(scope, last=1, before=cursor)
    if "assignation" not in base64.urlsafe_b64decode(cursor.encode() + b"==").decode("latin-1"):
        with pytest.raises(BadCursor):
            timeline.assignations(scope, after=cursor)


def test_bad_pages(scope: Scope) -> None:
    for first, last in ((-1, None), (None, -1), (1, 1)):
        with pytest.raises(BadPage):
            timeline.page(scope, first=first, last=last)
    with pytest.raises(LimitExceeded):
        timeline.page(scope, first=101)


@pytest.mark.parametrize("name", ["models", "users", "apps", "actions"])
def test_lists_of_a_filter_have_a_limit(scope: Scope, settings: Any, name: str) -> None:
    settings.KOHERENT = {"FILTER_LIMIT": 2}
    value: Any = {"models": TAG, "actions": "+"}.get(name, "1")
    timeline.page(scope, Filters(**dict[str, Any]({name: [value] * 2})))
    with pytest.raises(LimitExceeded) as refused:
        timeline.page(scope, Filters(**dict[str, Any]({name: [value] * 3})))
    assert refused.value.extensions == {"code": "LIMIT_EXCEEDED", "limit": 2}


def queries(run: Callable[[], Any]) -> int:
    with CaptureQueriesContext(connection) as captured:
        run()
    return len(captured)


def test_a_page_costs_the_same_for_one_entry_and_for_twenty(scope: Scope, root: Any) -> None:
    with koherent.audit(user=root, assignation_id="first"):
        story()
    one = queries(lambda: timeline.page(scope, Filters(models=[DATASET]), last=1))
    for number in range(20):
        with koherent.audit(user=root, assignation_id=f"task-{number}"):
            project = Project.objects.create(name=f"Project {number}")
            Dataset.objects.create(project=project, title="Craters")
    pages = [timeline.page(scope, Filters(models=[DATASET]), first=20)]
    assert len(pages[0].entries) == 20
    assert queries(lambda: timeline.page(scope, Filters(models=[DATASET]), first=20)) == one
    # the page with its rows, links, projects, accounts
    assert one == 4
    assert queries(lambda: timeline.count(scope)) == 1
    few = queries(lambda: timeline.assignations(scope, first=1))
    assert few == queries(lambda: timeline.assignations(scope, first=20))
    keys = [entry.key for entry in pages[0].entries]
    assert queries(lambda: timeline.load(scope, keys[:1])) == queries(lambda: timeline.load(scope, keys)) == 5


def test_load_keeps_the_order_and_leaves_out_what_is_unknown(scope: Scope) -> None:
    story()
    keys = walk(scope, 100)
    asked = [keys[3], ("auth.user", 1), keys[0], (PROJECT, 10**30), (PROJECT, 10**6), (PROJECT, -1)]
    assert [entry.key for entry in timeline.load(scope, asked)] == [keys[3], keys[0]]
    assert timeline.get_entry(scope, "auth.user", 1) is None
    found = timeline.get_entry(scope, *keys[0])
    assert found is not None
    assert found.key == keys[0]


def test_what_the_policy_hides_is_neither_shown_counted_nor_compared(reader: Any) -> None:
    scope = with_policy(reader, OwnRows())
    project = Project.objects.create(name="Moon")
    with koherent.audit(user=reader):
        project.name = "Luna"
        project.save()
        dataset = Dataset.objects.create(project=project, title="Craters")
    project.name = "Selene"
    project.save()
    with koherent.audit(user=reader):
        project.name = "Artemis"
        project.save()
    hidden = Project.history.first().prev_record
    assert timeline.count(scope) == len(timeline.page(scope).entries) == 3
    assert timeline.get_entry(scope, PROJECT, hidden.pk) is None
    last, first = timeline.page(scope, Filters(models=[PROJECT])).entries
    assert first.changes is None
    assert [(c.field, c.old, c.new) for c in last.changes or ()] == [("name", "Luna", "Artemis")]
    in_force = timeline.as_of(scope, PROJECT, str(project.pk), hidden.history_date)
    assert in_force is not None
    assert in_force.key == first.key
    assert timeline.as_of(scope, DATASET, str(dataset.pk), timezone.now()) is not None


def test_the_label_of_an_object_that_the_policy_hides_is_null(reader: Any) -> None:
    project = Project.objects.create(name="Moon")
    with koherent.audit(user=reader):
        Dataset.objects.create(project=project, title="Craters")
    [entry] = timeline.page(with_policy(reader, OwnRows())).entries
    change = next(c for c in entry.changes or () if c.field == "project")
    assert (change.new, change.new_label) == (project.pk, None)


def test_a_policy_that_joins_repeats_no_entry(root: Any) -> None:
    _, dataset = story()
    dataset.tags.add(Tag.objects.create(name="day"))
    scope = with_policy(root, Joining())
    keys = walk(scope, 1, Filters(models=[DATASET]))
    assert len(keys) == len(set(keys)) == timeline.count(scope, Filters(models=[DATASET])) == 3


def test_as_of(scope: Scope) -> None:
    before = timezone.now()
    project = Project.objects.create(name="Moon")
    created = Project.history.first()
    project.name = "Luna"
    project.save()
    changed = Project.history.first()
    key = project.pk
    project.delete()

    def named(at: dt.datetime) -> Any:
        entry = timeline.as_of(scope, PROJECT, str(key), at)
        return None if entry is None else (entry.action, entry.values["name"])

    assert named(before) is None
    assert named(created.history_date) == ("+", "Moon")
    assert named(changed.history_date - dt.timedelta(microseconds=1)) == ("+", "Moon")
    assert named(changed.history_date) == ("~", "Luna")
    assert named(timezone.now()) == ("-", "Luna")
    assert timeline.as_of(scope, PROJECT, "12345", timezone.now()) is None
    with pytest.raises(BadFilter):
        timeline.as_of(scope, PROJECT, "moon", timezone.now())


def test_as_of_with_a_skewed_clock_takes_the_highest_id(scope: Scope) -> None:
    project = Project.objects.create(name="Moon")
    project.name = "Luna"
    project._history_date = timezone.now() - dt.timedelta(days=1)  # type: ignore[attr-defined]
    project.save()
    entry = timeline.as_of(scope, PROJECT, str(project.pk), timezone.now())
    assert entry is not None
    assert entry.values["name"] == "Luna"
    latest = timeline.page(scope, last=1).entries[0]
    assert [(c.old, c.new) for c in latest.changes or ()] == [("Moon", "Luna")]


@pytest.mark.parametrize("change", [{"history_type": "~"}, {"origin": "baseline"}])
def test_as_of_before_the_baseline_is_pruned(scope: Scope, change: dict[str, str]) -> None:
    project = Project.objects.create(name="Moon")
    Project.history.update(**change)
    with pytest.raises(HistoryPruned):
        timeline.as_of(scope, PROJECT, str(project.pk), timezone.now() - dt.timedelta(days=1))


def test_assignations_are_summed_up_over_all_models(scope: Scope) -> None:
    ada, bob = user("ada"), user("bob")
    with koherent.audit(user=ada, app="desk", assignation_id="one"):
        project, _ = story()
    with koherent.audit(user=bob, app="bench", assignation_id="one"):
        project.description = "Dust."
        project.save()
    with koherent.audit(user=bob, assignation_id="two"):
        project.delete()
    page = timeline.assignations(scope)
    assert [info.id for info in page.items] == ["two", "one"]
    info = timeline.assignation(scope, "one")
    assert info is not None
    assert info.entry_count == timeline.count(scope, Filters(assignation_id="one"))
    assert [account.name for account in info.users] == ["ada", "bob"]
    assert (info.apps, info.models) == (["bench", "desk"], LABELS)
    dates = [entry.date for entry in timeline.page(scope, Filters(assignation_id="one")).entries]
    assert (info.started_at, info.ended_at) == (min(dates), max(dates))
    first = timeline.assignations(scope, first=1)
    assert first.has_next_page
    second = timeline.assignations(scope, first=1, after=first.items[0].cursor)
    assert ([i.id for i in second.items], second.has_next_page) == (["one"], False)
    assert timeline.assignation(scope, "three") is None
    assert timeline.assignation(scope, "\x00") is None


def test_an_assignation_that_began_twice_is_listed_once(scope: Scope) -> None:
    for id in ("one", "two"):
        with koherent.audit(assignation_id=id):
            Tag.objects.create(name=id)
    Assignation.objects.create(assignation_id="one", started_at=timezone.now())
    assert [info.id for info in timeline.assignations(scope).items] == ["two", "one"]


def test_assignations_without_a_visible_entry_do_not_exist(reader: Any) -> None:
    scope = with_policy(reader, OwnRows())
    with koherent.audit(assignation_id="theirs"):
        project, _ = story()
    with koherent.audit(user=reader, assignation_id="mine"):
        project.name = "Luna"
        project.save()
    with koherent.audit(assignation_id="mine"):
        project.name = "Selene"
        project.save()
    Assignation.objects.filter(assignation_id="theirs").update(reverts="mine")
    Assignation.objects.filter(assignation_id="mine").update(reverts="theirs", reverts_entry=f"{PROJECT}:1")
    [info] = timeline.assignations(scope).items
    assert (info.id, info.entry_count, info.models) == ("mine", 1, [PROJECT])
    assert (info.reverts, info.reverts_entry, info.reverted_by) == (None, None, [])
    assert timeline.assignation(scope, "theirs") is None


def test_reverts_are_linked_both_ways(scope: Scope) -> None:
    with koherent.audit(assignation_id="work"):
        project = Project.objects.create(name="Moon")
    entry = Project.history.first()
    with koherent.audit(assignation_id="undo"):
        project.delete()
    Assignation.objects.filter(assignation_id="undo").update(reverts="work", reverts_entry=f"{PROJECT}:{entry.pk}")
    undo, work = timeline.assignations(scope).items
    assert (undo.reverts, undo.reverts_entry, work.reverted_by) == ("work", (PROJECT, entry.pk), ["undo"])
