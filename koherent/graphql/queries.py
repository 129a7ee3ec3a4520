"""The trail's queries. Take them over by inheritance or with ``strawberry.tools.merge_types``."""

from datetime import datetime
from typing import Annotated

import strawberry
from strawberry import relay

from koherent import feed, timeline
from koherent.context import check_assignation_id
from koherent.graphql.inputs import FilterArgument, filters_of
from koherent.graphql.pages import connection, entry_connection, page_info
from koherent.graphql.peers import Peers, for_peers
from koherent.graphql.requests import viewer_of
from koherent.graphql.resolving import in_sync
from koherent.graphql.selection import asked, wanted_of
from koherent.graphql.types import (
    AfterArgument,
    BeforeArgument,
    FirstArgument,
    HistoryEntry,
    HistoryEntryConnection,
    HistoryUser,
    LastArgument,
    entry_id,
    entry_key,
    to_graphql,
    to_user,
)
from koherent.policy import scope_for


@strawberry.type(description="One unit of work: all changes that a client made under one id.")
class Assignation:
    peers: strawberry.Private[Peers | None] = None
    id: strawberry.ID = strawberry.field(description="The id that the client sent.")
    started_at: datetime = strawberry.field(description="Time of its first entry.")
    ended_at: datetime = strawberry.field(description="Time of its latest entry.")
    users: list[HistoryUser] = strawberry.field(description="Who made changes in it.")
    apps: list[str] = strawberry.field(description="With which applications.")
    models: list[str] = strawberry.field(description="Django labels of the models that it changed.")
    entry_count: int = strawberry.field(description="How many entries the caller may see.")
    reverts: strawberry.ID | None = strawberry.field(description="The assignation that this one undid.")
    reverts_entry: strawberry.ID | None = strawberry.field(description="The entry that this one went back to.")
    reverted_by: list[strawberry.ID] = strawberry.field(description="The assignations that undid this one.")

    @strawberry.field(description="Its entries, newest first.")
    def entries(
        self, info: strawberry.Info, first: FirstArgument = None, after: AfterArgument = None
    ) -> HistoryEntryConnection | None:
        viewer, names = viewer_of(info), asked(info)

        def read(ids: list[str]) -> dict[str, HistoryEntryConnection]:
            scope = scope_for(viewer)
            feed_cursor = feed.current_cursor() if "feedcursor" in names else ""
            pages = timeline.pages_of_assignations(scope, ids, timeline.Window.of(first, after), wanted_of(names))
            counts = timeline.counts_of_assignations(scope, ids) if "totalcount" in names else {}
            return {
                id: connection(scope, page, known_count=counts.get(id, 0), feed_cursor=feed_cursor)
                for id, page in pages.items()
            }

        return for_peers(info, Assignation, self.id, self.peers, read)


@strawberry.type(description="An assignation and its place in the list.")
class AssignationEdge:
    cursor: str = strawberry.field(description="The assignation's place; give it as `after`.")
    node: Assignation = strawberry.field(description="The assignation.")


@strawberry.type(description="A page of assignations, newest first.")
class AssignationConnection:
    page_info: relay.PageInfo = strawberry.field(description="Whether there is more, and where.")
    edges: list[AssignationEdge] = strawberry.field(description="The assignations of this page.")


@strawberry.type(description="A tracked field of a model.")
class HistoryModelField:
    name: str = strawberry.field(description="Name of the field on the Django model.")
    label: str = strawberry.field(description="What people call the field.")
    redacted: bool = strawberry.field(description="Whether its values are hidden from the caller.")


@strawberry.type(description="A tracked model.")
class HistoryModel:
    model: str = strawberry.field(description="Django label, such as `example_schema.dataset`.")
    label: str = strawberry.field(description="What people call one object of it.")
    type_name: str = strawberry.field(
        description="What the names of its types start with: `Dataset` for `DatasetHistory` and `DatasetRecord`."
    )
    fields: list[HistoryModelField] = strawberry.field(description="Its tracked fields.")


@strawberry.type(description="The audit trail.")
class Query:
    @strawberry.field(description="Entries of all models that the caller may see, newest first.")
    def history(
        self,
        info: strawberry.Info,
        filters: FilterArgument = None,
        first: FirstArgument = None,
        after: AfterArgument = None,
        last: LastArgument = None,
        before: BeforeArgument = None,
    ) -> HistoryEntryConnection | None:
        return entry_connection(info, filters_of(filters), first=first, after=after, last=last, before=before)

    @strawberry.field(description="One entry; null when there is none that the caller may see.")
    def history_entry(
        self,
        info: strawberry.Info,
        id: Annotated[strawberry.ID, strawberry.argument(description="Global id of the entry.")],
    ) -> HistoryEntry | None:
        viewer, wanted = viewer_of(info), wanted_of(asked(info))

        def read() -> HistoryEntry | None:
            scope = scope_for(viewer)
            return _or_none(timeline.get_entry(scope, *entry_key(id), wanted))

        return in_sync(read)

    @strawberry.field(
        description="The entry in force at a time: a DELETE entry after the deletion, null before the creation."
    )
    def history_as_of(
        self,
        info: strawberry.Info,
        model: Annotated[str, strawberry.argument(description="Django label of the model.")],
        object_id: Annotated[strawberry.ID, strawberry.argument(description="Primary key of the object.")],
        at: Annotated[datetime, strawberry.argument(description="The time.")],
    ) -> HistoryEntry | None:
        viewer, wanted = viewer_of(info), wanted_of(asked(info))
        return in_sync(lambda: _or_none(timeline.as_of(scope_for(viewer), model, object_id, at, wanted)))

    @strawberry.field(description="One unit of work; null when it has no entry that the caller may see.")
    def assignation(
        self, info: strawberry.Info, id: Annotated[strawberry.ID, strawberry.argument(description="Its id.")]
    ) -> Assignation | None:
        viewer, parts = viewer_of(info), _parts(asked(info))

        def read() -> Assignation | None:
            found = timeline.assignation(scope_for(viewer), check_assignation_id(id), parts)
            return None if found is None else _assignation(found)

        return in_sync(read)

    @strawberry.field(description="Units of work by their first entry, newest first.")
    def assignations(
        self, info: strawberry.Info, first: FirstArgument = None, after: AfterArgument = None
    ) -> AssignationConnection | None:
        viewer, parts = viewer_of(info), _parts(asked(info))

        def read() -> AssignationConnection:
            page = timeline.assignations(scope_for(viewer), first=first, after=after, parts=parts)
            peers = Peers()
            peers.keys = [item.id for item in page.items]
            edges = [AssignationEdge(cursor=item.cursor, node=_assignation(item, peers)) for item in page.items]
            cursors = [edge.cursor for edge in edges]
            return AssignationConnection(
                page_info=page_info(cursors, has_next=page.has_next_page, has_previous=page.has_previous_page),
                edges=edges,
            )

        return in_sync(read)

    @strawberry.field(description="What is tracked and visible to the caller.")
    def history_models(self, info: strawberry.Info) -> list[HistoryModel] | None:
        viewer = viewer_of(info)

        def read() -> list[HistoryModel]:
            scope = scope_for(viewer)
            models = []
            for tracked in scope.models:
                redacted = scope.redacted(tracked)
                fields = [*tracked.fields, *(link.field for link in tracked.m2m)]
                models.append(
                    HistoryModel(
                        model=tracked.label,
                        label=str(tracked.model._meta.verbose_name),
                        type_name=tracked.type_name,
                        fields=[
                            HistoryModelField(name=f.name, label=str(f.verbose_name), redacted=f.name in redacted)
                            for f in fields
                        ],
                    )
                )
            return models

        return in_sync(read)


def _or_none(entry: timeline.Entry | None) -> HistoryEntry | None:
    return None if entry is None else to_graphql(entry)


def _parts(names: frozenset[str]) -> timeline.AssignationParts:
    """What of assignations a selection needs; the names are those of ``asked()``."""
    return timeline.AssignationParts(
        people=bool(names & {"users", "apps"}),
        accounts="deleted" in names,
        count="entrycount" in names,
        reverts=bool(names & {"reverts", "revertsentry", "revertedby"}),
        previous="haspreviouspage" in names,
    )


def _assignation(info: timeline.AssignationInfo, peers: Peers | None = None) -> Assignation:
    return Assignation(
        peers=peers,
        id=strawberry.ID(info.id),
        started_at=info.started_at,
        ended_at=info.ended_at,
        users=[to_user(user) for user in info.users],
        apps=list(info.apps),
        models=list(info.models),
        entry_count=info.entry_count or 0,  # None where the query does not ask for it
        reverts=None if info.reverts is None else strawberry.ID(info.reverts),
        reverts_entry=None if info.reverts_entry is None else entry_id(*info.reverts_entry),
        reverted_by=[strawberry.ID(id) for id in info.reverted_by],
    )
