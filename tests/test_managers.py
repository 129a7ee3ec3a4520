"""Audited managers cover whatever Django hands out, and stay out of the way of everything else."""

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
