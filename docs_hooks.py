"""What the site is made of besides its pages: the GraphQL reference, from the schema itself; no links out of ``docs/``.

mkdocs calls ``on_page_markdown`` for each page.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLInterfaceType,
    GraphQLNamedType,
    GraphQLObjectType,
    GraphQLUnionType,
    build_schema,
)
from mkdocs.exceptions import PluginError

MARK = "<!-- the types of the schema -->"
LEAVING = re.compile(r"\[([^\]]*)\]\(\.\./([^)#]+)(?:#[^)]*)?\)")
ROOT = Path(__file__).parent
ROOTS = ("Query", "Mutation", "Subscription")


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page, with the reference in place of its mark, and paths for links to what is not on the site."""
    markdown = LEAVING.sub(_path, markdown)
    return markdown.replace(MARK, "\n".join(_reference())) if MARK in markdown else markdown


def _path(link: re.Match[str]) -> str:
    text, path = link[1], link[2]
    if not (ROOT / path).exists():
        raise PluginError(f"there is no {path}")
    return f"{text} (`{path}`)" if text.strip("`") != path else f"`{path}`"


def _reference() -> Iterator[str]:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_schema.settings")
    django.setup()
    from koherent.graphql.sdl import own_sdl

    types = build_schema(own_sdl()).type_map
    names = [name for name in types if not name.startswith("__")]
    for name in sorted(names, key=lambda name: (ROOTS.index(name) if name in ROOTS else len(ROOTS), name)):
        yield from _type(types[name])


def _type(kind: GraphQLNamedType) -> Iterator[str]:
    if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType | GraphQLInputObjectType):
        yield f"\n## {kind.name}\n\n{kind.description or ''}\n\n| field | type | |\n|---|---|---|"
        for name, field in kind.fields.items():
            yield f"| `{name}` | `{field.type}` | {_cell(field.description)} |"
            for argument, about in getattr(field, "args", {}).items():
                yield f"| &nbsp;&nbsp;`{name}({argument})` | `{about.type}` | {_cell(about.description)} |"
    elif isinstance(kind, GraphQLEnumType):
        yield f"\n## {kind.name}\n\n{kind.description or ''}\n\n| value | |\n|---|---|"
        for name, value in kind.values.items():
            yield f"| `{name}` | {_cell(value.description)} |"
    elif isinstance(kind, GraphQLUnionType):
        members = ", ".join(f"`{member.name}`" for member in kind.types)
        yield f"\n## {kind.name}\n\n{kind.description or ''} One of {members}."


def _cell(text: str | None) -> str:
    return (text or "").replace("\n", " ").replace("|", "\\|")
