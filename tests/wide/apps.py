"""The Django app of the wide test project."""

from django.apps import AppConfig


class WideConfig(AppConfig):
    """Models of every kind; no migrations, its tables come from the models."""

    name = "tests.wide"
    default_auto_field = "django.db.models.BigAutoField"
