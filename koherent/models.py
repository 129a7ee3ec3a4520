"""The tables of the trail: the base of every history row, and what all tracked models share."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models, router
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


def forget_account(collector: Any, field: Any, sub_objs: Any, using: str) -> None:
    """``on_delete`` of ``history_user``: SET_NULL in the account's database; elsewhere the table is not to be had.

    Either way ``actor_id`` and ``actor_name`` stay.
    """
    if router.allow_migrate_model(using, field.model):
        models.SET_NULL(collector, field, sub_objs, using)


# As for SET_NULL: one UPDATE, and no object is loaded for it.
forget_account.lazy_sub_objs = True  # type: ignore[attr-defined]


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
    The indexes are those of ``history_indexes()``: ``Meta.indexes`` of a base does not reach history models.
    """

    app = models.CharField(max_length=255, null=True, editable=False)
    assignation_id = models.CharField(max_length=255, null=True, editable=False)
    actor_id = models.CharField(max_length=255, null=True, editable=False)
    actor_name = models.CharField(max_length=255, null=True, editable=False)
    metadata = models.JSONField(default=dict, editable=False)
    origin = models.CharField(max_length=8, choices=Origin.choices, default=Origin.CHANGE, editable=False)
    position = models.BigIntegerField(db_default=TransactionPosition(), editable=False, db_index=True)
    field_set = models.BigIntegerField(null=True, editable=False)

    class Meta:
        abstract = True


def history_indexes(label: str, key: str) -> list[models.Index]:
    """The indexes of one history table, ``label`` being the tracked model's and ``key`` the name of its primary key.

    docs/storage.md says which query each of them serves. Every one of them is paid for by every write.
    """
    order = ("history_date", "history_id")
    attributed = {name: models.Q(**{f"{name}__isnull": False}) for name in ("assignation_id", "actor_id", "app")}
    return [
        _index(label, "date", order),
        _index(label, "object", (key, "history_id")),
        _index(label, "page", (key, *order)),
        _index(label, "action", ("history_type", *order)),
        _index(label, "actor", ("actor_id", *order), attributed["actor_id"]),
        _index(label, "app", ("app", *order), attributed["app"]),
        _index(label, "work", ("assignation_id", *order), attributed["assignation_id"]),
        _index(label, "parts", ("assignation_id", "actor_id", "app"), attributed["assignation_id"]),
        _index(label, "with", order, attributed["assignation_id"]),
        _index(label, "without", order, models.Q(assignation_id__isnull=True)),
    ]


def _index(label: str, purpose: str, fields: Sequence[str], condition: models.Q | None = None) -> models.Index:
    # Index names are the whole schema's, and at most 30 characters.
    digest = hashlib.blake2b(label.lower().encode(), digest_size=5).hexdigest()
    return models.Index(fields=list(fields), name=f"koherent_{digest}_{purpose}", condition=condition)


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
    """The beginning of a unit of work, written in the transaction of its first entry; again when it goes on for long.

    The id is not unique on purpose: two transactions that begin the same assignation must not wait for each other.
    Readers take the oldest row of an id. ``reverts`` and ``reverts_entry`` (``label:history_id``) are set for reverts;
    ``pruned_at`` once retention took some of its entries, from when on it can no longer be undone.
    """

    id = models.BigAutoField(primary_key=True)
    assignation_id = models.CharField(max_length=255)
    started_at = models.DateTimeField()
    reverts = models.CharField(max_length=255, null=True)
    reverts_entry = models.CharField(max_length=255, null=True)
    pruned_at = models.DateTimeField(null=True)

    class Meta:
        # ``db_index`` would add a second index for LIKE, which nothing asks for.
        indexes = [
            models.Index(fields=["assignation_id", "id"], name="koherent_assignation_id"),
            models.Index(
                fields=["reverts"], name="koherent_assignation_reverts", condition=models.Q(reverts__isnull=False)
            ),
        ]

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
