"""The tables of the trail: the base of every history row, and what all tracked models share."""

from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

if TYPE_CHECKING:
    from koherent.revert import Report


class TransactionPosition(models.Func):
    """The database default of ``position``: PostgreSQL's transaction id.

    Transaction ids, unlike ``history_id``, can be compared with a snapshot, which is what makes the feed lose nothing.
    SQLite has one writer at a time, so its ``history_id`` is commit order already and any value but 0 serves.
    """

    output_field = models.BigIntegerField()
    allowed_default = True

    def as_sql(  # type: ignore[override]  # the stubs name parameters that Django passes by keyword to templates only
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **kwargs: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        """SQLite."""
        return "1", ()

    def as_postgresql(
        self, compiler: SQLCompiler, connection: BaseDatabaseWrapper, **kwargs: Any
    ) -> tuple[str, tuple[str | int, ...]]:
        """PostgreSQL 13 and newer."""
        return "((pg_current_xact_id())::text)::bigint", ()


class Origin(models.TextChoices):
    """Where an entry comes from."""

    CHANGE = "change", "Change"
    BASELINE = "baseline", "Baseline"
    REVERT = "revert", "Revert"
    ERASURE = "erasure", "Erasure"


class HistoryEntryModel(models.Model):
    """What every history row knows besides the values of its object.

    ``actor_id`` and ``actor_name`` are the account's key and name as they were, so they outlive the account.
    ``position`` is 0 for rows that no feed delivers. ``field_set`` names the fields that the model had (``FieldSet``).
    """

    app = models.CharField(max_length=255, null=True, editable=False)
    assignation_id = models.CharField(max_length=255, null=True, editable=False, db_index=True)
    actor_id = models.CharField(max_length=255, null=True, editable=False)
    actor_name = models.CharField(max_length=255, null=True, editable=False)
    metadata = models.JSONField(default=dict, editable=False)
    origin = models.CharField(max_length=8, choices=Origin.choices, default=Origin.CHANGE, editable=False)
    position = models.BigIntegerField(db_default=TransactionPosition(), editable=False, db_index=True)
    field_set = models.BigIntegerField(null=True, editable=False)

    class Meta:
        abstract = True


class KoherentHistoryModel(models.Model):
    """Mixin for tracked models: typing, and undo from Python. The field alone keeps every promise."""

    history: ClassVar[Any]

    class Meta:
        abstract = True

    def revert_to(self, entry: models.Model, *, reason: str | None = None) -> "Report":
        """Give this object the values of ``entry``, a row of its own history; returns the report.

        Runs without authorisation. Raises ``NotFound`` when the entry is another object's.
        """
        from koherent import registry
        from koherent.errors import NotFound
        from koherent.revert import revert_to

        tracked = registry.for_model(type(self))
        if tracked is None or not isinstance(entry, tracked.history_model):
            raise NotFound("The entry belongs to another model.")
        if getattr(entry, tracked.pk_attname) != self.pk:
            raise NotFound("The entry belongs to another object.")
        return revert_to(None, tracked.label, entry.pk, reason=reason)


class Assignation(models.Model):
    """The beginning of a unit of work, written in the transaction of its first entry.

    The id is not unique on purpose: two transactions that begin the same assignation must not wait for each other.
    Readers take the oldest row of an id. ``reverts`` and ``reverts_entry`` (``label:history_id``) are set for reverts.
    """

    id = models.BigAutoField(primary_key=True)
    assignation_id = models.CharField(max_length=255, db_index=True)
    started_at = models.DateTimeField()
    reverts = models.CharField(max_length=255, null=True, db_index=True)
    reverts_entry = models.CharField(max_length=255, null=True)

    def __str__(self) -> str:
        return self.assignation_id


class FieldSet(models.Model):
    """Which fields a model had: ``digest`` stands on each history row, ``names`` are the fields."""

    digest = models.BigIntegerField(primary_key=True)
    model = models.CharField(max_length=255)
    names = models.JSONField(default=list)

    def __str__(self) -> str:
        return f"{self.model}: {', '.join(self.names)}"


class Pruned(models.Model):
    """How far a prune has reached into what the feed delivers: an older cursor must not be resumed from.

    ``database`` names the database as the feed's cursors do: after a restore into another one, a trace says nothing.
    """

    database = models.CharField(max_length=8)
    model = models.CharField(max_length=255)
    history_id = models.BigIntegerField()
    position = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["database", "model"], name="koherent_pruned_once")]

    def __str__(self) -> str:
        return f"{self.model} up to {self.history_id}"
