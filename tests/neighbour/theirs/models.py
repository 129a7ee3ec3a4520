"""Models that django-simple-history tracks alone."""

from django.db import models
from simple_history.models import HistoricalRecords


class Label(models.Model):
    name = models.CharField(max_length=20)


class Plain(models.Model):
    name = models.CharField(max_length=20)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, null=True)
    labels = models.ManyToManyField(Label)
    history = HistoricalRecords(m2m_fields=[labels])
