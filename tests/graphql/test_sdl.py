"""``schema.graphql`` is what the example's schema says, and every word of it is explained."""

from pathlib import Path

import strawberry
from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLInterfaceType, GraphQLObjectType
from strawberry.printer import print_schema

import koherent.graphql
from example_schema.schema import schema

FILE = Path(__file__).parents[2] / "schema.graphql"


def test_the_exported_schema_is_current() -> None:
    assert FILE.read_text(encoding="utf-8").strip() == print_schema(schema).strip(), "run: make sdl"


def test_everything_of_koherent_has_a_description() -> None:
    plain = strawberry.Schema(
        query=koherent.graphql.Query,
        mutation=koherent.graphql.Mutation,
        subscription=koherent.graphql.Subscription,
    )
    missing = []
    for name, kind in plain._schema.type_map.items():
        if name.startswith(("__", "Operation")):  # strawberry-django's own: OperationInfo and its messages
            continue
        if not kind.description and name not in ("String", "Int", "Boolean", "ID", "Float"):
            missing.append(name)
        if isinstance(kind, (GraphQLObjectType, GraphQLInterfaceType, GraphQLInputObjectType)):
            for field_name, field in kind.fields.items():
                if not field.description:
                    missing.append(f"{name}.{field_name}")
                arguments = getattr(field, "args", {})
                missing += [f"{name}.{field_name}({a})" for a, arg in arguments.items() if not arg.description]
        if isinstance(kind, GraphQLEnumType):
            missing += [f"{name}.{value}" for value, definition in kind.values.items() if not definition.description]
    assert missing == []
