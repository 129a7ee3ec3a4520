"""Every question that a client can put to the trail, with everything selected that the schema has."""

from collections.abc import Iterator
from typing import Any

from graphql import GraphQLInterfaceType, GraphQLObjectType, GraphQLUnionType, get_named_type, is_leaf_type
from strawberry import relay

from example_schema.models import Project
from example_schema.schema import schema
from koherent.registry import tracked_models
from tests.security.world import World

TYPES: Any = schema._schema.type_map
Answer = dict[str, Any]


def selection(name: str, *, within: tuple[str, ...] = ()) -> str:
    """All fields of a type, and all of theirs, but for types that are being selected already: of those the type."""
    kind = TYPES[name]
    parts = ["__typename"]
    if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
        for field_name, field in kind.fields.items():
            inner = get_named_type(field.type)
            if is_leaf_type(inner):
                parts.append(field_name)
            elif inner.name == "TypedHistoryEntry":
                parts.append(f"{field_name} {{ __typename }}")
            elif inner.name not in within:
                parts.append(f"{field_name} {selection(inner.name, within=(*within, name))}")
    if isinstance(kind, GraphQLUnionType):
        parts += [f"... on {some.name} {selection(some.name, within=(*within, name))}" for some in kind.types]
    if isinstance(kind, GraphQLInterfaceType):
        for some in schema._schema.get_possible_types(kind):
            own = [n for n in some.fields if n not in kind.fields]
            inner = [f"{n} {selection(get_named_type(some.fields[n].type).name, within=(*within, name))}" for n in own]
            parts.append(f"... on {some.name} {{ {' '.join(inner)} }}")
    return "{ " + " ".join(parts) + " }"


ENTRY = selection("HistoryEntry")
PAGE = selection("HistoryEntryConnection")
HISTORY = f"""query($filters: HistoryFilter, $first: Int, $after: String, $last: Int, $before: String) {{
  history(filters: $filters, first: $first, after: $after, last: $last, before: $before) {PAGE} }}"""
ONE = f"query($id: ID!) {{ historyEntry(id: $id) {ENTRY} }}"
NODE = f"query($id: ID!) {{ node(id: $id) {{ ... on HistoryEntry {ENTRY} }} }}"
AS_OF = f"""query($model: String!, $objectId: ID!, $at: DateTime!) {{
  historyAsOf(model: $model, objectId: $objectId, at: $at) {ENTRY} }}"""
ASSIGNATION = f"query($id: ID!) {{ assignation(id: $id) {selection('Assignation')} }}"
ASSIGNATIONS = f"query($first: Int, $after: String) {{ assignations(first: $first, after: $after) \
{selection('AssignationConnection')} }}"
MODELS = f"{{ historyModels {selection('HistoryModel')} }}"
OWN_FIELD = f"query($filters: HistoryFilter) {{ datasets {{ id history(filters: $filters) {PAGE} }} }}"
TO = f"mutation($id: ID!) {{ revertTo(entryId: $id, dryRun: true) {selection('RevertPayload')} }}"
ALL = f"mutation($id: ID!) {{ revertAssignation(assignationId: $id, dryRun: true) {selection('RevertPayload')} }}"


def read(world: World, user: Any, asked: list[tuple[str, str, dict[str, Any]]]) -> Answer:
    """Name -> data and errors, without what is another text each time."""
    return {name: normal(world.ask(user, query, **variables)) for name, query, variables in asked}


def normal(result: Any) -> Any:
    """Data, and errors as (path, message, extensions)."""
    errors = [(tuple(e.path or ()), e.message, e.extensions) for e in result.errors or ()]
    return _steady(result.data), errors


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        # A feed cursor is sealed: another text each time, whatever happened.
        return {k: "*" if k == "feedCursor" and v else _steady(v) for k, v in value.items()}
    return [_steady(inner) for inner in value] if isinstance(value, list) else value


def id_of(key: tuple[str, int]) -> str:
    """The global id of an entry."""
    return relay.to_base64(*key)


def reading(keys: list[tuple[str, int]], assignations: list[str], users: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Name, query and variables of questions about everything that ever was."""
    labels = [tracked.label for tracked in tracked_models()]
    filters: list[dict[str, Any]] = [{}, {"models": []}, {"assigned": True}, {"assigned": False}]
    filters += [{"models": [label]} for label in labels]
    own: Any = Project.objects.values_list("pk", flat=True)
    filters += [{"models": ["example_schema.project"], "objectId": str(pk)} for pk in own]
    filters += [{"users": [user]} for user in users] + [{"apps": [app]} for app in ("lab", "secret")]
    filters += [{"assignationId": id} for id in assignations[::4]]
    filters += [{"actions": [action]} for action in ("UPDATE", "DELETE")]
    for each in filters:
        yield f"history {each}", HISTORY, {"filters": each}
    for first in (0, 3):
        yield f"history first {first}", HISTORY, {"first": first}
        yield f"history last {first}", HISTORY, {"last": first}
        yield f"assignations first {first}", ASSIGNATIONS, {"first": first}
    for key in keys:
        yield f"entry {key}", ONE, {"id": id_of(key)}
        yield f"node {key}", NODE, {"id": id_of(key)}
    for id in assignations:
        yield f"assignation {id}", ASSIGNATION, {"id": id}
    yield "assignations", ASSIGNATIONS, {}
    yield "models", MODELS, {}
    yield "own field", OWN_FIELD, {}
    yield "own field, filtered", OWN_FIELD, {"filters": {"actions": ["UPDATE"]}}


def reverting(keys: list[tuple[str, int]], assignations: list[str]) -> Iterator[tuple[str, str, Any]]:
    """Name, query and variables of plans of everything that ever was."""
    for key in keys:
        yield f"to {key}", TO, {"id": id_of(key)}
    for id in assignations:
        yield f"all of {id}", ALL, {"id": id}
