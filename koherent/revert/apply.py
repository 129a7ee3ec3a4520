"""The revert functions: plan, authorise, and, under row locks in one transaction, plan again, write and record."""

import hashlib
import json
import random
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from django.db import DEFAULT_DB_ALIAS, IntegrityError, connections, models, transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac

from koherent import recorder, registry, signal
from koherent.conf import settings
from koherent.context import current_audit, revert_audit
from koherent.diff import to_json
from koherent.errors import Forbidden, LimitExceeded, NotFound
from koherent.models import Assignation
from koherent.policy import Scope, Viewer, scope_for
from koherent.registry import TrackedModel
from koherent.revert.checks import unique_sets
from koherent.revert.plan import Plan, Planned, assignation_plan, batches, entry_plan, value_of
from koherent.revert.show import show
from koherent.revert.types import Conflict, ConflictCode, Key, Report, RevertPolicy, RevertStatus

ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class _Request:
    """One call of a revert function. ``build(lock)`` plans, and names a single object's latest entry."""

    scope: Scope | None
    build: Callable[[bool], tuple[Plan, Key | None]]
    name: str
    expected_latest: Key | None
    expected_plan: str | None
    policy: RevertPolicy
    dry_run: bool
    reason: str | None
    links: dict[str, str]


def revert_to(
    viewer: Viewer | None,
    label: str,
    history_id: int,
    *,
    expected_latest: Key | None = None,
    expected_plan: str | None = None,
    policy: RevertPolicy = RevertPolicy.ABORT,
    dry_run: bool = False,
    reason: str | None = None,
) -> Report:
    """Give an object the tracked values of one of its entries, creating or deleting it where the entry says so.

    ``viewer`` None is trusted code. ``expected_latest``: the (label, history id) that the caller takes for the newest.
    Raises ``NotFound``, ``Unauthenticated``, ``Forbidden``, ``LimitExceeded``; conflicts are data in the report.
    """
    scope = None if viewer is None else scope_for(viewer)
    tracked = registry.by_label(label) if scope is None else scope.tracked(label)
    if tracked is None:
        raise NotFound("No such entry.")
    rows = _history(tracked) if scope is None else scope.entries(tracked)
    row = rows.filter(pk=history_id).first()
    if row is None:
        raise NotFound("No such entry.")
    if expected_latest is not None:
        expected_latest = (expected_latest[0].lower(), expected_latest[1])

    def build(lock: bool) -> tuple[Plan, Key | None]:
        plan, latest = entry_plan(tracked, row, lock=lock)
        return plan, (tracked.label, latest)

    return _run(
        _Request(
            scope=scope,
            build=build,
            name=f"{tracked.label}:{getattr(row, tracked.pk_attname)}",
            expected_latest=expected_latest,
            expected_plan=expected_plan,
            policy=policy,
            dry_run=dry_run,
            reason=reason,
            links={"reverts_entry": f"{tracked.label}:{history_id}"},
        )
    )


def revert_assignation(
    viewer: Viewer | None,
    assignation_id: str,
    *,
    expected_plan: str | None = None,
    policy: RevertPolicy = RevertPolicy.ABORT,
    dry_run: bool = False,
    reason: str | None = None,
) -> Report:
    """Take back what one assignation did, on all of its objects, and leave everything else as it is.

    ``viewer`` None is trusted code. Raises ``NotFound``, ``Unauthenticated``, ``Forbidden``, ``LimitExceeded``,
    ``HistoryPruned``; conflicts are data in the report.
    """
    scope = None if viewer is None else scope_for(viewer)
    if scope is not None and not any(_own(scope, t, assignation_id).exists() for t in scope.models):
        raise NotFound("No such assignation.")

    def build(lock: bool) -> tuple[Plan, Key | None]:
        plan = assignation_plan(assignation_id, lock=lock)
        if plan is None:
            raise NotFound("No such assignation.")
        return plan, None

    return _run(
        _Request(
            scope=scope,
            build=build,
            name=f"assignation:{assignation_id}",
            expected_latest=None,
            expected_plan=expected_plan,
            policy=policy,
            dry_run=dry_run,
            reason=reason,
            links={"reverts": assignation_id},
        )
    )


def plan_entry(
    viewer: Viewer | None, label: str, history_id: int, *, policy: RevertPolicy = RevertPolicy.ABORT
) -> Report:
    """What ``revert_to()`` would do; writes nothing."""
    return revert_to(viewer, label, history_id, policy=policy, dry_run=True)


def plan_assignation(
    viewer: Viewer | None, assignation_id: str, *, policy: RevertPolicy = RevertPolicy.ABORT
) -> Report:
    """What ``revert_assignation()`` would do; writes nothing."""
    return revert_assignation(viewer, assignation_id, policy=policy, dry_run=True)


def token_of(plan: Plan) -> str:
    """The token of a plan: its objects, actions, values and conflicts. Keyed, so that it tells nothing about values."""
    described = [_described(step) for step in plan.steps]
    described.sort(key=lambda item: json.dumps(item[:3]))
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return salted_hmac("koherent.revert.plan", text, algorithm="sha256").hexdigest()


def _described(step: Planned) -> list[Any]:
    live = [] if step.live is None else [[f.name, to_json(f, value_of(step.live, f))] for f in _shown(step)]
    result = [] if step.result is None else [[f.name, to_json(f, value_of(step.result, f))] for f in _shown(step)]
    links = [
        [name, *(sorted((to_json(None, key) for key in keys), key=str) for keys in (step.links_now[name], then))]
        for name, then in sorted(step.links_then.items())
    ]
    if step.action == "-":
        links = [[n, sorted((to_json(None, k) for k in keys), key=str)] for n, keys in sorted(step.links_now.items())]
    conflicts = sorted([c.code.value, list(c.fields), list(c.entry or ())] for c in step.conflicts)
    return [step.tracked.label, str(step.pk), step.action, live, result, links, conflicts]


def _shown(step: Planned) -> Iterable[Any]:
    """The fields that a plan is about; a deletion is about all, but for time stamps that move by themselves."""
    if step.action != "-":
        return step.fields
    return [f for f in step.tracked.fields if not getattr(f, "auto_now", False)]


def _history(tracked: TrackedModel) -> Any:
    return tracked.history_model._base_manager.using(DEFAULT_DB_ALIAS)


def _own(scope: Scope, tracked: TrackedModel, assignation_id: str) -> Any:
    return scope.entries(tracked).filter(assignation_id=assignation_id)


def _authorise(scope: Scope, plan: Plan) -> None:
    """Raises ``Forbidden`` for the whole, without saying for which step, and ``LimitExceeded``."""
    refused = Forbidden("You may not undo all of this.")
    asked: dict[tuple[TrackedModel, str], bool] = {}
    for step in plan.steps:
        tracked = step.tracked
        if tracked not in scope.models:
            raise refused
        key = tracked, step.action
        if key not in asked:
            asked[key] = scope.policy.may_revert(scope.viewer, tracked, step.action)  # type: ignore[arg-type]
        if not asked[key]:
            raise refused
        if step.action == "~" and scope.redacted(tracked) & {*(f.name for f in step.fields), *step.links_then}:
            raise refused
    if scope.hides_rows:
        stepping: dict[TrackedModel, set[Any]] = defaultdict(set)
        for step in plan.steps:
            stepping[step.tracked].add(step.pk)
        for tracked, ids in plan.entries.items():
            visible: set[int] = set()
            for batch in batches(ids):
                visible.update(scope.entries(tracked).filter(pk__in=batch).values_list("pk", flat=True))
            for batch in batches(ids - visible):
                hidden = _history(tracked).filter(pk__in=batch).values_list(tracked.pk_attname, flat=True)
                if stepping[tracked].intersection(hidden):
                    raise refused
    limit = settings().revert_limit
    if len(plan.steps) > limit:
        raise LimitExceeded(f"This undoes {len(plan.steps)} objects; at most {limit} are allowed.", limit=limit)


@dataclass(frozen=True, kw_only=True)
class _Decision:
    plan: Plan
    token: str
    status: RevertStatus
    steps: list[Planned]


def _decide(request: _Request, lock: bool) -> _Decision:
    plan, latest = request.build(lock)
    if request.scope is not None:
        _authorise(request.scope, plan)
    token = token_of(plan)
    stale = request.expected_latest is not None and request.expected_latest != latest
    if stale:
        for step in plan.steps:
            step.stubborn = True
            step.conflicts.insert(
                0, Conflict(code=ConflictCode.CHANGED_SINCE, message="There is a later entry.", entry=latest)
            )
    if stale or (request.expected_plan is not None and request.expected_plan != token):
        return _Decision(plan=plan, token=token, status=RevertStatus.CONFLICTED, steps=[])
    if not plan.steps:
        return _Decision(plan=plan, token=token, status=RevertStatus.UNCHANGED, steps=[])
    if request.policy is RevertPolicy.SKIP_CONFLICTS:
        plan.settle()
        steps = [step for step in plan.steps if not step.skipped]
    else:
        overwrite = request.policy is RevertPolicy.OVERWRITE
        steps = [] if any(step.blocked(overwrite) for step in plan.steps) else plan.steps
    status = RevertStatus.PLANNED if steps else RevertStatus.CONFLICTED
    return _Decision(plan=plan, token=token, status=status, steps=steps)


def _run(request: _Request) -> Report:
    if request.dry_run:
        decision = _decide(request, lock=False)
        return _report(request, decision, decision.status, None, [])
    attempt = 1
    while True:
        try:
            with transaction.atomic(using=DEFAULT_DB_ALIAS):
                return _apply(request)
        except IntegrityError:
            # Somebody wrote between our look and our write; the next look sees it and names the conflict.
            if attempt == ATTEMPTS:
                return _refused(request)
            attempt += 1


def _refused(request: _Request) -> Report:
    """The database refuses what the plan holds to be possible: say so on every step, nothing is written."""
    decision = _decide(request, lock=False)
    if decision.status is not RevertStatus.PLANNED:
        return _report(request, decision, decision.status, None, [])
    for step in decision.steps:
        step.conflicts.append(Conflict(code=ConflictCode.INVALID, message="The database refused the change."))
    return _report(request, replace(decision, steps=[]), RevertStatus.CONFLICTED, None, [])


def _apply(request: _Request) -> Report:
    connection = connections[DEFAULT_DB_ALIAS]
    if connection.vendor == "postgresql":
        # Row locks cannot make two reverts of a deleted object wait for each other: there is no row.
        number = hashlib.blake2b(f"koherent.revert:{request.name}".encode(), digest_size=8).digest()
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [int.from_bytes(number, "big", signed=True)])
    decision = _decide(request, lock=True)
    if decision.status is not RevertStatus.PLANNED:
        return _report(request, decision, decision.status, None, [])
    assignation_id = str(uuid.uuid4())
    outer = current_audit().assignation_id
    metadata = {} if outer is None else {"requestAssignationId": outer}
    with revert_audit(assignation_id, request.reason, metadata), recorder.suspended():
        written = _Writer(decision.plan, decision.steps).write()
    Assignation.objects.using(DEFAULT_DB_ALIAS).filter(assignation_id=assignation_id).update(**request.links)
    if connection.vendor == "postgresql":
        # A deferred constraint must fail here, where it can be answered, and not at somebody's COMMIT.
        connection.check_constraints()
    report = _report(request, decision, RevertStatus.APPLIED, assignation_id, written)
    signal.reverted.send(sender=Report, report=report)
    return report


def _report(
    request: _Request, decision: _Decision, status: RevertStatus, assignation_id: str | None, written: list[Key]
) -> Report:
    done = set(decision.steps) if status is RevertStatus.APPLIED else set()
    steps = show(decision.plan.steps, request.scope, done)
    return Report(
        status=status,
        plan=decision.token,
        assignation_id=assignation_id,
        steps=steps,
        conflict_count=sum(1 for step in steps if step.conflicts),
        entry_keys=tuple(written),
    )


class _Writer:
    """Writes the steps of a plan set-wise, and their entries. Values are copied from history inside the database."""

    def __init__(self, plan: Plan, steps: list[Planned]) -> None:
        self.plan, self.using = plan, DEFAULT_DB_ALIAS
        self.now = timezone.now()
        self.written: list[Key] = []
        self.by_model: dict[str, dict[TrackedModel, list[Planned]]] = {"-": {}, "~": {}, "+": {}}
        for step in steps:
            self.by_model[step.action].setdefault(step.tracked, []).append(step)
        self.by_key = {step.key: step for step in steps}
        self.touched: dict[TrackedModel, set[Any]] = defaultdict(set)

    def write(self) -> list[Key]:
        """Returns the keys of the new entries."""
        for tracked, steps in self.by_model["-"].items():
            self.record(tracked, [step.pk for step in steps], "-")
        for tracked, steps in self.by_model["-"].items():
            self.delete(tracked, steps)
        for tracked, steps in self.by_model["~"].items():
            self.park(tracked, steps)
            self.copy_values(tracked, [(s, {f.name for f in s.fields}) for s in steps])
            self.stamp(tracked, [step.pk for step in steps])
            self.touched[tracked].update(step.pk for step in steps)
        for tracked, steps in self.by_model["+"].items():
            self.create(tracked, steps)
        for action in ("~", "+"):
            for tracked, steps in self.by_model[action].items():
                self.write_links(tracked, steps)
        for tracked, steps in self.by_model["+"].items():
            self.record(tracked, [step.pk for step in steps], "+")
        for tracked, pks in self.touched.items():
            self.record(tracked, sorted(pks, key=str), "~", links=True)
        return self.written

    def rows(self, model: type[models.Model]) -> Any:
        """All rows, whatever the model's own managers hide."""
        return model._base_manager.using(self.using)

    def record(self, tracked: TrackedModel, pks: list[Any], action: str, links: bool = False) -> None:
        """Write entries of the rows as they are in the database now."""
        ids = recorder.record(tracked, self.using, pks, action, links=links)
        self.written += [(tracked.label, history_id) for history_id in ids]

    def delete(self, tracked: TrackedModel, steps: list[Planned]) -> None:
        """Rows, their links and nothing else: the plan knows of every other row that refers to them."""
        nulls: dict[tuple[type[models.Model], str], set[Any]] = defaultdict(set)
        for step in steps:
            for referrer in self.plan.integrity.still_referring(step, self.by_key):
                nulls[referrer.model, referrer.field.name].add(referrer.pk)
        for (model, name), pks in nulls.items():
            for batch in batches(pks):
                self.rows(model).filter(pk__in=batch).update(**{name: None})
            referring = registry.for_model(model)
            if referring is not None:
                self.touched[referring].update(pks)
        model = tracked.model
        relations: list[Any] = [r for r in model._meta.get_fields(include_hidden=True) if r.auto_created]
        links = [r for r in relations if not r.concrete and r.one_to_many and r.related_model._meta.auto_created]
        for batch in batches(step.pk for step in steps):
            for link in links:
                self.rows(link.related_model).filter(**{f"{link.field.attname}__in": batch})._raw_delete(self.using)
            for table in (model, *model._meta.get_parent_list()):
                self.rows(table).filter(pk__in=batch)._raw_delete(self.using)

    def create(self, tracked: TrackedModel, steps: list[Planned]) -> None:
        """Rows come back with the keys and values that they had."""
        self.rows(tracked.model).bulk_create([step.result for step in steps])
        # Time stamps set themselves on insert, and a JSON null cannot be told from a missing value in memory.
        special = {
            f.name
            for f in tracked.fields
            if getattr(f, "auto_now", False)
            or getattr(f, "auto_now_add", False)
            or isinstance(f, (models.JSONField, models.FileField))
        }
        self.copy_values(tracked, [(s, special & {f.name for f in s.fields}) for s in steps])

    def copy_values(self, tracked: TrackedModel, wanted: list[tuple[Planned, set[str]]]) -> None:
        """Fields get the values of the history rows that hold them: one statement for each set of fields."""
        groups: dict[frozenset[str], dict[Any, int]] = defaultdict(dict)
        for step, own in wanted:
            by_source: dict[int, set[str]] = defaultdict(set)
            for name in own:
                by_source[step.sources[name]].add(name)
            for source, together in by_source.items():
                groups[frozenset(together)][step.pk] = source
        for names, sources in groups.items():
            for batch in batches(sources.values()):
                self.copy(tracked, sorted(names), batch)

    def copy(self, tracked: TrackedModel, names: list[str], history_ids: list[int]) -> None:
        """UPDATE ... FROM history; the ORM's correlated subqueries are slow on SQLite."""
        connection = connections[self.using]
        quote = connection.ops.quote_name
        fields: list[Any] = [f for f in tracked.fields if f.name in names]
        history: Any = tracked.history_model._meta
        key = quote(history.get_field(tracked.model._meta.pk.name).column)
        for table in (tracked.model, *tracked.model._meta.get_parent_list()):
            pairs = [(quote(f.column), quote(history.get_field(f.name).column)) for f in fields if f.model is table]
            if not pairs:
                continue
            meta: Any = table._meta
            name, live_key = quote(meta.db_table), quote(meta.pk.column)
            with connection.cursor() as cursor:
                cursor.execute(
                    f"UPDATE {name} SET {', '.join(f'{now} = h.{then}' for now, then in pairs)} "
                    f"FROM {quote(history.db_table)} h WHERE h.{key} = {name}.{live_key} "
                    f"AND h.{quote('history_id')} IN ({', '.join(['%s'] * len(history_ids))})",
                    history_ids,
                )

    def stamp(self, tracked: TrackedModel, pks: list[Any]) -> None:
        """``auto_now`` fields of a changed row say now."""
        stamps: dict[str, Any] = {}
        for f in tracked.model._meta.concrete_fields:
            if getattr(f, "auto_now", False):
                kind = f.get_internal_type()
                local = self.now
                stamps[f.name] = local.date() if kind == "DateField" else local.time() if kind == "TimeField" else local
        for batch in batches(pks) if stamps else ():
            self.rows(tracked.model).filter(pk__in=batch).update(**stamps)

    def write_links(self, tracked: TrackedModel, steps: list[Planned]) -> None:
        """Many-to-many links go and come as the plan says."""
        for m2m in tracked.m2m:
            going: list[Any] = []
            coming: list[Any] = []
            for step in steps:
                if m2m.name not in step.links_then:
                    continue
                then, now = step.links_then[m2m.name], step.links_now.get(m2m.name, {})
                going += [key for target, key in now.items() if target not in then]
                for target in sorted(then - set(now), key=str):
                    coming.append(m2m.through(**{m2m.source_attname: step.pk, m2m.target_attname: target}))
            for batch in batches(going):
                self.rows(m2m.through).filter(pk__in=batch)._raw_delete(self.using)
            if coming:
                self.rows(m2m.through).bulk_create(coming)

    def park(self, tracked: TrackedModel, steps: list[Planned]) -> None:
        """Unique values may move within the group: who holds what another one gets lets go of it first."""
        model = tracked.model
        creations = self.by_model["+"].get(tracked, [])
        for unique in unique_sets(model):
            fields = [f for f in model._meta.concrete_fields if f.attname in unique]
            moving = [s for s in steps if any(f in s.fields for f in fields)]
            if not moving:
                continue
            gets = {tuple(getattr(s.result, name) for name in unique): s for s in [*moving, *creations]}
            lets = [s for s in moving if gets.get(tuple(getattr(s.live, name) for name in unique), s) is not s]
            for f in fields:
                parked = [s for s in lets if f in s.fields]
                placeholders = [(s, None if f.null else _placeholder(f)) for s in parked]
                objects = []
                for step, value in placeholders:
                    instance = model(**{tracked.pk_attname: step.pk})
                    setattr(instance, f.attname, value)
                    objects.append(instance)
                if objects:
                    self.rows(model).bulk_update(objects, [f.name], batch_size=500)
                lets = [s for s in lets if s not in parked]


def _placeholder(model_field: Any) -> Any:
    """A value that nobody holds, for the moments until the row gets its own."""
    target = model_field.target_field if model_field.remote_field is not None else model_field
    kind = target.get_internal_type()
    if kind == "UUIDField":
        return uuid.uuid4()
    if isinstance(target, (models.CharField, models.TextField)):
        return uuid.uuid4().hex[: target.max_length]
    if isinstance(target, models.IntegerField):
        _low, high = connections[DEFAULT_DB_ALIAS].ops.integer_field_range(kind)
        top = 2**31 - 1 if high is None else high
        return random.randint(top // 2, top)
    if isinstance(target, models.DateTimeField):
        return datetime.fromordinal(random.randint(1, 600_000)).replace(tzinfo=UTC)
    if isinstance(target, models.DateField):
        return date.fromordinal(random.randint(1, 600_000))
    if isinstance(target, models.DecimalField):
        top = 10 ** (target.max_digits - target.decimal_places)
        return target.to_python(random.randint(top // 10, top - 1))
    if isinstance(target, models.FloatField):
        return random.random() * 1e300
    raise IntegrityError(f"{model_field} cannot be parked")
