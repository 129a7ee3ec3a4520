"""An apply that fails anywhere leaves nothing behind."""

import pytest
from django.db import DatabaseError, connection

from example_schema.models import Dataset, Image, Project, Tag
from koherent import audit
from koherent.revert import RevertStatus, revert_assignation
from tests.failing import FailAt
from tests.revert.test_assignation import entry_counts, state

pytestmark = pytest.mark.django_db(transaction=True)


def test_failing_each_statement_in_turn_leaves_all_or_nothing() -> None:
    project = Project.objects.create(name="Moon")
    dataset = Dataset.objects.create(project=project, title="Craters")
    dataset.tags.add(Tag.objects.create(name="raw"))
    Image.objects.create(dataset=dataset, name="a", width=1, height=2)
    before = state()
    with audit(assignation_id="work"):
        Image.objects.all().delete()
        dataset.tags.set([Tag.objects.create(name="fresh")])
        Dataset.objects.update(title="Seas")
    after, entries = state(), entry_counts()
    number = 0
    while True:
        try:
            with connection.execute_wrapper(FailAt(number)):
                report = revert_assignation(None, "work")
        except DatabaseError:
            assert (state(), entry_counts()) == (after, entries)
            number += 1
            continue
        break
    assert number > 15
    assert (report.status, state()) == (RevertStatus.APPLIED, before)
