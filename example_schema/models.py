"""A small laboratory notebook: projects hold datasets, datasets hold images, tags describe datasets."""

import uuid

from django.db import models

from koherent.fields import HistoricForeignKey, HistoryField
from koherent.models import KoherentHistoryModel


class Project(KoherentHistoryModel):
    name = models.CharField(max_length=200, unique=True)
    description = models.TextField(blank=True, help_text="What the project is about.")
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Tag(KoherentHistoryModel):
    name = models.CharField(max_length=50, unique=True)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name


class Dataset(KoherentHistoryModel):
    class Status(models.TextChoices):
        DRAFT = "draft", "Draft"
        PUBLISHED = "published", "Published"

    project = HistoricForeignKey(Project, on_delete=models.CASCADE, related_name="datasets")
    title = models.CharField(max_length=200, help_text="A short title for people.")
    status = models.CharField(max_length=20, choices=Status.choices, default=Status.DRAFT)
    access_notes = models.TextField(blank=True, help_text="Who may use the data, and why.")
    tags = models.ManyToManyField(Tag, related_name="datasets", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    history = HistoryField(label="title", m2m_fields=[tags], redacted_fields=("access_notes",))

    def __str__(self) -> str:
        return self.title


class Image(KoherentHistoryModel):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    dataset = models.ForeignKey(Dataset, on_delete=models.CASCADE, related_name="images")
    name = models.CharField(max_length=200)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    exposure_ms = models.DecimalField(max_digits=9, decimal_places=3, null=True, blank=True)
    extra = models.JSONField(default=dict, blank=True)
    history = HistoryField(label="name")

    def __str__(self) -> str:
        return self.name
