"""The tables of the trail: the base of every history row, and what all tracked models share."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import models, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from koherent.revert import Report


#: PostgreSQL's transaction id as a number.
TRANSACTION_ID = "((pg_current_xact_id())::text)::bigint"


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
        return TRANSACTION_ID, ()


def forget_account(collector: Any, field: Any, sub_objs: Any, using: str) -> None:
    """``on_delete`` of ``history_user``: SET_NULL in the account's database; elsewhere the table is not to be had.

    Either way ``actor_id`` and ``actor_name`` stay. ``history_user`` has no index of its own: the entries of an account
    are found by ``actor_id``, and those from before koherent, which have none, by an index of just those.
    """
    from koherent import registry, runs

    if router.allow_migrate_model(using, field.model):
        accounts = field.remote_field.model
        going = [account for model, some in collector.data.items() if issubclass(model, accounts) for account in some]
        # An old row has no actor; ``actor_id`` is the account's key, whoever wrote the row since.
        own = models.Q(actor_id__in=[str(account.pk) for account in going])
        old = models.Q(**{f"{field.name}__in": going, "actor_id__isnull": True})
        tracked = registry.for_history_model(field.model)
        # The models of a migration are tracked by nobody.
        entries = own | old if tracked is None else runs.having(tracked, using, own, old)
        models.SET_NULL(collector, field, sub_objs.filter(entries), using)


# As for SET_NULL: one UPDATE, and no object is loaded for it.
forget_account.lazy_sub_objs = True  # type: ignore[attr-defined]


class Origin(models.TextChoices):
    """Where an entry comes from."""

    CHANGE = "change", _("Change")
    BASELINE = "baseline", _("Baseline")
    REVERT = "revert", _("Revert")
    ERASURE = "erasure", _("Erasure")


class PositionIndex(models.Index):
    """On ``position``, for the feed on PostgreSQL. SQLite's feed reads by key, so there the index has no rows."""

    def create_sql(self, model: type[models.Model], schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        """With a condition that no row fulfils, where it would only be paid for."""
        if schema_editor.connection.vendor == "postgresql":
            return super().create_sql(model, schema_editor, using=using, **kwargs)
        never = models.Index(fields=self.fields, name=self.name, condition=models.Q(position__lt=0))
        return never.create_sql(model, schema_editor, using=using, **kwargs)


class HistoryEntryModel(models.Model):
    """What every history row knows besides the values of its object.

    ``actor_id`` and ``actor_name`` are the account's key and name as they were, so they outlive the account.
    ``position`` is 0 for rows that no feed delivers. ``field_set`` names the fields that the model had (``FieldSet``).
    ``in_run``: what tells who, when and in which context is indexed once for the whole run (``Assignation``), not here.
    The indexes are those of ``history_indexes()``: ``Meta.indexes`` of a base does not reach history models.
    """

    app = models.CharField(max_length=255, null=True, editable=False)
    assignation_id = models.CharField(max_length=255, null=True, editable=False)
    actor_id = models.CharField(max_length=255, null=True, editable=False)
    actor_name = models.CharField(max_length=255, null=True, editable=False)
    metadata = models.JSONField(default=dict, editable=False)
    origin = models.CharField(max_length=8, choices=Origin.choices, default=Origin.CHANGE, editable=False)
    position = models.BigIntegerField(db_default=TransactionPosition(), editable=False)
    field_set = models.BigIntegerField(null=True, editable=False)
    in_run = models.BooleanField(db_default=False, editable=False)

    class Meta:
        abstract = True


def history_indexes(label: str, key: str, user: str | None) -> list[models.Index]:
    """The indexes of one history table, ``label`` being the tracked model's and ``key`` the name of its primary key.

    ``user``: the name of the reference to the account, None where there is none.

    docs/storage.md says which query each of them serves. Every one of them is paid for by every write. Those that
    know nothing of the object leave out the entries of runs, which have their own: ``run_indexes()``.
    """
    order = ("history_date", "history_id")
    alone = models.Q(in_run=False)
    known = {name: alone & models.Q(**{f"{name}__isnull": False}) for name in ("assignation_id", "actor_id", "app")}
    unassigned, unnamed = alone & models.Q(assignation_id__isnull=True), models.Q(actor_id__isnull=True)
    indexes = [
        _index(label, "date", order, alone),
        _index(label, "object", (key, "history_id")),
        _index(label, "page", (key, *order)),
        _index(label, "with", ("history_type", *order), known["assignation_id"]),
        _index(label, "without", ("history_type", *order), unassigned),
        _index(label, "actor", ("actor_id", *order), known["actor_id"]),
        _index(label, "app", ("app", *order), known["app"]),
        _index(label, "work", ("assignation_id", *order), known["assignation_id"]),
        _index(label, "parts", ("assignation_id", "actor_id", "app"), known["assignation_id"]),
        _index(label, "position", ("position", "history_id"), alone, kind=PositionIndex),
    ]
    return [*indexes, _index(label, "account", (user,), unnamed)] if user else indexes


def _index(
    label: str,
    purpose: str,
    fields: Sequence[str],
    condition: models.Q | None = None,
    kind: type[models.Index] = models.Index,
) -> models.Index:
    # Index names are the whole schema's, and at most 30 characters.
    digest = hashlib.blake2b(label.lower().encode(), digest_size=5).hexdigest()
    return kind(fields=list(fields), name=f"koherent_{digest}_{purpose}", condition=condition)


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


def run_indexes() -> list[models.Index]:
    """The indexes of runs: for each of ``history_indexes()`` that knows nothing of the object, the same of runs.

    Runs of a model never overlap, so that their first ids order them and their entries alike.
    """
    order = ("history_date", "first_id")
    known = {name: models.Q(**{f"{name}__isnull": False}) for name in ("model", "assignation_id", "actor_id", "app")}
    run = known["model"]
    return [
        _run_index("date", ("model", *order), run),
        _run_index("with", ("model", "history_type", *order), run & known["assignation_id"]),
        _run_index("without", ("model", "history_type", *order), run & models.Q(assignation_id__isnull=True)),
        _run_index("actor", ("model", "actor_id", *order), run & known["actor_id"]),
        _run_index("app", ("model", "app", *order), run & known["app"]),
        _run_index("work", ("assignation_id", "model", *order), run & known["assignation_id"]),
        _run_index("position", ("model", "position", "first_id"), run & models.Q(position__isnull=False)),
    ]


def _run_index(purpose: str, fields: Sequence[str], condition: models.Q) -> models.Index:
    return models.Index(fields=list(fields), name=f"koherent_run_{purpose}", condition=condition)


class Assignation(models.Model):
    """The beginning of a unit of work, or a run of entries, or both in one row, because it takes one statement.

    A beginning is written in the transaction of the first entry of an assignation, by each process that takes part. The
    id is not unique on purpose: two transactions that begin the same assignation must not wait for each other, nor look
    for each other's rows. Readers take the oldest row of an id, and a process writes another one after a while.
    ``reverts`` and ``reverts_entry`` (``label:history_id``) are set for reverts; ``pruned_at`` once retention took some
    of its entries, from when on it can no longer be undone.

    A run, a row with a ``model`` (a label), stands for the entries of that model from ``first_id`` to ``last_id``: one
    statement wrote them, with nobody else's between them, and they have all but the object and its values in common.
    What they share stands here under its name there, indexed once instead of once for each of them. A run may have no
    assignation, and prunes may have taken some of its entries.
    """

    id = models.BigAutoField(primary_key=True)
    assignation_id = models.CharField(max_length=255, null=True)
    started_at = models.DateTimeField()
    reverts = models.CharField(max_length=255, null=True)
    reverts_entry = models.CharField(max_length=255, null=True)
    pruned_at = models.DateTimeField(null=True)
    model = models.CharField(max_length=255, null=True)
    first_id = models.BigIntegerField(null=True)
    last_id = models.BigIntegerField(null=True)
    history_date = models.DateTimeField(null=True)
    history_type = models.CharField(max_length=1, null=True)
    app = models.CharField(max_length=255, null=True)
    actor_id = models.CharField(max_length=255, null=True)
    position = models.BigIntegerField(null=True)

    class Meta:
        verbose_name = _("assignation")
        verbose_name_plural = _("assignations")
        # ``db_index`` would add a second index for LIKE, which nothing asks for.
        indexes = [
            models.Index(
                fields=["assignation_id", "id"],
                name="koherent_assignation_id",
                condition=models.Q(assignation_id__isnull=False),
            ),
            models.Index(
                fields=["reverts"], name="koherent_assignation_reverts", condition=models.Q(reverts__isnull=False)
            ),
            *run_indexes(),
        ]

    def __str__(self) -> str:
        return self.assignation_id or f"{self.model} {self.first_id}-{self.last_id}"


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
