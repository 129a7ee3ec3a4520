"""From a plan to its effect: decide, and, under row locks in one transaction, plan again, write and record."""

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from django.db import DEFAULT_DB_ALIAS, IntegrityError, OperationalError, connections, transaction

from koherent import locks, recorder, signal, writer
from koherent.context import current_audit, revert_audit
from koherent.revert.authorise import Guard
from koherent.revert.plan import Plan, Planning
from koherent.revert.show import ShownSteps
from koherent.revert.steps import Planned
from koherent.revert.telling import Telling
from koherent.revert.token import token_of
from koherent.revert.types import Conflict, ConflictCode, Key, Progress, Report, RevertPolicy, RevertStatus
from koherent.revert.writer import Writer

ATTEMPTS = 5
# PostgreSQL's codes of a deadlock and of a serialisation failure.
_ROLLED_BACK = frozenset({"40P01", "40001"})


@dataclass(frozen=True, kw_only=True)
class Request:
    """One call of a revert function. ``build`` plans; ``latest`` finds the newest entry of a single object.

    ``name`` says what is reverted: two reverts of the same wait for each other. ``labels`` are the models whose values
    may come back: their erasures wait. ``links`` are the columns of ``Assignation`` that say so afterwards.
    """

    guard: Guard
    build: Callable[[Planning], Plan]
    name: str
    labels: Collection[str]
    policy: RevertPolicy
    dry_run: bool
    reason: str | None
    links: Mapping[str, str]
    expected_plan: str | None
    expected_latest: Key | None = None
    latest: Callable[[], Key | None] | None = None
    progress: Progress | None = None


@dataclass(kw_only=True)
class _Decision:
    """What would happen: ``steps`` are those that are to be written."""

    plan: Plan
    token: str
    status: RevertStatus
    shown: ShownSteps
    steps: list[Planned] = field(default_factory=list)


def run(request: Request) -> Report:
    """Plan, decide and, unless it is a dry run, write."""
    if request.dry_run:
        decision = _decide(request, lock=False)
        return _report(decision, decision.status)
    connection = connections[DEFAULT_DB_ALIAS]
    commits = not connection.in_atomic_block and connection.get_autocommit()
    attempt = 1
    while True:
        try:
            with transaction.atomic(using=DEFAULT_DB_ALIAS):
                return _apply(request, commits)
        except IntegrityError:
            # Somebody wrote between our look and our write; the next look sees it and names the conflict.
            if attempt == ATTEMPTS:
                return _refused(request)
        except OperationalError as error:
            # Others lock rows in orders of their own; the database ended the knot by rolling us back.
            if attempt == ATTEMPTS or getattr(error.__cause__, "sqlstate", None) not in _ROLLED_BACK:
                raise
        attempt += 1


def _decide(request: Request, lock: bool) -> _Decision:
    plan = request.build(Planning(guard=request.guard, lock=lock, progress=request.progress))
    token = token_of(plan.steps)
    stale = _stale(request, plan)
    status, steps = RevertStatus.CONFLICTED, list[Planned]()
    if not stale and request.expected_plan in (None, token):
        if not plan.steps:
            status = RevertStatus.UNCHANGED
        elif request.policy is RevertPolicy.SKIP_CONFLICTS:
            plan.settle()
            steps = [step for step in plan.steps if not step.skipped]
        else:
            overwrite = request.policy is RevertPolicy.OVERWRITE
            steps = [] if any(step.blocked(overwrite) for step in plan.steps) else plan.steps
        if steps:
            status = RevertStatus.PLANNED
    shown = ShownSteps(plan.steps, request.guard.scope)
    return _Decision(plan=plan, token=token, status=status, steps=steps, shown=shown)


def _stale(request: Request, plan: Plan) -> bool:
    """Whether the object has a later entry than the caller expects; notes it on the step."""
    if request.expected_latest is None or request.latest is None:
        return False
    latest = request.latest()
    if latest == request.expected_latest:
        return False
    later = Conflict(code=ConflictCode.CHANGED_SINCE, message="There is a later entry.", entry=latest)
    for step in plan.steps:
        step.stubborn = True
        step.conflicts = (later, *step.conflicts)
    return True


def _refused(request: Request) -> Report:
    """The database refuses what the plan holds to be possible: say so on every step, nothing is written."""
    decision = _decide(request, lock=False)
    if decision.status is not RevertStatus.PLANNED:
        return _report(decision, decision.status)
    for step in decision.steps:
        step.add(Conflict(code=ConflictCode.INVALID, message="The database refused the change."))
    decision.shown = ShownSteps(decision.plan.steps, request.guard.scope)
    return _report(decision, RevertStatus.CONFLICTED)


def _apply(request: Request, commits: bool) -> Report:
    """``commits``: the transaction is ours, and is committed right afterwards."""
    connection = connections[DEFAULT_DB_ALIAS]
    # Row locks cannot make two reverts of a deleted object wait for each other, nor a revert and an erasure.
    locks.hold(connection, f"koherent.revert:{request.name}", shared=map(locks.erasing, request.labels))
    decision = _decide(request, lock=True)
    if decision.status is not RevertStatus.PLANNED:
        return _report(decision, decision.status)
    assignation_id = str(uuid.uuid4())
    outer = current_audit().assignation_id
    metadata = {} if outer is None else {"requestAssignationId": outer}
    telling = Telling(decision.steps)
    write = Writer(decision.plan, decision.steps, request.progress)
    single = None if telling.is_heard_before() else write.single_change()
    if single is None:
        # What handlers write belongs to the assignation, too.
        writer.begin(connection, assignation_id, request.links)
    with revert_audit(assignation_id, request.reason, metadata):
        telling.before()
        with recorder.suspended():
            written = write.write() if single is None else write.write_change(single, assignation_id, request.links)
        telling.after()
    if connection.vendor == "postgresql" and (not commits or signal.reverted.has_listeners(Report)):
        # A deferred constraint must fail here, where it can be answered: not at somebody's COMMIT, and not after
        # somebody has been told. Our own COMMIT, which comes at once, can be answered too.
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
    decision.shown.applied = True
    report = _report(decision, RevertStatus.APPLIED, assignation_id, written)
    signal.reverted.send(sender=Report, report=report)
    return report


def _report(
    decision: _Decision, status: RevertStatus, assignation_id: str | None = None, written: list[Key] | None = None
) -> Report:
    return Report(
        status=status,
        plan=decision.token,
        assignation_id=assignation_id,
        steps=decision.shown,
        conflict_count=sum(1 for step in decision.plan.steps if step.conflicts),
        entry_keys=written or [],
    )
