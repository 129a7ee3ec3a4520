"""A model that koherent tracks, and that refers to theirs."""

from django.db import models
from theirs.models import Plain

from koherent.fields import HistoryField


class Tracked(models.Model):
    plain = models.ForeignKey(Plain, on_delete=models.CASCADE)
    plains = models.ManyToManyField(Plain, related_name="+")
    history = HistoryField(m2m_fields=[plains])
