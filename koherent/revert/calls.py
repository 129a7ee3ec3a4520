"""The functions that users call: undo one object's later changes, or all that one assignation did; or only plan it."""

from koherent import registry
from koherent.errors import NotFound
from koherent.policy import Viewer, scope_for
from koherent.revert.apply import Request, run
from koherent.revert.authorise import Guard
from koherent.revert.plan import assignation_plan, entry_plan, objects_of
from koherent.revert.types import Key, Progress, Report, RevertPolicy
from koherent.revert.versions import Versions, in_assignation


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
    # A revert serves the default database, as all readers do.
    if tracked is None or tracked not in registry.tracked_on():
        raise NotFound("No such entry.")
    if scope is not None and scope.hides_rows and not scope.entries(tracked).filter(pk=history_id).exists():
        raise NotFound("No such entry.")
    guard = Guard(scope)
    guard.limit(1)
    versions = Versions(tracked)

    def latest() -> Key | None:
        pk = versions.one(history_id).pk
        if scope is None:
            return tracked.label, versions.newest([pk])[pk]
        # What the viewer does not see is not later: where it matters, the guard forbids the whole.
        seen = scope.entries(tracked).filter(**{tracked.pk_attname: pk}).order_by("-history_id")
        newest = seen.values_list("history_id", flat=True).first()
        return None if newest is None else (tracked.label, newest)

    return run(
        Request(
            guard=guard,
            build=lambda planning: entry_plan(versions, history_id, planning),
            name=f"{tracked.label}:{history_id}",
            labels=[tracked.label],
            latest=latest,
            expected_latest=None if expected_latest is None else (expected_latest[0].lower(), expected_latest[1]),
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
    progress: Progress | None = None,
) -> Report:
    """Take back what one assignation did, on all of its objects, and leave everything else as it is.

    ``viewer`` None is trusted code. ``progress`` is called as the work goes on. Raises ``NotFound``,
    ``Unauthenticated``, ``Forbidden``, ``LimitExceeded``, ``HistoryPruned``; conflicts are data in the report.
    """
    scope = None if viewer is None else scope_for(viewer)
    objects = objects_of(assignation_id)
    visible = objects
    if scope is not None:
        visible = {tracked: count for tracked, count in objects.items() if tracked in scope.models}
        if scope.hides_rows:
            own = {t: scope.entries(t).filter(in_assignation(t, assignation_id)).order_by() for t in visible}
            visible = {t: rows.values(t.pk_attname).distinct().count() for t, rows in own.items()}
    if not any(visible.values()):
        raise NotFound("No such assignation.")
    guard = Guard(scope)
    guard.limit(sum(visible.values()))
    return run(
        Request(
            guard=guard,
            build=lambda planning: assignation_plan(assignation_id, objects, planning),
            name=f"assignation:{assignation_id}",
            labels=[tracked.label for tracked in objects],
            expected_plan=expected_plan,
            policy=policy,
            dry_run=dry_run,
            reason=reason,
            links={"reverts": assignation_id},
            progress=progress,
        )
    )


def plan_entry(
    viewer: Viewer | None, label: str, history_id: int, *, policy: RevertPolicy = RevertPolicy.ABORT
) -> Report:
    """What ``revert_to()`` would do; writes nothing."""
    return revert_to(viewer, label, history_id, policy=policy, dry_run=True)


def plan_assignation(
    viewer: Viewer | None,
    assignation_id: str,
    *,
    policy: RevertPolicy = RevertPolicy.ABORT,
    progress: Progress | None = None,
) -> Report:
    """What ``revert_assignation()`` would do; writes nothing."""
    return revert_assignation(viewer, assignation_id, policy=policy, dry_run=True, progress=progress)
