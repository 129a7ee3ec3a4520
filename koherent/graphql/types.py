"""The GraphQL types of the trail. The concrete entry types of the tracked models are made in ``records.py``."""

import binascii
from collections.abc import Awaitable, Iterable, Sequence
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Self

import strawberry
from strawberry import relay
from strawberry.scalars import JSON

from koherent import registry, timeline
from koherent.errors import BadId
from koherent.graphql.requests import viewer_of
from koherent.graphql.resolving import in_sync
from koherent.graphql.selection import asked, wanted_of
from koherent.policy import Scope, scope_for

if TYPE_CHECKING:
    TypedHistoryEntry = Any

FirstArgument = Annotated[
    int | None, strawberry.argument(description="At most so many, from the start; without it, as many as the limit.")
]
AfterArgument = Annotated[str | None, strawberry.argument(description="Only what comes after this cursor.")]
LastArgument = Annotated[int | None, strawberry.argument(description="At most so many, from the end.")]
BeforeArgument = Annotated[str | None, strawberry.argument(description="Only what comes before this cursor.")]

MAX_ID = 2**63 - 1


@strawberry.enum(description="What happened to the object.")
class HistoryAction(Enum):
    CREATE = strawberry.enum_value("+", description="The object was created.")
    UPDATE = strawberry.enum_value("~", description="The object was changed.")
    DELETE = strawberry.enum_value("-", description="The object was deleted.")


@strawberry.enum(description="Why an entry was written.")
class HistoryOrigin(Enum):
    CHANGE = strawberry.enum_value("change", description="An ordinary change.")
    BASELINE = strawberry.enum_value("baseline", description="The state when tracking of the object began.")
    REVERT = strawberry.enum_value("revert", description="A revert.")
    ERASURE = strawberry.enum_value("erasure", description="Personal data was erased.")


@strawberry.type(description="Who made a change, as at that time; it stays when the account is gone.")
class HistoryUser:
    id: strawberry.ID = strawberry.field(description="Primary key of the account, as text.")
    username: str = strawberry.field(description="The account's name at the time of the change.")
    deleted: bool = strawberry.field(description="Whether the account is gone.")


@strawberry.type(description="One field that an entry changed.")
class FieldChange:
    field: str = strawberry.field(description="Name of the field on the Django model.")
    label: str = strawberry.field(description="What people call the field.")
    old: JSON | None = strawberry.field(
        description="The value before; decimals, big integers and durations as strings."
    )
    new: JSON | None = strawberry.field(description="The value after; decimals, big integers and durations as strings.")
    old_label: str | None = strawberry.field(description="The value before for people, of foreign keys and choices.")
    new_label: str | None = strawberry.field(description="The value after for people, of foreign keys and choices.")
    added: list[JSON] | None = strawberry.field(description="Keys that were linked; many-to-many fields only.")
    removed: list[JSON] | None = strawberry.field(description="Keys that were unlinked; many-to-many fields only.")
    redacted: bool = strawberry.field(description="Whether the values are hidden from the caller.")
    erased: bool = strawberry.field(description="Whether a value was erased.")


@strawberry.interface(description="One row of history. Every tracked model has its own type, such as DatasetHistory.")
class HistoryEntry(relay.Node):
    history_id: relay.NodeID[int]
    entry: strawberry.Private[timeline.Entry]
    # Relay's own, but ready-made: its resolver costs three times what a plain field does, for each entry of a page.
    _id: relay.GlobalID = strawberry.field(name="id", description="The Globally Unique ID of this object")
    action: HistoryAction = strawberry.field(description="What happened to the object.")
    origin: HistoryOrigin = strawberry.field(description="Why the entry was written.")
    date: datetime = strawberry.field(description="When the change was made; for people, and for browsing.")
    model: str = strawberry.field(description="Django label of the model, such as `example_schema.dataset`.")
    object_id: strawberry.ID = strawberry.field(description="Primary key of the object, as text.")
    object_label: str = strawberry.field(description="What people called the object then.")
    user: HistoryUser | None = strawberry.field(description="Who made the change.")
    app: str | None = strawberry.field(description="With which application.")
    assignation_id: strawberry.ID | None = strawberry.field(description="In which unit of work.")
    reason: str | None = strawberry.field(description="Why, in the words of whoever made the change.")
    metadata: JSON = strawberry.field(description="What else was tracked about the request.")
    changes: list[FieldChange] | None = strawberry.field(
        description="Against the previous entry that the caller may see: the initial values for CREATE, the last ones "
        "for DELETE. Null when that entry is gone."
    )

    @strawberry.field(
        description="All tracked values after the change, by field name; foreign keys as keys, many to many as lists "
        "of keys."
    )
    def snapshot(self) -> JSON:
        return JSON(self.entry.snapshot)

    @strawberry.field(description="The entry itself, as a union of all entry types, for clients that prefer unions.")
    def typed(self) -> Annotated["TypedHistoryEntry", strawberry.lazy("koherent.graphql.records")]:
        return self

    @staticmethod
    def resolve_type(entry: "HistoryEntry", *_: Any) -> str:
        """The name of an entry's type, which Strawberry would look for among all types."""
        definition: Any = type(entry).__strawberry_definition__  # type: ignore[attr-defined]
        return str(definition.name)

    @classmethod
    def resolve_nodes(  # type: ignore[override]  # relay allows None for what is not there, unless it is required
        cls, *, info: strawberry.Info, node_ids: Iterable[str], required: bool = False
    ) -> "Awaitable[Sequence[Self | None]] | Sequence[Self | None]":
        """Entries for ``node(id:)``, under the caller's policy; null for unknown and invisible ones."""
        viewer, wanted, parts = viewer_of(info), list(node_ids), wanted_of(asked(info))
        tracked = _by_type_name(cls.__name__)

        def read() -> list[Any]:
            if tracked is None:
                raise BadId("This type has no entries.")
            keys = [(tracked.label, _history_id(text)) for text in wanted]
            found = {(e.tracked.label, e.history_id): e for e in timeline.load(scope_for(viewer), keys, parts)}
            return [None if key not in found else to_graphql(found[key]) for key in keys]

        return in_sync(read)


@strawberry.type(description="An entry and its place in the list.")
class HistoryEntryEdge:
    cursor: str = strawberry.field(description="The entry's place; give it as `after` or `before`.")
    node: HistoryEntry = strawberry.field(description="The entry.")


@strawberry.type(description="A page of entries, newest first.")
class HistoryEntryConnection:
    scope: strawberry.Private[Scope]
    filters: strawberry.Private[timeline.Filters]
    known_count: strawberry.Private[int | None] = None
    page_info: relay.PageInfo = strawberry.field(description="Whether there is more, and where.")
    edges: list[HistoryEntryEdge] = strawberry.field(description="The entries of this page.")
    feed_cursor: str = strawberry.field(
        description="A cursor of the feed, taken before this page was read: subscribe `historyEntries(after:)` with it "
        "to miss nothing."
    )

    @strawberry.field(description="How many entries there are in all. Counted only when asked for.")
    def total_count(self) -> int:
        if self.known_count is not None:
            return self.known_count
        return in_sync(lambda: timeline.count(self.scope, self.filters))


def entry_key(id: str) -> tuple[str, int]:
    """The model's label and the history id behind an entry's global id; raises ``BadId`` for anything else."""
    try:
        type_name, history_id = relay.from_base64(id)
    except (ValueError, binascii.Error):
        raise BadId("Not the id of an entry.") from None
    tracked = _by_type_name(type_name)
    if tracked is None:
        raise BadId("Not the id of an entry.")
    return tracked.label, _history_id(history_id)


def entry_id(label: str, history_id: int) -> strawberry.ID:
    """The global id of an entry; the model must be tracked."""
    tracked = registry.by_label(label)
    if tracked is None:
        raise BadId("Not a tracked model.")
    return strawberry.ID(relay.to_base64(f"{tracked.type_name}History", history_id))


def to_graphql(entry: timeline.Entry) -> HistoryEntry:
    """The entry as an instance of its model's GraphQL type."""
    from koherent.graphql.records import history_type

    row: Any = entry.columns
    made: HistoryEntry = history_type(entry.tracked)(
        history_id=entry.history_id,
        entry=entry,
        _id=relay.to_base64(f"{entry.tracked.type_name}History", entry.history_id),
        action=HistoryAction(entry.action),
        origin=HistoryOrigin(row.origin),
        date=entry.date,
        model=entry.tracked.label,
        object_id=strawberry.ID(entry.object_id),
        object_label=entry.object_label,
        user=None if entry.user is None else to_user(entry.user),
        app=row.app,
        assignation_id=row.assignation_id,
        reason=row.history_change_reason,
        metadata=JSON(entry.metadata),
        changes=entry.changes,
    )
    return made


def to_user(user: tuple[str, str, bool]) -> HistoryUser:
    """A (key, name, deleted) triple of the timeline."""
    key, name, deleted = user
    return HistoryUser(id=strawberry.ID(key), username=name, deleted=deleted)


def _by_type_name(name: str) -> registry.TrackedModel | None:
    return next((t for t in registry.tracked_models() if f"{t.type_name}History" == name), None)


def _history_id(text: str) -> int:
    # ASCII digits only: int() would take signs, blanks and underscores too.
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= MAX_ID):
        raise BadId("Not the id of an entry.")
    return int(text)
