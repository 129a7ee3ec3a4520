"""The field that makes a model tracked."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.contenttypes.fields import GenericRelation
from django.db import models
from simple_history.models import HistoricalRecords, HistoricForeignKey, HistoricOneToOneField

from koherent import managers, registry, signal
from koherent.models import HistoryEntryModel, history_indexes

__all__ = ["GenericRelation", "HistoricForeignKey", "HistoricOneToOneField", "HistoryField"]


class HistoryField(HistoricalRecords):  # type: ignore[misc]  # django-simple-history ships no types
    """Records every change of the model it stands on, in a table of django-simple-history's shape.

    Takes the arguments of ``HistoricalRecords`` and three of its own: ``redacted_fields`` (names of fields that are
    stored, and shown only to whom the policy names), ``label`` (field name, or callable on the history row, for
    ``objectLabel``) and ``type_name`` (GraphQL name, where two models share one).
    """

    def __init__(
        self,
        *args: Any,
        redacted_fields: Iterable[str] = (),
        label: str | Callable[[models.Model], str] | None = None,
        type_name: str | None = None,
        bases: tuple[type[models.Model], ...] = (HistoryEntryModel,),
        **kwargs: Any,
    ) -> None:
        if not any(issubclass(base, HistoryEntryModel) for base in bases):
            bases = (HistoryEntryModel, *bases)
        super().__init__(*args, bases=bases, **kwargs)
        self.redacted_fields = tuple(redacted_fields)
        self.label = label
        self.type_name = type_name

    def finalize(self, sender: type[models.Model], **kwargs: Any) -> None:
        """Make the history model once the model's class is there, and hook its write paths."""
        super().finalize(sender, **kwargs)
        attribute = getattr(sender._meta, "simple_history_manager_attribute", None)
        if attribute != self.manager_name or sender in registry._tracked:
            return
        tracked = registry.add(sender, getattr(sender, attribute).model, self)
        managers.audit_managers(sender)
        signal.connect(tracked)

    def _get_history_id_field(self) -> Any:
        # django-simple-history's default is a 32-bit AutoField, which a busy trail outgrows.
        return super()._get_history_id_field() if self.history_id_field else models.BigAutoField(primary_key=True)

    def _get_history_change_reason_field(self) -> Any:
        return self.history_change_reason_field or models.TextField(null=True)

    def copy_fields(self, model: type[models.Model]) -> dict[str, Any]:
        """The columns of the history table; no index without a query that uses it."""
        copied: dict[str, Any] = super().copy_fields(model)
        for field in copied.values():
            field.db_index = False
        return copied

    @property
    def _date_indexing(self) -> bool:
        # The date is indexed together with the id, which is how pages read it.
        return False

    def get_meta_options(self, model: type[models.Model]) -> dict[str, Any]:
        """With the indexes that reading and writing the trail need, and no others."""
        options: dict[str, Any] = super().get_meta_options(model)
        options["indexes"] = history_indexes(model._meta.label, model._meta.pk.name)
        return options

    # django-simple-history's own handlers stay connected by its finalize() and do nothing: signal.py and managers.py
    # see every path, these see some.
    def post_save(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""

    def post_delete(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""

    def pre_delete(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""

    def m2m_changed(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""
