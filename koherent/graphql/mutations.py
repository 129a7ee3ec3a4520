"""Undoing changes: one object, or all that one assignation did."""

from collections.abc import Callable
from enum import Enum
from typing import Annotated, TypeAlias

import strawberry
from django.core.exceptions import ValidationError
from strawberry import relay
from strawberry_django.fields.types import OperationInfo, OperationMessage

from koherent import revert, timeline
from koherent.context import check_assignation_id
from koherent.errors import BadInput
from koherent.graphql.pages import check_window, keyed_connection, page_info, window
from koherent.graphql.requests import viewer_of
from koherent.graphql.resolving import in_sync, selected
from koherent.graphql.types import (
    AfterArgument,
    FieldChange,
    FirstArgument,
    HistoryAction,
    HistoryEntry,
    HistoryEntryConnection,
    entry_key,
    to_graphql,
)
from koherent.policy import Viewer, scope_for


@strawberry.enum(description="What to do about conflicts.")
class RevertPolicy(Enum):
    ABORT = strawberry.enum_value("ABORT", description="Write nothing when there is any conflict.")
    SKIP_CONFLICTS = strawberry.enum_value("SKIP_CONFLICTS", description="Leave out the steps that have a conflict.")
    OVERWRITE = strawberry.enum_value("OVERWRITE", description="Revert over later changes, where that is possible.")


@strawberry.enum(description="What a revert did, or would do.")
class RevertStatus(Enum):
    PLANNED = strawberry.enum_value("PLANNED", description="A dry run; under this policy it would write.")
    APPLIED = strawberry.enum_value("APPLIED", description="Written; with SKIP_CONFLICTS some steps may be left out.")
    CONFLICTED = strawberry.enum_value("CONFLICTED", description="Nothing was written: conflicts, or another plan.")
    UNCHANGED = strawberry.enum_value("UNCHANGED", description="Nothing to do: everything is as wanted already.")


@strawberry.enum(description="Why a step cannot simply be done.")
class RevertConflictCode(Enum):
    CHANGED_SINCE = strawberry.enum_value("CHANGED_SINCE", description="Somebody changed the object later.")
    UNIQUE_TAKEN = strawberry.enum_value("UNIQUE_TAKEN", description="Another object has a value that must be unique.")
    REFERENCE_MISSING = strawberry.enum_value("REFERENCE_MISSING", description="An object it refers to is gone.")
    STILL_REFERENCED = strawberry.enum_value("STILL_REFERENCED", description="Other objects refer to it.")
    UNTRACKED_FIELDS = strawberry.enum_value("UNTRACKED_FIELDS", description="Fields without history would be lost.")
    INVALID = strawberry.enum_value("INVALID", description="The model refuses the values.")


@strawberry.type(description="Why a step cannot simply be done.")
class RevertConflict:
    code: RevertConflictCode = strawberry.field(description="The kind of conflict.")
    message: str = strawberry.field(description="The conflict, for people.")
    fields: list[str] = strawberry.field(description="Names of the fields concerned.")
    entry: HistoryEntry | None = strawberry.field(description="The entry in the way, where there is a visible one.")


@strawberry.type(description="What a revert does to one object.")
class RevertStep:
    action: HistoryAction = strawberry.field(description="What is done to the object.")
    model: str = strawberry.field(description="Django label of the model.")
    object_id: strawberry.ID = strawberry.field(description="Primary key of the object, as text.")
    object_label: str = strawberry.field(description="What people call the object.")
    changes: list[FieldChange] = strawberry.field(description="Live values and the values they go to.")
    conflicts: list[RevertConflict] = strawberry.field(description="Why it cannot simply be done; mostly empty.")
    applied: bool = strawberry.field(description="Whether it was done.")


@strawberry.type(description="A step and its place in the plan.")
class RevertStepEdge:
    cursor: str = strawberry.field(description="The step's place; give it as `after`.")
    node: RevertStep = strawberry.field(description="The step.")


@strawberry.type(description="A page of steps.")
class RevertStepConnection:
    page_info: relay.PageInfo = strawberry.field(description="Whether there is more, and where.")
    edges: list[RevertStepEdge] = strawberry.field(description="The steps of this page.")


@strawberry.type(description="What a revert did, or would do.")
class RevertReport:
    report: strawberry.Private[revert.Report]
    status: RevertStatus = strawberry.field(description="The outcome.")
    plan: str = strawberry.field(
        description="Token of the plan: objects, actions, values and conflicts. Give it as `expectedPlan` to apply "
        "what was shown, or nothing."
    )
    assignation_id: strawberry.ID | None = strawberry.field(description="The new assignation that wrote it.")
    step_count: int = strawberry.field(description="How many steps the plan has.")
    conflict_count: int = strawberry.field(description="How many steps have a conflict.")

    @strawberry.field(description="The steps, in the order in which they are done.")
    def steps(
        self, info: strawberry.Info, first: FirstArgument = None, after: AfterArgument = None
    ) -> RevertStepConnection:
        viewer, report = viewer_of(info), self.report
        return in_sync(lambda: _steps(viewer, report, first, after))

    @strawberry.field(description="The entries that were written.")
    def entries(
        self, info: strawberry.Info, first: FirstArgument = None, after: AfterArgument = None
    ) -> HistoryEntryConnection:
        return keyed_connection(info, self.report.entry_keys, first=first, after=after)


RevertPayload: TypeAlias = Annotated[
    RevertReport | OperationInfo,
    strawberry.union("RevertPayload", description="The report; or what validation said about bad arguments."),
]
ExpectedPlan = Annotated[
    str | None, strawberry.argument(description="Token of the plan that was shown; another plan is CONFLICTED.")
]
PolicyArgument = Annotated[RevertPolicy, strawberry.argument(description="What to do about conflicts.")]
DryRun = Annotated[bool, strawberry.argument(description="Plan only, write nothing.")]
Reason = Annotated[str | None, strawberry.argument(description="Why, for the history.")]


@strawberry.type(description="Undoing changes.")
class Mutation:
    @strawberry.mutation(description="Bring one object back to how an entry left it; a DELETE entry's object goes.")
    def revert_to(
        self,
        info: strawberry.Info,
        entry_id: Annotated[strawberry.ID, strawberry.argument(description="Global id of the entry to go back to.")],
        expected_latest: Annotated[
            strawberry.ID | None,
            strawberry.argument(description="Global id of the object's latest entry as shown; another is CONFLICTED."),
        ] = None,
        expected_plan: ExpectedPlan = None,
        policy: PolicyArgument = RevertPolicy.ABORT,
        dry_run: DryRun = False,
        reason: Reason = None,
    ) -> RevertPayload | None:
        viewer = viewer_of(info)

        def run() -> revert.Report:
            label, history_id = entry_key(entry_id)
            return revert.revert_to(
                viewer,
                label,
                history_id,
                expected_latest=None if expected_latest is None else entry_key(expected_latest),
                expected_plan=expected_plan,
                policy=revert.RevertPolicy[policy.name],
                dry_run=dry_run,
                reason=reason,
            )

        return in_sync(lambda: _payload(info, viewer, run, reason))

    @strawberry.mutation(description="Undo all that one assignation did, across models.")
    def revert_assignation(
        self,
        info: strawberry.Info,
        assignation_id: Annotated[strawberry.ID, strawberry.argument(description="Id of the assignation to undo.")],
        expected_plan: ExpectedPlan = None,
        policy: PolicyArgument = RevertPolicy.ABORT,
        dry_run: DryRun = False,
        reason: Reason = None,
    ) -> RevertPayload | None:
        viewer = viewer_of(info)

        def run() -> revert.Report:
            return revert.revert_assignation(
                viewer,
                check_assignation_id(assignation_id),
                expected_plan=expected_plan,
                policy=revert.RevertPolicy[policy.name],
                dry_run=dry_run,
                reason=reason,
            )

        return in_sync(lambda: _payload(info, viewer, run, reason))


def _payload(
    info: strawberry.Info, viewer: Viewer, run: Callable[[], revert.Report], reason: str | None
) -> RevertReport | OperationInfo:
    # First of all: who may see nothing learns nothing about ids either.
    scope_for(viewer)
    _check_pages(info)
    if reason is not None and (len(reason) > 255 or not reason.isprintable()):
        raise BadInput("reason has at most 255 printable characters.", argument="reason")
    try:
        report = run()
    except ValidationError as error:
        return OperationInfo(
            messages=[
                OperationMessage(kind=OperationMessage.Kind.VALIDATION, message=message) for message in error.messages
            ]
        )
    return RevertReport(
        report=report,
        status=RevertStatus[report.status.name],
        plan=report.plan,
        assignation_id=None if report.assignation_id is None else strawberry.ID(report.assignation_id),
        step_count=len(report.steps),
        conflict_count=report.conflict_count,
    )


def _check_pages(info: strawberry.Info) -> None:
    """Refuse bad pages of the report before anything is written: afterwards they would only hide what was done."""
    for name in ("steps", "entries"):
        for field in selected(info, name):
            first, after = field.arguments.get("first"), field.arguments.get("after")
            # A literal comes as its text.
            check_window(None if first is None else int(first), after)


def _steps(viewer: Viewer, report: revert.Report, first: int | None, after: str | None) -> RevertStepConnection:
    start, stop = window(len(report.steps), first, after)
    steps = report.steps[start:stop]
    keys = [conflict.entry for step in steps for conflict in step.conflicts if conflict.entry is not None]
    entries: dict[tuple[str, int], HistoryEntry] = {}
    if keys:
        loaded = timeline.load(scope_for(viewer), list(dict.fromkeys(keys)))
        entries = {(entry.tracked.label, entry.history_id): to_graphql(entry) for entry in loaded}
    edges = [
        RevertStepEdge(cursor=str(place), node=_step(step, entries)) for place, step in enumerate(steps, start=start)
    ]
    cursors = [edge.cursor for edge in edges]
    return RevertStepConnection(
        page_info=page_info(cursors, has_next=stop < len(report.steps), has_previous=start > 0), edges=edges
    )


def _step(step: revert.Step, entries: dict[tuple[str, int], HistoryEntry]) -> RevertStep:
    return RevertStep(
        action=HistoryAction(step.action),
        model=step.tracked.label,
        object_id=strawberry.ID(str(step.object_id)),
        object_label=step.object_label,
        changes=list(step.changes),  # type: ignore[arg-type]  # read by name, as HistoryEntry.changes are
        conflicts=[
            RevertConflict(
                code=RevertConflictCode[conflict.code.name],
                message=conflict.message,
                fields=list(conflict.fields),
                entry=None if conflict.entry is None else entries.get(conflict.entry),
            )
            for conflict in step.conflicts
        ],
        applied=step.applied,
    )
