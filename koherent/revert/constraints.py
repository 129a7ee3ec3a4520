"""Constraints that only the database can weigh: checks, and unique ones with conditions or expressions.

Each is asked once for a batch of steps: the rows as they will be stand in a WITH clause, under the model's columns.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.models import F, Q
from django.db.models.expressions import OrderBy
from django.db.models.functions import Coalesce

from koherent.registry import TrackedModel
from koherent.revert.live import instances
from koherent.revert.steps import Planned
from koherent.revert.types import Conflict, ConflictCode
from koherent.revert.uniques import Pointing, Unique, is_plain
from koherent.revert.values import Model, all_rows, batches, concrete


class Constraints:
    """What the steps' values do to the constraints of their models."""

    def __init__(self, steps: Sequence[Planned]) -> None:
        self._broken: dict[Planned, list[Conflict]] = defaultdict(list)
        self._uniques: list[_UniqueRule] = []
        by_model: dict[TrackedModel, list[Planned]] = defaultdict(list)
        for step in steps:
            if step.then is not None:
                by_model[step.tracked].append(step)
        for tracked, own in by_model.items():
            for constraint in _special(concrete(tracked.model)):
                names = _names(constraint)
                concerned = [s for s in own if s.action == "+" or names is None or names & s.columns.names]
                if concerned:
                    self._weigh(tracked, constraint, concerned)

    def _weigh(self, tracked: TrackedModel, constraint: Any, steps: list[Planned]) -> None:
        if isinstance(constraint, models.UniqueConstraint):
            self._uniques.append(_UniqueRule(tracked, constraint, steps))
        elif isinstance(constraint, models.CheckConstraint):
            message = str(constraint.get_violation_error_message())
            for step in _breaking(tracked, constraint, steps):
                self._broken[step].append(Conflict(code=ConflictCode.INVALID, message=message))
        else:
            # Somebody's own kind of constraint knows only how to validate one object.
            for step, instance in instances(tracked, steps):
                try:
                    constraint.validate(tracked.model, instance, using=DEFAULT_DB_ALIAS)
                except ValidationError as error:
                    self._broken[step].append(Conflict(code=ConflictCode.INVALID, message=" ".join(error.messages)))

    def conflicts(self, active: Sequence[Planned], by_key: Mapping[Any, Planned], point: Pointing) -> None:
        """Note which constraints the steps break, and point out who holds a unique value."""
        for step in active if self._broken else ():
            for conflict in self._broken.get(step, ()):
                step.add(conflict)
        for rule in self._uniques:
            rule.conflicts(active, by_key, point)

    @property
    def vacated(self) -> list[tuple[Model, Unique, set[Any]]]:
        """Unique values that another step gets: the model, the attributes, and the keys of who holds them now."""
        return [(rule.model, rule.attnames, rule.vacating) for rule in self._uniques if rule.vacating]


class _UniqueRule:
    """A unique constraint with a condition or expressions."""

    def __init__(self, tracked: TrackedModel, constraint: models.UniqueConstraint, steps: Sequence[Planned]) -> None:
        self.model = concrete(tracked.model)
        meta: Any = self.model._meta
        names = _names(constraint) or frozenset()
        self.message = str(constraint.get_violation_error_message())
        self.fields = tuple(f.name for f in meta.concrete_fields if f.name in (constraint.fields or names))
        self.attnames = tuple(f.attname for f in meta.concrete_fields if f.name in names)
        self.vacating: set[Any] = set()
        self._values: dict[Any, tuple[Any, ...]] = {}
        self._holders: dict[Any, set[Any]] = defaultdict(set)
        expressions = [F(name) for name in constraint.fields] if constraint.fields else list(constraint.expressions)
        expressions = [e.expression if isinstance(e, OrderBy) else e for e in expressions]
        width = len(expressions)
        columns = {f"koherent_e{number}": expression for number, expression in enumerate(expressions)}
        live = all_rows(self.model).order_by().annotate(**columns)
        if constraint.condition is not None:
            live = live.filter(constraint.condition)
        sql, params = live.values_list("pk", *columns).query.sql_with_params()
        distinct = constraint.nulls_distinct is not False
        operator = "=" if distinct else _not_distinct()
        equal = " AND ".join(f"m.e{number} {operator} r.e{number}" for number in range(width))
        named = ", ".join(["pk", *(f"e{number}" for number in range(width))])
        for batch in batches(list(steps)):
            given, rows = _rows_of(tracked, names, batch)
            statement = (
                f"{given}, r({named}) AS ({_of_target(self.model, sql)}), m({named}) AS ({sql}) "
                f"SELECT r.*, m.pk FROM r LEFT JOIN m ON {equal}"
            )
            with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
                cursor.execute(statement, [*rows, *params, *params])
                for key, *values, holder in cursor.fetchall():
                    pk = meta.pk.to_python(key)
                    if distinct and None in values:
                        continue
                    self._values[pk] = tuple(values)
                    if holder is not None:
                        self._holders[pk].add(meta.pk.to_python(holder))

    def conflicts(self, active: Sequence[Planned], by_key: Mapping[Any, Planned], point: Pointing) -> None:
        self.vacating.clear()
        counts: dict[Any, int] = defaultdict(int)
        own = [step for step in active if step.pk in self._values and concrete(step.tracked.model) is self.model]
        own = [step for step in own if step.then is not None]
        for step in own:
            counts[self._values[step.pk]] += 1
        for step in own:
            value = self._values[step.pk]
            others = self._holders.get(step.pk, set()) - {step.pk}
            leaving = {pk for pk in others if self._leaves(by_key.get((self.model, pk)), value)}
            self.vacating |= {pk for pk in leaving if step.action == "~" or by_key[self.model, pk].action == "~"}
            if others - leaving or counts[value] > 1:
                conflict = Conflict(code=ConflictCode.UNIQUE_TAKEN, message=self.message, fields=self.fields)
                point(step, conflict, self.model, others - leaving)

    def _leaves(self, other: Planned | None, value: tuple[Any, ...]) -> bool:
        if other is None or other.action == "-":
            return other is not None
        concerned = not set(self.attnames).isdisjoint(other.columns.index)
        return concerned and self._values.get(other.pk) != value


def _breaking(tracked: TrackedModel, constraint: models.CheckConstraint, steps: Sequence[Planned]) -> list[Planned]:
    """The steps whose rows would break a check."""
    model = concrete(tracked.model)
    # An unknown result passes a check.
    passes = Q(Coalesce(constraint.condition, True, output_field=models.BooleanField()))
    sql, params = all_rows(model).filter(passes).order_by().values_list("pk").query.sql_with_params()
    found: list[Planned] = []
    meta: Any = model._meta
    for batch in batches(list(steps)):
        given, rows = _rows_of(tracked, _names(constraint), batch)
        with connections[DEFAULT_DB_ALIAS].cursor() as cursor:
            cursor.execute(f"{given} {_of_target(model, sql)}", [*rows, *params])
            passing = {meta.pk.to_python(row[0]) for row in cursor.fetchall()}
        found += [step for step in batch if step.pk not in passing]
    return found


def _rows_of(tracked: TrackedModel, names: frozenset[str] | None, steps: list[Planned]) -> tuple[str, list[Any]]:
    """A WITH clause of the steps' rows as they will be, in the columns that ``names`` need, and its parameters."""
    connection = connections[DEFAULT_DB_ALIAS]
    meta: Any = concrete(tracked.model)._meta
    fields = [f for f in meta.concrete_fields if f.primary_key or names is None or f.name in names]
    cells = ", ".join(_cell(f) for f in fields)
    rows, params = [], list[Any]()
    for _step, instance in instances(tracked, steps):
        rows.append(f"({cells})")
        params += [f.get_db_prep_save(getattr(instance, f.attname), connection) for f in fields]
    columns = ", ".join(connection.ops.quote_name(f.column) for f in fields)
    return f"WITH koherent_target({columns}) AS (VALUES {', '.join(rows)})", params


def _cell(model_field: Any) -> str:
    connection = connections[DEFAULT_DB_ALIAS]
    # Parameters have no type on PostgreSQL; on SQLite decimals would be text, and a cast to a date a number.
    if connection.vendor == "postgresql" or model_field.get_internal_type() == "DecimalField":
        kind = model_field.rel_db_type(connection) if model_field.primary_key else model_field.db_type(connection)
        return f"CAST(%s AS {kind})"
    return "%s"


def _of_target(model: Model, sql: str) -> str:
    quote = connections[DEFAULT_DB_ALIAS].ops.quote_name
    return sql.replace(quote(model._meta.db_table), "koherent_target")


def _not_distinct() -> str:
    return "IS NOT DISTINCT FROM" if connections[DEFAULT_DB_ALIAS].vendor == "postgresql" else "IS"


@cache
def _special(model: Model) -> tuple[Any, ...]:
    """The constraints of a model that are more than some fields unique together."""
    return tuple(constraint for constraint in model._meta.constraints if not is_plain(constraint))


def _names(constraint: Any) -> frozenset[str] | None:
    """The fields that a constraint is about; None: unknown."""
    if isinstance(constraint, models.CheckConstraint):
        return frozenset(Q(constraint.condition).referenced_base_fields)
    if not isinstance(constraint, models.UniqueConstraint):
        return None
    found = set(constraint.fields)
    for expression in constraint.expressions:
        found |= {str(part.name) for part in _parts(expression) if isinstance(part, F)}  # type: ignore[attr-defined]
    if constraint.condition is not None:
        found |= constraint.condition.referenced_base_fields
    return frozenset(found)


def _parts(expression: Any) -> list[Any]:
    inner = expression.get_source_expressions() if hasattr(expression, "get_source_expressions") else []
    return [expression, *(part for one in inner if one is not None for part in _parts(one))]
