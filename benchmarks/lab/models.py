"""Five models of eight fields; samples have readings, so that a deletion cascades."""

from typing import Any

from django.db import models

from benchmarks.packages import current

package = current()


class Fields(models.Model):
    """Seven fields of the usual kinds, the key among them."""

    name = models.CharField(max_length=100)
    status = models.CharField(max_length=20, choices=[("new", "New"), ("done", "Done")], default="new")
    quantity = models.IntegerField(default=0)
    weight = models.DecimalField(max_digits=10, decimal_places=3, default=0)
    active = models.BooleanField(default=False)
    measured_at = models.DateTimeField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return self.name


@package.track
class Sample(Fields):
    note = models.TextField(default="")
    history: Any = package.field("samples")


@package.track
class Reading(Fields):
    sample = models.ForeignKey(Sample, on_delete=models.CASCADE, related_name="readings")
    history: Any = package.field("readings")


@package.track
class Plate(Fields):
    note = models.TextField(default="")
    history: Any = package.field("plates")


@package.track
class Image(Fields):
    note = models.TextField(default="")
    history: Any = package.field("images")


@package.track
class Protocol(Fields):
    note = models.TextField(default="")
    history: Any = package.field("protocols")


MODELS: tuple[Any, ...] = (Sample, Reading, Plate, Image, Protocol)
