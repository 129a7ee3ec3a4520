from django.db import models

import koherent.signal  # This is required to register the signal handlers
from koherent.fields import HistoricForeignKey, HistoryField  # noqa: F401  # as the document imports it
from koherent.models import KoherentHistoryModel


class MyModel(KoherentHistoryModel):
    your_field = models.CharField(max_length=255)
    history = HistoryField()
