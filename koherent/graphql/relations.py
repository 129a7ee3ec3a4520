"""Lets ``strawberry.auto`` read django-simple-history's relation fields, which strawberry-django does not know."""

from django.db import models
from simple_history.models import HistoricForeignKey, HistoricOneToOneField
from strawberry_django.fields import types


def register() -> None:
    """Give each the types of the Django field it stands for, unless somebody has chosen others. Idempotent."""
    for historic, plain in ((HistoricForeignKey, models.ForeignKey), (HistoricOneToOneField, models.OneToOneField)):
        for mapping in (
            types.field_type_map,
            types.input_field_type_map,
            types.relay_field_type_map,
            types.relay_input_field_type_map,
        ):
            mapping.setdefault(historic, mapping[plain])
