"""``koherent.testing``: assertions that pass for what was recorded, and say what was recorded otherwise."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.contrib.auth.models import User

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent.testing import AuditTrail, assert_nothing_recorded, assert_recorded
from koherent.testing.plugin import audit_trail as audit_trail

pytestmark = pytest.mark.django_db
ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs" / "testing.md"


@pytest.fixture
def dataset(db: None) -> Dataset:
    return Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters")


def test_the_fixture_knows_what_was_recorded_since(dataset: Dataset, admin: User, audit_trail: AuditTrail) -> None:
    assert audit_trail.entries() == []
    with koherent.audit(user=admin, app="nightly", assignation_id="run-7", reason="tidy", batch=3):
        Dataset.objects.update(title="Seas")
    Tag.objects.create(name="raw")
    assert [(e.tracked.label, e.action) for e in audit_trail.entries()] == [
        ("example_schema.dataset", "~"),
        ("example_schema.tag", "+"),
    ]
    (entry,) = audit_trail.assert_recorded(
        dataset,
        times=1,
        action="update",
        origin="change",
        user=admin,
        app="nightly",
        assignation_id="run-7",
        reason="tidy",
        metadata={"batch": 3},
        changes={"title": ("Craters", "Seas")},
    )
    assert entry.object_label == "Seas"
    assert [e.action for e in audit_trail.assert_recorded(Tag, user=None, changes={"name": "raw"})] == ["+"]
    audit_trail.assert_nothing_recorded(Project)


def test_links_foreign_keys_and_decimals_are_compared_as_they_are(dataset: Dataset, audit_trail: AuditTrail) -> None:
    tag, other = Tag.objects.create(name="raw"), Project.objects.create(name="Mars")
    dataset.tags.add(tag)
    audit_trail.assert_recorded(dataset, changes={"tags": [tag]})
    dataset.tags.clear()
    audit_trail.assert_recorded(dataset, changes={"tags": ([], [tag.pk])})
    Dataset.objects.update(project=other)
    audit_trail.assert_recorded(dataset, changes={"project": (dataset.project, other)})
    image = Image.objects.create(dataset=dataset, name="a", width=1, height=2, exposure_ms="1.5")
    audit_trail.assert_recorded(image, action="create", changes={"exposure_ms": "1.500", "width": 1})
    key = image.pk
    image.delete()
    audit_trail.assert_recorded(Image, action="delete", changes={"name": ("a", None)})
    assert len(audit_trail.entries(Image(pk=key))) == 2


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        ({"action": "create"}, "action is 'update', not 'create'"),
        ({"origin": "revert"}, "origin is 'change', not 'revert'"),
        ({"app": None}, "app is 'nightly', not None"),
        ({"assignation_id": "other"}, "assignation_id is 'run-7', not 'other'"),
        ({"reason": "why"}, "reason is None, not 'why'"),
        ({"user": None}, "user is 'root', not None"),
        ({"metadata": {"batch": None}}, "metadata['batch'] is None, not None"),
        ({"changes": {"title": "Seas", "status": "published"}}, "status did not change"),
        ({"changes": {"title": "Other"}}, "title changed from 'Craters' to 'Seas', not as 'Other'"),
        ({"changes": {"title": ("Other", "Seas")}}, "title changed from 'Craters' to 'Seas', not as ('Other', 'Seas')"),
        ({"changes": {}}, "title changed too, from 'Craters' to 'Seas'"),
        ({"times": 2}, "Expected 2 entries with any values; 1 of the 1 that were recorded are so:"),
    ],
)
def test_a_failure_says_what_was_recorded(
    dataset: Dataset, admin: User, audit_trail: AuditTrail, expected: dict[str, object], message: str
) -> None:
    with koherent.audit(user=admin, app="nightly", assignation_id="run-7"):
        dataset.title = "Seas"
        dataset.save()
    with pytest.raises(AssertionError) as raised:
        audit_trail.assert_recorded(dataset, **expected)  # type: ignore[arg-type]
    text = str(raised.value)
    assert message in text
    recorded = f"  update example_schema.dataset {dataset.pk} by root with nightly in run-7: title: 'Craters' to 'Seas'"
    assert recorded in text


def test_blocks_of_code(dataset: Dataset) -> None:
    with assert_recorded(dataset, changes={"title": "Seas"}, times=1) as trail:
        Dataset.objects.update(title="Seas")
    assert len(trail.entries()) == 1
    with assert_nothing_recorded():
        dataset.refresh_from_db()
        dataset.save(update_fields=["title"])
    with pytest.raises(AssertionError, match="0 of the 0"), assert_recorded(dataset):
        dataset.save(update_fields=["title"])
    message = re.escape("Nothing was to be recorded, but:\n  create example_schema.tag")
    with pytest.raises(AssertionError, match=message):  # noqa: SIM117
        with assert_nothing_recorded():
            Tag.objects.create(name="raw")


def test_errors_of_the_block_are_its_own() -> None:
    with pytest.raises(ZeroDivisionError), assert_recorded(Tag):
        raise ZeroDivisionError


def test_what_is_no_expectation_is_refused(audit_trail: AuditTrail) -> None:
    with pytest.raises(TypeError, match="User is not tracked"):
        audit_trail.assert_recorded(User)
    with pytest.raises(TypeError, match="action is one of create, update, delete, not 'change'"):
        audit_trail.assert_recorded(Tag, action="change")
    with pytest.raises(TypeError, match="assignation"):
        audit_trail.assert_recorded(Tag, assignation="run-7")


def test_the_snippets_of_the_page_run(tmp_path: Path) -> None:
    """As a team's own tests, in a process of their own, with the example as the project."""
    for block in DOCS.read_text(encoding="utf-8").split("```python\n")[1:]:
        code = block.partition("```")[0]
        (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")  # ours may be in a folder above
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("EXAMPLE_", "PYTEST_"))}
    environment |= {"PYTHONPATH": str(ROOT), "DJANGO_SETTINGS_MODULE": "example_schema.settings"}
    environment["EXAMPLE_SQLITE"] = str(tmp_path / "snippets.sqlite3")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env=environment,
    )
    assert (done.returncode, "4 passed" in done.stdout) == (0, True), done.stdout
