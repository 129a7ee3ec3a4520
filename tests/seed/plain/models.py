"""A model that somebody else tracks, with django-simple-history alone."""

from django.db import models
from simple_history.models import HistoricalRecords


class Plain(models.Model):
    name = models.CharField(max_length=20)
    history = HistoricalRecords()
