"""The field that makes a model tracked."""

from collections.abc import Callable, Iterable
from typing import Any

from django.contrib.contenttypes.fields import GenericRelation
from django.db import models
from django.db.models.fields.related import lazy_related_operation
from django.db.models.signals import post_save
from simple_history.manager import HistoryManager
from simple_history.models import HistoricalRecords, HistoricForeignKey, HistoricOneToOneField

from koherent import managers, registry, signal
from koherent.bulk_history import BulkHistoryMixin
from koherent.models import HistoryEntryModel, forget_account, history_indexes

__all__ = ["GenericRelation", "HistoricForeignKey", "HistoricOneToOneField", "HistoryField"]


class HistoryField(HistoricalRecords):  # type: ignore[misc]  # django-simple-history ships no types
    """Records every change of the model it stands on, in a table of django-simple-history's shape.

    Takes the arguments of ``HistoricalRecords`` and four of its own: ``redacted_fields`` (names of fields that are
    stored, and shown only to whom the policy names), ``label`` (field name, or callable on the history row, for
    ``objectLabel``), ``type_name`` (GraphQL name, where two models share one) and ``record_unchanged`` (whether a save
    that changes nothing leaves an entry; None follows the setting ``RECORD_UNCHANGED``). Where a write has no
    instance (``update()`` and the like), ``get_user`` is asked once, with ``instance=None``.
    """

    def __init__(
        self,
        *args: Any,
        redacted_fields: Iterable[str] = (),
        label: str | Callable[[models.Model], str] | None = None,
        type_name: str | None = None,
        record_unchanged: bool | None = None,
        bases: tuple[type[models.Model], ...] = (HistoryEntryModel,),
        user_db_constraint: bool = False,
        **kwargs: Any,
    ) -> None:
        # A constraint on ``history_user`` would lock the account's row with every entry, to guard a key that
        # ``actor_id`` keeps anyway; Django itself clears ``history_user`` when it deletes an account.
        kwargs["user_db_constraint"] = user_db_constraint
        if not any(issubclass(base, HistoryEntryModel) for base in bases):
            bases = (HistoryEntryModel, *bases)
        manager = kwargs.pop("history_manager", HistoryManager)
        kwargs["history_manager"] = type(
            manager.__name__, (BulkHistoryMixin, manager), {"__module__": manager.__module__}
        )
        super().__init__(*args, bases=bases, **kwargs)
        self.redacted_fields = tuple(redacted_fields)
        self.label = label
        self.type_name = type_name
        self.record_unchanged = record_unchanged

    def finalize(self, sender: type[models.Model], **kwargs: Any) -> None:
        """Make the history model once the classes of the model and of its links are there, and hook its write paths."""
        if sender._meta.proxy:
            return  # it shares its concrete model's history, whatever ``inherit`` says
        ours = self.cls is sender or (self.inherit and issubclass(sender, self.cls))
        throughs = [field.remote_field.through for field in self.get_m2m_fields_from_model(sender)] if ours else []
        if any(isinstance(through, str) for through in throughs):
            lazy_related_operation(lambda *_: self._finalize(sender, **kwargs), sender, *throughs)
        else:
            self._finalize(sender, **kwargs)

    def _finalize(self, sender: type[models.Model], **kwargs: Any) -> None:
        super().finalize(sender, **kwargs)
        # It does nothing, and every save would wait for it.
        post_save.disconnect(self.post_save, sender=sender)
        attribute = getattr(sender._meta, "simple_history_manager_attribute", None)
        if attribute != self.manager_name or sender in registry._tracked:
            return
        tracked = registry.add(sender, getattr(sender, attribute).model, self)
        for model in (sender, *sender._meta.get_parent_list()):
            managers.audit_managers(model)
        signal.connect(tracked)

    def _get_history_id_field(self) -> Any:
        # django-simple-history's default is a 32-bit AutoField, which a busy trail outgrows.
        return super()._get_history_id_field() if self.history_id_field else models.BigAutoField(primary_key=True)

    def _get_history_change_reason_field(self) -> Any:
        return self.history_change_reason_field or models.TextField(null=True)

    def _get_history_user_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = super()._get_history_user_fields()
        user: Any = fields["history_user"]
        if self.user_id_field is None:
            user.remote_field.on_delete = forget_account
            user.db_index = False
        return fields

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
        user = "history_user" if self.user_id_field is None else None
        options["indexes"] = history_indexes(model._meta.label, model._meta.pk.name, user)
        return options

    # django-simple-history's own handlers do nothing, also where they stay connected: signal.py and managers.py see
    # every path, these see some.
    def post_save(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""

    def post_delete(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""

    def pre_delete(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""

    def m2m_changed(self, *args: Any, **kwargs: Any) -> None:
        """Replaced by koherent's own recording."""
