"""A project that django-simple-history tracks, and, once it is adopted, koherent."""

import uuid
from typing import Any

from django.conf import settings
from django.db import models
from simple_history.models import HistoricalRecords, HistoricForeignKey


def history(**options: Any) -> Any:
    """The field before and after the adoption."""
    if "koherent" not in settings.INSTALLED_APPS:
        return HistoricalRecords(**options)
    from koherent.fields import HistoryField

    if getattr(settings, "ADOPTION_WIDE", False):
        return HistoryField(**options)
    return HistoryField(history_id_field=models.AutoField(primary_key=True), **options)


class Site(models.Model):
    slug = models.SlugField(unique=True)
    name = models.CharField(max_length=100)
    history = history()

    def __str__(self) -> str:
        return self.name


class Tag(models.Model):
    name = models.CharField(max_length=100)

    def __str__(self) -> str:
        return self.name


class Sample(models.Model):
    site = HistoricForeignKey(Site, on_delete=models.CASCADE)
    code = models.CharField(max_length=40, unique=True)
    keeper = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True)
    price = models.DecimalField(max_digits=9, decimal_places=2, null=True)
    taken_on = models.DateField(db_index=True, null=True)
    tags = models.ManyToManyField(Tag)
    history = history(m2m_fields=[tags])

    def __str__(self) -> str:
        return self.code


class Photo(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    sample = models.OneToOneField(Sample, on_delete=models.CASCADE)
    history = history()

    def __str__(self) -> str:
        return str(self.sample)


class Neighbour(models.Model):
    name = models.CharField(max_length=100)
    history = HistoricalRecords()

    def __str__(self) -> str:
        return self.name
