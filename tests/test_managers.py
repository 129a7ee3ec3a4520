"""Audited managers cover whatever Django hands out, and stay out of the way of everything else."""

import pickle
from typing import Any

import pytest

from example_schema.models import Dataset, Image, Project
from koherent import checks
from koherent.managers import AuditedManagerMixin, AuditedQuerySetMixin


@pytest.mark.parametrize("model", [Project, Dataset, Image])
def test_every_manager_of_a_tracked_model_is_audited(model: type[Project]) -> None:
    handed_out = [model.objects, model._default_manager, model._base_manager, *model._meta.managers]
    assert all(isinstance(manager, AuditedManagerMixin) for manager in handed_out)
    assert isinstance(model.objects.filter(pk__isnull=True).order_by("pk"), AuditedQuerySetMixin)


def test_related_managers_are_audited() -> None:
    assert isinstance(Project(pk=1).datasets.all(), AuditedQuerySetMixin)
    assert isinstance(Dataset(pk=1).images.all(), AuditedQuerySetMixin)


def test_the_example_passes_the_checks() -> None:
    assert checks.check_fields(None) == []


@pytest.mark.django_db
def test_querysets_and_prefetched_objects_can_be_cached() -> None:
    """Django's cache pickles them; what comes out of it records as what went in."""
    project = Project.objects.create(name="Cells")
    Dataset.objects.create(project=project, title="Plate 1")
    found = {
        "queryset": Project.objects.filter(name="Cells"),
        "values": Project.objects.values_list("name", flat=True),
        "prefetched": Project.objects.prefetch_related("datasets", "datasets__tags").get(),
    }
    kept: dict[str, Any] = pickle.loads(pickle.dumps(found))
    assert list(kept["queryset"]) == [kept["prefetched"]] == [project]
    assert list(kept["values"]) == ["Cells"]
    assert [dataset.title for dataset in kept["prefetched"].datasets.all()] == ["Plate 1"]
    assert type(kept["queryset"]) is type(Project.objects.all())
    kept["queryset"].update(description="1")
    kept["prefetched"].datasets.all().update(title="Plate 2")
    assert list(Project.history.order_by("pk").values_list("description", flat=True)) == ["", "1"]
    assert list(Dataset.history.order_by("pk").values_list("title", flat=True)) == ["Plate 1", "Plate 2"]
