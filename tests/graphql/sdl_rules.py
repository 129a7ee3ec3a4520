"""What holds for every SDL of ours: descriptions, Relay's connections, names. One function a rule, problems as text."""

import re
from collections.abc import Callable, Iterator

from graphql import (
    GraphQLEnumType,
    GraphQLField,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLSchema,
    get_named_type,
    is_specified_scalar_type,
)

Rule = Callable[[GraphQLSchema], Iterator[str]]
WITH_FIELDS = (GraphQLObjectType, GraphQLInterfaceType, GraphQLInputObjectType)


def types(schema: GraphQLSchema) -> Iterator[GraphQLNamedType]:
    """Ours: not GraphQL's, and not strawberry-django's OperationInfo and its messages."""
    for name, kind in schema.type_map.items():
        if not name.startswith(("__", "Operation")) and not is_specified_scalar_type(kind):
            yield kind


def outputs(schema: GraphQLSchema) -> Iterator[tuple[str, GraphQLField]]:
    for kind in types(schema):
        if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            for name, field in kind.fields.items():
                yield f"{kind.name}.{name}", field


def described(schema: GraphQLSchema) -> Iterator[str]:
    """Every type, field, argument, input field and enum value has a description."""
    for kind in types(schema):
        if not kind.description:
            yield f"{kind.name} has no description"
        parts = dict(getattr(kind, "fields", {})) | dict(getattr(kind, "values", {}))
        for name, part in parts.items():
            if not part.description:
                yield f"{kind.name}.{name} has no description"
            for argument, about in getattr(part, "args", {}).items():
                if not about.description:
                    yield f"{kind.name}.{name}({argument}) has no description"


def named(schema: GraphQLSchema) -> Iterator[str]:
    """Types are PascalCase, fields and arguments camelCase, enum values UPPER_CASE."""
    pascal, camel, upper = re.compile(r"[A-Z][A-Za-z0-9]*"), re.compile(r"[a-z][A-Za-z0-9]*"), re.compile(r"[A-Z_]+")
    for kind in types(schema):
        if not pascal.fullmatch(kind.name):
            yield f"{kind.name} is not PascalCase"
        if isinstance(kind, WITH_FIELDS):
            yield from (f"{kind.name}.{name} is not camelCase" for name in kind.fields if not camel.fullmatch(name))
        if isinstance(kind, GraphQLEnumType):
            yield from (f"{kind.name}.{name} is not UPPER_CASE" for name in kind.values if not upper.fullmatch(name))
    for path, field in outputs(schema):
        yield from (f"{path}({name}) is not camelCase" for name in field.args if not camel.fullmatch(name))


def without_echo(schema: GraphQLSchema) -> Iterator[str]:
    """No field repeats its type's name, and no root field says `get` or `list`."""
    for kind in types(schema):
        if isinstance(kind, WITH_FIELDS):
            for name in kind.fields:
                if name.lower().startswith(kind.name.lower()):
                    yield f"{kind.name}.{name} repeats its type's name"
    for name in schema.query_type.fields if schema.query_type else ():
        if re.match(r"(get|list|fetch|query)[A-Z]", name):
            yield f"Query.{name} says what every query does"


def relay_connections(schema: GraphQLSchema) -> Iterator[str]:
    """A connection has `pageInfo: PageInfo!` and `edges`, a list of edges with `node` and `cursor: String!`."""
    for kind in types(schema):
        if not kind.name.endswith("Connection"):
            continue
        if not isinstance(kind, GraphQLObjectType):
            yield f"{kind.name} is no object type"
            continue
        fields = {name: str(field.type) for name, field in kind.fields.items()}
        if fields.get("pageInfo") != "PageInfo!":
            yield f"{kind.name}.pageInfo is no PageInfo!"
        edge = get_named_type(kind.fields["edges"].type) if "edges" in kind.fields else None
        if not isinstance(edge, GraphQLObjectType) or fields["edges"] != f"[{edge.name}!]!":
            yield f"{kind.name}.edges is no list of edges"
        elif edge.name != kind.name.removesuffix("Connection") + "Edge":
            yield f"{edge.name} is not named after {kind.name}"
        elif "node" not in edge.fields or "cursor" not in edge.fields or str(edge.fields["cursor"].type) != "String!":
            yield f"{edge.name} has no node or no cursor: String!"


def relay_arguments(schema: GraphQLSchema) -> Iterator[str]:
    """A field that gives a connection takes `first: Int` with `after: String`, and `last` only with `before`."""
    for path, field in outputs(schema):
        if not get_named_type(field.type).name.endswith("Connection"):
            continue
        arguments = {name: str(argument.type) for name, argument in field.args.items()}
        for size, cursor in (("first", "after"), ("last", "before")):
            if size == "last" and size not in arguments and cursor not in arguments:
                continue
            if (arguments.get(size), arguments.get(cursor)) != ("Int", "String"):
                yield f"{path} does not take {size}: Int and {cursor}: String"


def refusable(schema: GraphQLSchema) -> Iterator[str]:
    """A root field of a query or mutation is nullable: what is refused must not empty the whole answer."""
    for root in (schema.query_type, schema.mutation_type):
        for name, field in root.fields.items() if root else ():
            if isinstance(field.type, GraphQLNonNull):
                yield f"{root.name if root else ''}.{name} is not nullable"


def reachable(schema: GraphQLSchema) -> Iterator[str]:
    """Every input and enum is used by something."""
    used = {get_named_type(field.type).name for _, field in outputs(schema)}
    used |= {get_named_type(a.type).name for _, field in outputs(schema) for a in field.args.values()}
    for kind in types(schema):
        if isinstance(kind, GraphQLInputObjectType):
            used |= {get_named_type(field.type).name for field in kind.fields.values()}
    for kind in types(schema):
        if isinstance(kind, GraphQLInputObjectType | GraphQLEnumType) and kind.name not in used:
            yield f"{kind.name} is used by nothing"


RULES: tuple[Rule, ...] = (
    described,
    named,
    without_echo,
    relay_connections,
    relay_arguments,
    refusable,
    reachable,
)
