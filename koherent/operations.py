"""Migration operations: adopting a table of django-simple-history, and recording what a data migration did."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import models, router
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.operations import AddField, AlterField
from django.db.migrations.operations.base import Operation
from django.db.migrations.state import ProjectState

from koherent.baseline import record_baseline
from koherent.models import TransactionPosition
from koherent.registry import TrackedModel, digest


class AdoptHistory(Operation):
    """Takes what ``makemigrations`` found for one history table, and does it so that the old rows stay what they are.

    ``model`` is the label of the tracked model, ``fields`` the names of those of its fields that the old rows have, and
    ``operations`` the changes of its history model and of those of its many-to-many links. ``koherent_adopt`` writes it
    all. Unlike the bare operations, this

    - gives old rows position 0, so that no feed delivers them: a database default would stamp each with the
      migration's own transaction;
    - says on old rows which fields they have, so that a field that comes later is not taken for theirs;
    - drops indexes that are not needed any more without copying the table on SQLite.

    On PostgreSQL no table is rewritten, unless ``operations`` change the type of a column (a wider ``history_id``).
    Needs a migration that depends on koherent's first one; raises ``ImproperlyConfigured`` otherwise.
    """

    reduces_to_sql = True
    reversible = True
    serialization_expand_args = ["fields", "operations"]

    def __init__(self, model: str, fields: Sequence[str], operations: Sequence[Operation]) -> None:
        self.model, self.fields, self.operations = model, list(fields), list(operations)

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """As the operations inside."""
        for operation in self.operations:
            operation.state_forwards(app_label, state)

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """The operations inside, each in the way that leaves the old rows alone."""
        state = from_state
        for operation in self.operations:
            for step in self._steps(operation, app_label, state):
                after = state.clone()
                step.state_forwards(app_label, after)
                step.database_forwards(app_label, schema_editor, state, after)
                state = after
        _remember_fields(schema_editor, to_state, self.model, self.fields)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """The operations inside, undone from the last to the first; what koherent's columns hold is lost."""
        states = [to_state]
        for operation in self.operations:
            after = states[-1].clone()
            operation.state_forwards(app_label, after)
            states.append(after)
        for operation in reversed(self.operations):
            after = states.pop()
            operation.database_backwards(app_label, schema_editor, after, states[-1])

    def describe(self) -> str:
        """One line for people."""
        return f"Adopt the history of {self.model}"

    @property
    def migration_name_fragment(self) -> str:
        """Part of an automatic migration name."""
        return f"adopt_{self.model.rpartition('.')[2].lower()}"

    def _steps(self, operation: Operation, app_label: str, state: ProjectState) -> Iterator[Operation]:
        if isinstance(operation, AddField) and _is_position(operation.field):
            field: Any = operation.field
            old_rows = models.BigIntegerField(default=0, editable=False, db_index=field.db_index)
            yield AddField(operation.model_name, operation.name, old_rows)
            yield AlterField(operation.model_name, operation.name, field)
        elif isinstance(operation, AddField) and operation.name == "field_set":
            known = operation.field.clone()
            known.default = digest(self.model.lower(), self.fields)
            yield AddField(operation.model_name, operation.name, known, preserve_default=False)
        elif isinstance(operation, AlterField) and _only_drops_index(operation, app_label, state):
            yield _DropFieldIndex(operation.model_name, operation.name, operation.field)
        else:
            yield operation


class BaselineHistory(Operation):
    """Records what the operations before it did to the rows of one model: migrations have no recording managers.

    Writes what ``koherent_baseline --repair`` would: an entry for each object that is new, that differs from its latest
    entry, or that is gone. ``model`` is the label of the tracked model; ``history`` is the name of its history model in
    the same app, where it is not ``Historical`` and the model's name. Undoing the migration writes nothing. Needs a
    migration that depends on koherent's first one; raises ``ImproperlyConfigured`` otherwise.
    """

    reduces_to_sql = False
    reversible = True

    def __init__(self, model: str, *, reason: str = "data migration", history: str | None = None) -> None:
        self.model, self.reason, self.history = model, reason, history

    def state_forwards(self, app_label: str, state: ProjectState) -> None:
        """No model changes."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Write the entries, with the models as they are at this point of the migrations."""
        alias = schema_editor.connection.alias
        tracked = _tracked_then(to_state, self.model, self.history)
        if router.allow_migrate_model(alias, tracked.history_model):
            _remember_fields(schema_editor, to_state, tracked.label, tracked.names)
            record_baseline(tracked, using=alias, reason=self.reason, app="migrate", repair=True)

    def database_backwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        """Nothing."""

    def describe(self) -> str:
        """One line for people."""
        return f"Record what changed in {self.model}"


class _HistoryThen:
    """What ``TrackedModel`` asks its ``HistoryField`` for, of a model as a migration knows it."""

    record_unchanged = False

    def __init__(self, excluded_fields: list[str], m2m_models: dict[Any, Any]) -> None:
        self.excluded_fields, self.m2m_models = excluded_fields, m2m_models


def _tracked_then(state: ProjectState, label: str, history: str | None) -> TrackedModel:
    """A tracked model as it was at a point of the migrations."""
    model: Any = state.apps.get_model(label)
    app_label = model._meta.app_label
    history_model: Any = state.apps.get_model(app_label, history or f"Historical{model.__name__}")
    stored = {field.name for field in history_model._meta.concrete_fields}
    links = {}
    for m2m in model._meta.many_to_many:
        name = f"historical{m2m.remote_field.through._meta.model_name}"
        if (app_label, name) in state.models:
            links[m2m] = state.apps.get_model(app_label, name)
    history_model._history_m2m_fields = list(links)
    excluded = [field.name for field in model._meta.concrete_fields if field.name not in stored]
    field: Any = _HistoryThen(excluded, links)
    return TrackedModel(model, history_model, field)


def _remember_fields(
    schema_editor: BaseDatabaseSchemaEditor, state: ProjectState, label: str, names: Iterable[str]
) -> None:
    try:
        field_sets: Any = state.apps.get_model("koherent", "FieldSet")
    except LookupError as error:
        raise ImproperlyConfigured(
            'This migration needs ("koherent", "__first__") among its dependencies: it writes history.'
        ) from error
    alias = schema_editor.connection.alias
    if schema_editor.collect_sql or not router.allow_migrate_model(alias, field_sets):
        return
    label = label.lower()
    field_sets.objects.using(alias).get_or_create(
        digest=digest(label, names), defaults={"model": label, "names": sorted(names)}
    )


class _DropFieldIndex(AlterField):
    """Drops a field's index by its name; SQLite would copy the whole table for the change of the field."""

    def database_forwards(
        self, app_label: str, schema_editor: BaseDatabaseSchemaEditor, from_state: ProjectState, to_state: ProjectState
    ) -> None:
        model: Any = from_state.apps.get_model(app_label, self.model_name)
        connection = schema_editor.connection
        if not self.allow_migrate_model(connection.alias, model):
            return
        named = {index.name for index in model._meta.indexes}
        column = model._meta.get_field(self.name).column
        with connection.cursor() as cursor:
            found = connection.introspection.get_constraints(cursor, model._meta.db_table)
        for name, constraint in found.items():
            plain = constraint["index"] and not constraint["unique"] and not constraint["primary_key"]
            if plain and constraint["columns"] == [column] and name not in named:
                schema_editor.remove_index(model, models.Index(fields=[self.name], name=name))


def _is_position(field: Any) -> bool:
    return isinstance(getattr(field, "db_default", None), TransactionPosition)


def _only_drops_index(operation: AlterField, app_label: str, state: ProjectState) -> bool:
    before: Any = state.models[app_label, operation.model_name_lower].get_field(operation.name)
    after: Any = operation.field
    return before.db_index and not after.db_index and _without_index(before) == _without_index(after)


def _without_index(field: Any) -> tuple[str, Any, dict[str, Any]]:
    _, path, args, kwargs = field.deconstruct()
    kwargs.pop("db_index", None)
    return path, args, kwargs
