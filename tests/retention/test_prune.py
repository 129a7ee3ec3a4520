"""A prune takes what the rules say and nothing else, and readers never get a wrong answer for it."""

import datetime as dt
import random
from typing import Any

import pytest
from django.test import override_settings
from django.utils import timezone

import koherent
from example_schema.models import Dataset, Project, Tag
from koherent import commits, retention, timeline
from koherent.errors import BadInput, HistoryPruned
from koherent.models import Assignation, Pruned
from koherent.policy import Viewer, scope_for
from koherent.retention import ModelReport, pruning
from koherent.revert import RevertStatus, revert_assignation
from tests.retention.histories import DAY, chance_history, days_ago, expected_to_go, told, write

prune = retention.prune
pytestmark = pytest.mark.django_db

PROJECT = "example_schema.project"


def versions(days: list[float], pk: int = 1, *, actions: str = "") -> list[int]:
    """Entries of one project, so many days old; returns their ids."""
    rows = [
        {
            "id": pk,
            "name": f"v{number}",
            "history_date": days_ago(age),
            "history_type": actions[number : number + 1] or "~",
        }
        for number, age in enumerate(days)
    ]
    return [row.pk for row in write(Project, rows)]


def kept(model: Any = Project) -> list[int]:
    return list(model.history.order_by("history_id").values_list("history_id", flat=True))


def listed() -> set[str]:
    ids = Assignation.objects.values_list("assignation_id", flat=True)
    return {id for id in ids if id is not None}


def answer(viewer: Viewer, pk: int, at: dt.datetime) -> Any:
    try:
        entry = timeline.as_of(scope_for(viewer), PROJECT, str(pk), at)
    except HistoryPruned:
        return HistoryPruned
    return None if entry is None else entry.key


@pytest.mark.parametrize("seed", range(25))
def test_random_histories_lose_exactly_what_the_rules_say(
    seed: int, viewer: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(pruning, "BATCH", chance.choice([1, 2, 3, 7, 1000]))
    objects = list(range(1, 7))
    for model in (Project, Tag):
        write(
            model,
            [
                {"id": pk, "name": str(number), "history_type": action, "origin": origin, "history_date": date}
                for number, (pk, action, origin, date) in enumerate(chance_history(chance, objects, 60))
            ],
        )
    moments = [days_ago(chance.uniform(-1, 70)) for _ in range(12)]
    before = {(pk, at): answer(viewer, pk, at) for pk in objects for at in moments}
    entries, tags = told(Project), kept(Tag)
    keep = chance.choice([None, 0, 1, 2, 5])
    older = days_ago(chance.uniform(0, 60)) if keep is None or chance.random() < 0.5 else None
    arguments: dict[str, Any] = {"before": older, "keep": keep, "models": [PROJECT.upper()]}
    foreseen = prune(**arguments, dry_run=True)
    assert kept() == [entry.history_id for entry in entries]
    report = prune(**arguments)
    going = expected_to_go(entries, report.cutoff, keep)
    assert kept() == [entry.history_id for entry in entries if entry.history_id not in going]
    assert report.models == foreseen.models == (ModelReport(label=PROJECT, entries=len(going), links=0),)
    assert kept(Tag) == tags
    for (pk, at), earlier in before.items():
        after = answer(viewer, pk, at)
        assert after == earlier or (at < report.cutoff and after is HistoryPruned)
    assert prune(**arguments).entries == 0


def test_the_newest_old_entry_stays_as_it_was_and_the_next_one_is_told_against_it(viewer: Viewer) -> None:
    _, baseline, young = versions([30, 20, 1], actions="+~~")
    row = Project.history.filter(pk=baseline).values().get()
    assert prune(before=days_ago(10)).entries == 1
    assert kept() == [baseline, young]
    assert Project.history.filter(pk=baseline).values().get() == row
    newest, oldest = timeline.page(scope_for(viewer)).entries
    assert [(c.field, c.old, c.new) for c in newest.changes or ()] == [("name", "v1", "v2")]
    assert oldest.changes is None
    assert answer(viewer, 1, days_ago(25)) is HistoryPruned
    assert answer(viewer, 1, days_ago(15)) == (PROJECT, baseline)


def test_an_object_that_came_back_is_not_taken_for_a_new_one(viewer: Viewer) -> None:
    _, deleted, again = versions([50, 40, 30], actions="+-+")
    prune(before=days_ago(10))
    assert kept() == [deleted, again]
    assert answer(viewer, 1, days_ago(45)) is HistoryPruned
    assert answer(viewer, 1, days_ago(35)) == (PROJECT, deleted)


def test_nothing_goes_that_the_feed_may_be_asked_for() -> None:
    ids = versions([30, 6.9, 6, 5])
    assert prune(keep=0).entries == 0
    with override_settings(KOHERENT={"FEED_RETENTION_DAYS": 4}):
        assert prune(keep=0).entries == 3
    assert kept() == ids[3:]


def test_age_and_number_narrow_each_other() -> None:
    ids = versions([50, 40, 30, 20, 10])
    assert prune(before=days_ago(25), keep=3, dry_run=True).entries == 1
    assert prune(before=days_ago(45), keep=1, dry_run=True).entries == 0
    assert prune(before=days_ago(15), keep=1).entries == 3
    assert kept() == ids[3:]


def test_links_of_pruned_entries_go_with_them() -> None:
    project = Project.objects.create(name="Moon")
    tags = [Tag.objects.create(name=name) for name in "abc"]
    dataset = Dataset.objects.create(project=project, title="Craters")
    dataset.tags.set(tags)
    dataset.title = "Craters, large"
    dataset.save()
    _, second, third = kept(Dataset)
    Dataset.history.filter(pk__lte=second).update(history_date=days_ago(30))
    links = Dataset.history.get(pk=second).tags.model
    assert links.objects.filter(history_id=second).count() == 3
    Dataset.history.filter(pk=third).update(history_date=days_ago(20))
    report = prune(before=days_ago(10), models=["example_schema.dataset"])
    assert report.models == (ModelReport(label="example_schema.dataset", entries=2, links=3),)
    assert {row.history_id for row in links.objects.all()} == {third}


def test_assignations_without_entries_go_and_others_stay() -> None:
    for name, age in (("old", 40), ("older", 50), ("young", 3)):
        with koherent.audit(assignation_id=name):
            Project.objects.create(name=name)
        Assignation.objects.filter(assignation_id=name).update(started_at=days_ago(age))
    Project.history.update(history_date=days_ago(40))
    Assignation.objects.create(assignation_id="no entry yet", started_at=days_ago(0.5))
    Assignation.objects.create(assignation_id="no entry left", started_at=days_ago(30))
    # Each object's newest entry stays, and with it its assignation.
    assert prune(keep=0).assignations == 1
    assert set(Assignation.objects.values_list("assignation_id", flat=True)) == {
        "old",
        "older",
        "young",
        "no entry yet",
    }
    for project in Project.objects.all():
        project.name += "!"
        project.save()
    Project.history.update(history_date=days_ago(40))
    report = prune(keep=0)
    assert (report.entries, report.assignations) == (3, 2)
    assert listed() == {"young", "no entry yet"}


def test_interrupted_it_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    for pk in range(1, 9):
        versions([30, 20, 15], pk)
    monkeypatch.setattr(pruning, "BATCH", 4)
    looked_at: list[int] = []

    def stop(count: int) -> None:
        looked_at.append(count)
        if len(looked_at) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prune(keep=0, progress=stop)
    left = len(kept())
    assert 8 < left < 24
    assert prune(keep=0).entries == left - 8
    assert sum(looked_at) == 12


@pytest.mark.parametrize(
    "arguments", [{}, {"keep": -1}, {"keep": 1, "models": ["example_schema.nothing"]}, {"models": ["auth.user"]}]
)
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        prune(**arguments)


def test_what_no_feed_delivers_leaves_a_trace_that_ends_no_cursor() -> None:
    versions([30, 20])
    Project.history.update(position=0)
    assert prune(keep=0).entries == 1
    assert list(Pruned.objects.values_list("model", "history_id", "position")) == [("example_schema.project", 0, 0)]
    ids = versions([30, 20, 10], pk=2)
    assert prune(before=timezone.now() - 8 * DAY).entries == 2
    [trace] = Pruned.objects.all()
    assert (trace.model, trace.history_id) == (PROJECT, ids[1])


@pytest.mark.django_db(transaction=True)
def test_an_assignation_that_goes_on_for_long_renews_its_row() -> None:
    with koherent.audit(assignation_id="long"):
        Project.objects.create(name="first")
    Assignation.objects.update(started_at=days_ago(30))
    Project.history.all().delete()
    commits._forget()
    # Whoever looks for the row now finds it, and must not rely on it: a prune may be about to take it.
    with koherent.audit(assignation_id="long"):
        Project.objects.create(name="second")
        Project.objects.create(name="third")
    assert Assignation.objects.filter(assignation_id="long").count() == 2
    Project.history.all().delete()
    assert prune(keep=0).assignations == 1
    assert listed() == {"long"}


def test_a_row_of_history_that_is_dated_back_has_an_assignation_of_today() -> None:
    with koherent.audit(assignation_id="import"):
        project = Project(name="old")
        project._history_date = days_ago(400)  # type: ignore[attr-defined]
        project.save()
    assert Assignation.objects.get().started_at > days_ago(0.01)


def test_an_assignation_that_lost_an_entry_is_not_undone_in_part() -> None:
    with koherent.audit(assignation_id="work"):
        busy, quiet = Project.objects.create(name="busy"), Project.objects.create(name="quiet")
    with koherent.audit(assignation_id="other"):
        other = Tag.objects.create(name="other")
    for _ in range(3):
        busy.name += "!"
        busy.save()
    Project.history.update(history_date=days_ago(30))
    assert prune(keep=2).entries == 1
    # Of "work" only the entry of the quiet project is left: undoing that would be half of it.
    assert Project.history.filter(assignation_id="work").count() == 1
    with pytest.raises(HistoryPruned):
        revert_assignation(None, "work")
    assert Project.objects.filter(pk=quiet.pk).exists()
    assert revert_assignation(None, "other").status is RevertStatus.APPLIED
    assert not Tag.objects.filter(pk=other.pk).exists()
