"""Random work over the example's models, undone and redone."""

import random

import pytest

from example_schema.models import Dataset, Image, Project, Tag
from koherent import audit
from koherent.revert import RevertPolicy, RevertStatus, revert_assignation
from tests.revert.test_assignation import state

pytestmark = pytest.mark.django_db


def act(chance: random.Random) -> None:
    """One random change; nothing when there is nothing to change."""
    projects, tags = list(Project.objects.order_by("pk")), list(Tag.objects.order_by("pk"))
    datasets, images = list(Dataset.objects.order_by("pk")), list(Image.objects.order_by("name"))
    kind = chance.randrange(10)
    text = f"{chance.random()}"
    if kind == 0:
        Project.objects.create(name=text)
    elif kind == 1:
        Tag.objects.create(name=text)
    elif kind == 2 and projects:
        Dataset.objects.create(project=chance.choice(projects), title=text)
    elif kind == 3 and datasets:
        Image.objects.create(dataset=chance.choice(datasets), name=text, width=1, height=1)
    elif kind == 4 and datasets:
        chance.choice(datasets).tags.set(chance.sample(tags, chance.randint(0, len(tags))))
    elif kind == 5 and datasets:
        changed = chance.choice(datasets)
        changed.title, changed.project = text, chance.choice(projects)
        changed.save()
    elif kind == 6 and images:
        moved = chance.choice(images)
        moved.dataset = chance.choice(datasets)
        moved.save()
    elif kind == 7 and len(tags) > 1:
        one, other = chance.sample(tags, 2)
        Tag.objects.filter(pk=one.pk).update(name="swap")
        Tag.objects.filter(pk=other.pk).update(name=one.name)
        Tag.objects.filter(pk=one.pk).update(name=other.name)
    elif kind == 8:
        pool = [*tags, *datasets, *images]
        if pool:
            chance.choice(pool).delete()
    elif kind == 9 and len(projects) > 2:
        chance.choice(projects).delete()


@pytest.mark.parametrize("seed", range(40))
def test_undo_restores_and_undo_of_undo_is_the_identity(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(25):
        act(chance)
    before = state()
    with audit(assignation_id="work"):
        for _ in range(12):
            act(chance)
    after = state()
    if "work" not in {row.assignation_id for row in Tag.history.all()} and before == after:
        return
    report = revert_assignation(None, "work")
    assert report.status in (RevertStatus.APPLIED, RevertStatus.UNCHANGED), report
    assert state() == before
    assert revert_assignation(None, "work").status is RevertStatus.UNCHANGED
    if report.assignation_id is not None:
        assert revert_assignation(None, report.assignation_id).status is RevertStatus.APPLIED
        assert state() == after


@pytest.mark.parametrize("seed", range(40))
def test_with_later_edits_abort_changes_nothing_and_skip_only_what_it_says(seed: int) -> None:
    chance = random.Random(1000 + seed)
    for _ in range(20):
        act(chance)
    with audit(assignation_id="work"):
        Tag.objects.create(name="always")
        for _ in range(8):
            act(chance)
    for _ in range(8):
        act(chance)
    after = state()
    planned = revert_assignation(None, "work", policy=RevertPolicy.SKIP_CONFLICTS, dry_run=True)
    assert state() == after
    if planned.conflict_count:
        assert revert_assignation(None, "work").status is RevertStatus.CONFLICTED
        assert state() == after
    done = revert_assignation(None, "work", policy=RevertPolicy.SKIP_CONFLICTS, expected_plan=planned.plan)
    changed = {
        (step.tracked.model._meta.label, step.object_id): {change.field for change in step.changes}
        for step in done.steps
        if step.applied
    }
    now = state()
    links_before, links_now = after.pop("links"), now.pop("links")
    for label, rows in now.items():
        for key in {*rows, *after[label]}:
            if rows.get(key) != after[label].get(key):
                assert (label, str(key)) in changed
    for dataset, _tag in links_before ^ links_now:
        assert ("example_schema.Dataset", str(dataset)) in changed
