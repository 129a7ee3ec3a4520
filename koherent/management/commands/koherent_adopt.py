"""``koherent_adopt``: write the migration that makes django-simple-history's tables koherent's."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import makemigrations
from django.db import models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.migration import Migration
from django.db.migrations.operations import AddField, AddIndex, AlterField, CreateModel
from django.db.migrations.operations.base import Operation

from koherent import registry
from koherent.management.arguments import USAGE
from koherent.operations import AdoptHistory
from koherent.registry import TrackedModel


class Command(makemigrations.Command):
    help = (
        "makemigrations for models that move from django-simple-history's HistoricalRecords to HistoryField: what it "
        "finds for their history tables is wrapped in AdoptHistory, which keeps the old rows out of the feed. "
        "Exit status: 0 done, 1 changes found (--check), 2 refused to widen, 3 a question that --no-input leaves open."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Those of makemigrations, and one more."""
        super().add_arguments(parser)
        parser.add_argument(
            "--widen",
            action="store_true",
            help="widen history_id to 64 bits, although PostgreSQL then rewrites the whole table under a lock",
        )

        parser.add_argument(
            "--no-indexes",
            action="store_true",
            help="leave the new indexes to the next makemigrations, where AddIndexConcurrently can make them",
        )

    def handle(self, *app_labels: str, **options: Any) -> None:
        """As makemigrations."""
        self.widen, self.no_indexes = options["widen"], options["no_indexes"]
        super().handle(*app_labels, **options)

    def write_migration_files(self, changes: dict[str, list[Migration]], *args: Any, **kwargs: Any) -> None:
        """Write the changes with the adopted tables' operations wrapped."""
        for app_label, migrations in changes.items():
            for migration in migrations:
                self._adopt(app_label, migration)
        super().write_migration_files(changes, *args, **kwargs)

    def _adopt(self, app_label: str, migration: Any) -> None:
        operations: list[Operation] = list(migration.operations)
        adopted = []
        for tracked in registry.tracked_models():
            if tracked.history_model._meta.app_label != app_label:
                continue
            own = _operations_on(operations, {tracked.history_model})
            if not any(isinstance(operation, AddField) and operation.name == "position" for operation in own):
                continue
            if not self.widen:
                self._refuse_to_widen(tracked, own)
            own = _operations_on(operations, {tracked.history_model, *(m.history_model for m in tracked.m2m)})
            operations = [operation for operation in operations if operation not in own]
            if self.no_indexes:
                own = [operation for operation in own if not isinstance(operation, AddIndex)]
            # Indexes go first: SQLite copies the table for some columns, each time with the indexes that are left.
            own.sort(key=lambda operation: not isinstance(operation, AlterField))
            adopted.append(AdoptHistory(tracked.label, sorted(_old_names(tracked, own, operations)), own))
        if adopted:
            migration.operations = [*operations, *adopted]
            migration.dependencies = [*migration.dependencies, ("koherent", "__first__")]
            if not self.migration_name:
                migration.name = f"{migration.name.partition('_')[0]}_adopt_history"

    def _refuse_to_widen(self, tracked: TrackedModel, operations: list[Operation]) -> None:
        for operation in operations:
            if not isinstance(operation, AlterField) or not isinstance(operation.field, models.BigAutoField):
                continue
            meta = tracked.history_model._meta
            old = MigrationLoader(None).project_state().models[meta.app_label, str(meta.model_name)]
            if not isinstance(old.get_field(operation.name), models.BigAutoField):
                raise CommandError(
                    f"The history_id of {tracked.label} would change its type, for which PostgreSQL rewrites the whole "
                    "table. Keep it with HistoryField(history_id_field=models.AutoField(primary_key=True)), or give "
                    "--widen.",
                    returncode=USAGE,
                )


def _operations_on(operations: list[Operation], targets: set[type[models.Model]]) -> list[Operation]:
    """The changes of existing tables of some models; they are all of one app."""
    names = {str(model._meta.model_name) for model in targets}
    return [operation for operation in operations if str(getattr(operation, "model_name", "")).lower() in names]


def _old_names(tracked: TrackedModel, own: list[Operation], others: list[Operation]) -> set[str]:
    """The tracked fields that the history had before: not those that come with the same migration."""
    new = {operation.name for operation in own if isinstance(operation, AddField)}
    tables = {operation.name_lower for operation in others if isinstance(operation, CreateModel)}
    new |= {m2m.name for m2m in tracked.m2m if m2m.history_model._meta.model_name in tables}
    return set(tracked.names - new)
