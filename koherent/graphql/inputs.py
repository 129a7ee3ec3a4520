"""Inputs of the trail's queries and subscriptions."""

from datetime import datetime
from typing import Annotated, cast

import strawberry

from koherent.graphql.types import HistoryAction
from koherent.policy import Action
from koherent.timeline import Filters


@strawberry.input(description="Which entries to give. Null filters nothing, an empty list matches nothing.")
class HistoryFilter:
    models: list[str] | None = strawberry.field(
        default=None, description="Django labels of models, such as `example_schema.dataset`."
    )
    object_id: strawberry.ID | None = strawberry.field(
        default=None, description="Primary key of one object; needs exactly one model."
    )
    users: list[strawberry.ID] | None = strawberry.field(default=None, description="Primary keys of accounts.")
    apps: list[str] | None = strawberry.field(default=None, description="Names of applications.")
    assignation_id: strawberry.ID | None = strawberry.field(default=None, description="One unit of work.")
    assigned: bool | None = strawberry.field(
        default=None, description="True: only entries with an assignation; false: only those without."
    )
    actions: list[HistoryAction] | None = strawberry.field(default=None, description="What happened to the object.")
    since: datetime | None = strawberry.field(default=None, description="At this time or later.")
    until: datetime | None = strawberry.field(default=None, description="Before this time.")

    def to_filters(self) -> Filters:
        """The same, in the timeline's words."""
        return Filters(
            models=self.models,
            object_id=self.object_id,
            users=self.users,
            apps=self.apps,
            assignation_id=self.assignation_id,
            assigned=self.assigned,
            actions=None if self.actions is None else [cast("Action", action.value) for action in self.actions],
            since=self.since,
            until=self.until,
        )


def filters_of(given: HistoryFilter | None) -> Filters:
    """The timeline's filters for an optional argument."""
    return Filters() if given is None else given.to_filters()


FilterArgument = Annotated[HistoryFilter | None, strawberry.argument(description="Which entries to give.")]
