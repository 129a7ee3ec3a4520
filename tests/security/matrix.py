"""Kinds of user, and what each field of the schema may say to them: a row for every field of ``schema.graphql``."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

from django.contrib.auth.models import AnonymousUser, Permission, User
from strawberry import relay

from koherent.registry import TrackedModel, tracked_models
from tests.security.world import OF_TAGS, SECRET

LABELS = {"project", "tag", "dataset", "image"}


@dataclass(frozen=True)
class Kind:
    """A kind of user. ``reads`` and ``reverts`` are names of models; ``sees_all``: rows, values and metadata too."""

    name: str
    refused: str | None = None
    reads: frozenset[str] = frozenset()
    reverts: frozenset[str] = frozenset()
    views: bool = False
    sees_all: bool = False
    options: dict[str, Any] = field(default_factory=dict, hash=False)

    def make(self) -> Any:
        """The account."""
        if self.name in ("no user", "anonymous"):
            return None if self.name == "no user" else AnonymousUser()
        user = User.objects.create_user(self.name, **self.options)
        wanted = {f"view_historical{model}" for model in self.reads}
        wanted |= {f"{action}_{model}" for model in self.reverts for action in ("add", "change", "delete")}
        wanted |= {f"view_{model}" for model in LABELS if self.views}
        user.user_permissions.set(Permission.objects.filter(codename__in=wanted))
        return user


ALL = frozenset(LABELS)
KINDS = (
    Kind("no user", "UNAUTHENTICATED"),
    Kind("anonymous", "UNAUTHENTICATED"),
    Kind("inactive", "UNAUTHENTICATED", options={"is_active": False, "is_superuser": True}),
    Kind("without rights", "FORBIDDEN"),
    Kind("reverts blindly", "FORBIDDEN", reverts=ALL),
    Kind("reads datasets", reads=frozenset({"dataset"}), views=True),
    Kind("reads all", reads=ALL),
    Kind("reverts images", reads=ALL, reverts=frozenset({"image"})),
    Kind("reads and reverts", reads=ALL - {"tag"}, reverts=ALL - {"tag"}, views=True),
    Kind("superuser", reads=ALL, reverts=ALL, views=True, sees_all=True, options={"is_superuser": True}),
)


class Sight:
    """What a kind of user may see, read from the tables, whatever the policy's code says."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    @cached_property
    def models(self) -> dict[str, TrackedModel]:
        """The visible models by label."""
        return {t.label: t for t in tracked_models() if t.label.removeprefix("example_schema.") in self.kind.reads}

    @cached_property
    def rows(self) -> dict[str, Any]:
        """The visible history rows by global id."""
        return {
            relay.to_base64(f"{tracked.type_name}History", row.history_id): row
            for tracked in self.models.values()
            for row in cast(Any, tracked.history_model)._base_manager.all()
            if self.kind.sees_all or row.app != "secret"
        }

    def column(self, name: str) -> set[Any]:
        """The values of a column of all visible rows."""
        return {getattr(row, name) for row in self.rows.values()}

    def redacted(self, name: str) -> bool:
        """Whether a field's values are hidden."""
        return name == "access_notes" and not self.kind.sees_all

    def clean(self, value: Any) -> bool:
        """Whether nothing secret is in it."""
        hidden = {SECRET: self.kind.sees_all, OF_TAGS: "tag" in self.kind.reads}
        return all(shown or word not in str(value) for word, shown in hidden.items())


#: (what the user may see, the field's value, the object it stands in, the objects around that, outermost first)
Check = Callable[[Sight, Any, dict[str, Any], tuple[dict[str, Any], ...]], bool]


def clean(sight: Sight, value: Any, *_: Any) -> bool:
    """Says nothing secret."""
    return sight.clean(value)


def inner(sight: Sight, value: Any, *_: Any) -> bool:
    """An object, or a list of them: its own fields have rows of their own."""
    return value is None or isinstance(value, dict | list)


def fixed(sight: Sight, value: Any, *_: Any) -> bool:
    """The schema's, the model's or the page's own word: a flag, an enum, the name of a field."""
    return isinstance(value, str | bool | int) and sight.clean(value)


def visible_id(sight: Sight, value: Any, *_: Any) -> bool:
    """The id of a visible entry."""
    return value is None or value in sight.rows


def of_row(name: str, make: Callable[[Any], Any] = lambda value: value) -> Check:
    """A column of the entry's own row."""
    return lambda sight, value, entry, _: value == make(getattr(sight.rows[entry["id"]], name))


def unless_hidden(sight: Sight, value: Any, change: dict[str, Any], _: Any) -> bool:
    """A value of a field: none where it is hidden."""
    return value is None if sight.redacted(change["field"]) else sight.clean(value)


def values(sight: Sight, value: Any, *_: Any) -> bool:
    """Values by field: those that are hidden are null."""
    return all(v is None for name, v in value.items() if sight.redacted(name)) and sight.clean(value)


def metadata(sight: Sight, value: Any, *_: Any) -> bool:
    """The keys that the policy shows."""
    return sight.kind.sees_all or value.keys() <= {"ticket"}


def among(name: str) -> Check:
    """One of the values, or some of them, that a column has in visible rows."""

    def check(sight: Sight, value: Any, *_: Any) -> bool:
        found = set(value) if isinstance(value, list) else {value}
        return found - {None} <= {str(some) for some in sight.column(name)}

    return check


def label(sight: Sight, value: Any, *_: Any) -> bool:
    """The label of a visible model, or some of them."""
    return set([value] if isinstance(value, str) else value) <= set(sight.models)


def count(sight: Sight, value: Any, around: dict[str, Any], outer: tuple[dict[str, Any], ...]) -> bool:
    """At most the visible entries, of the assignation or the object where it stands in one."""
    rows = list(sight.rows.values())
    for holder in (*outer, around):
        if holder.get("__typename") == "Assignation":
            rows = [row for row in rows if row.assignation_id == holder["id"]]
            return bool(value == len(rows))
    return bool(value <= len(rows))


def moment(sight: Sight, value: Any, *_: Any) -> bool:
    """The time of a visible entry."""
    return value in {date.isoformat() for date in sight.column("history_date")}


def sealed(sight: Sight, value: Any, *_: Any) -> bool:
    """Tells nothing."""
    return isinstance(value, str) and sight.clean(value) and "{" not in value


def team(sight: Sight, value: Any, *_: Any) -> bool:
    """The application's own field, with the application's own rules."""
    return True


ENTRY: dict[str, Check] = {
    "id": visible_id,
    "action": fixed,
    "origin": of_row("origin", str.upper),
    "date": of_row("history_date", lambda date: date.isoformat()),
    "model": label,
    "objectId": lambda sight, value, entry, _: value == str(sight.rows[entry["id"]].id),
    "objectLabel": clean,
    "user": inner,
    "app": of_row("app"),
    "assignationId": of_row("assignation_id"),
    "reason": of_row("history_change_reason"),
    "metadata": metadata,
    "changes": inner,
    "snapshot": values,
    "typed": inner,
}
#: By "Type.field"; an entry's type has the fields of ``HistoryEntry``, and a record's fields are those of the model.
FIELDS: dict[str, Check] = {
    "Node.id": visible_id,
    **{f"HistoryEntry.{name}": check for name, check in ENTRY.items()},
    **{f"{t}History.{name}": check for t in ("Dataset", "Image", "Project", "Tag") for name, check in ENTRY.items()},
    **{f"{t}History.record": inner for t in ("Dataset", "Image", "Project", "Tag")},
    "HistoryUser.id": among("actor_id"),
    "HistoryUser.username": among("actor_name"),
    "HistoryUser.deleted": fixed,
    "FieldChange.field": fixed,
    "FieldChange.label": fixed,
    **{f"FieldChange.{name}": unless_hidden for name in ("old", "new", "oldLabel", "newLabel", "added", "removed")},
    "FieldChange.redacted": lambda sight, value, change, _: value == sight.redacted(change["field"]),
    "FieldChange.erased": fixed,
    "HistoryEntryConnection.pageInfo": inner,
    "HistoryEntryConnection.edges": inner,
    "HistoryEntryConnection.feedCursor": sealed,
    "HistoryEntryConnection.totalCount": count,
    "HistoryEntryEdge.cursor": clean,
    "HistoryEntryEdge.node": inner,
    "PageInfo.hasNextPage": fixed,
    "PageInfo.hasPreviousPage": fixed,
    "PageInfo.startCursor": clean,
    "PageInfo.endCursor": clean,
    "Assignation.id": among("assignation_id"),
    "Assignation.startedAt": moment,
    "Assignation.endedAt": moment,
    "Assignation.users": inner,
    "Assignation.apps": among("app"),
    "Assignation.models": label,
    "Assignation.entryCount": count,
    "Assignation.reverts": among("assignation_id"),
    "Assignation.revertsEntry": visible_id,
    "Assignation.revertedBy": among("assignation_id"),
    "Assignation.entries": inner,
    "AssignationConnection.pageInfo": inner,
    "AssignationConnection.edges": inner,
    "AssignationEdge.cursor": clean,
    "AssignationEdge.node": inner,
    "HistoryModel.model": label,
    "HistoryModel.label": fixed,
    "HistoryModel.typeName": fixed,
    "HistoryModel.fields": inner,
    "HistoryModelField.name": fixed,
    "HistoryModelField.label": fixed,
    "HistoryModelField.redacted": lambda sight, value, own, _: value == sight.redacted(own["name"]),
    "RevertReport.status": fixed,
    "RevertReport.plan": sealed,
    "RevertReport.assignationId": clean,
    "RevertReport.stepCount": fixed,
    "RevertReport.conflictCount": fixed,
    "RevertReport.steps": inner,
    "RevertReport.entries": inner,
    "RevertStepConnection.pageInfo": inner,
    "RevertStepConnection.edges": inner,
    "RevertStepEdge.cursor": fixed,
    "RevertStepEdge.node": inner,
    "RevertStep.action": fixed,
    "RevertStep.model": label,
    "RevertStep.objectId": clean,
    "RevertStep.objectLabel": clean,
    "RevertStep.changes": inner,
    "RevertStep.conflicts": inner,
    "RevertStep.applied": fixed,
    "RevertConflict.code": fixed,
    "RevertConflict.message": clean,
    "RevertConflict.fields": clean,
    "RevertConflict.entry": inner,
    "HistoryFeedItem.cursor": sealed,
    "HistoryFeedItem.entry": inner,
    **{f"OperationInfo.{name}": inner for name in ("messages",)},
    **{f"OperationMessage.{name}": clean for name in ("kind", "message", "field", "code")},
    "Dataset.history": inner,
    **{f"Dataset.{name}": team for name in ("id", "project", "title", "status", "tags", "images")},
    **{f"Dataset.{name}": team for name in ("createdAt", "updatedAt")},
    **{f"Image.{name}": team for name in ("id", "dataset", "name", "width", "height", "exposureMs", "extra")},
    **{f"Project.{name}": team for name in ("id", "name", "description", "datasets")},
    **{f"Tag.{name}": team for name in ("id", "name")},
    **{f"User.{name}": team for name in ("id", "username")},
}
#: Who may enter by a field: those who read some history; those with a permission of the application; everybody.
ENTRIES: dict[str, str] = {
    **{f"Query.{name}": "trail" for name in ("history", "historyEntry", "historyAsOf", "historyModels")},
    **{f"Query.{name}": "trail" for name in ("assignation", "assignations")},
    **{f"Query.{name}s": f"example_schema.view_{name}" for name in LABELS},
    "Mutation.revertTo": "trail",
    "Mutation.revertAssignation": "trail",
    "Mutation.login": "everybody",
    "Mutation.logout": "everybody",
    **{
        f"Mutation.{verb}{name.capitalize()}": f"example_schema.{action}_{name}"
        for name in LABELS
        for verb, action in (("create", "add"), ("update", "change"), ("delete", "delete"))
    },
    "Subscription.historyEntries": "trail",
}


def visit(value: Any, outer: tuple[dict[str, Any], ...] = ()) -> Iterator[tuple[str, Any, Any, Any]]:
    """Every field of an answer: "Type.field", its value, the object it stands in, and the objects around that."""
    if isinstance(value, list):
        for one in value:
            yield from visit(one, outer)
    elif isinstance(value, dict) and "__typename" in value:
        for name, one in value.items():
            if name != "__typename":
                yield f"{value['__typename']}.{name}", one, value, outer
                yield from visit(one, (*outer, value))


def wrong(sight: Sight, answer: Any) -> list[str]:
    """The fields of an answer that say what the user may not see."""
    found = []
    for name, value, around, outer in visit(answer):
        if name.split(".")[0].endswith("Record"):
            fits = value is None if name.endswith(".accessNotes") and not sight.kind.sees_all else sight.clean(value)
        else:
            fits = FIELDS[name](sight, value, around, outer)
        if not fits:
            found.append(f"{name} = {value!r}")
    return found
