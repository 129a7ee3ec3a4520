"""The snippets of docs/kante.md run here, where Kante is."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from channels.routing import ProtocolTypeRouter
from kante.consumers import KanteWsConsumer

from koherent.graphql import GraphQLWSConsumer
from tests.snippets import DOCS, snippets


@pytest.fixture
def found() -> Any:
    """What the page defines, as one module."""
    module = ModuleType("documented_kante")
    sys.modules[module.__name__] = module
    for snippet in snippets(DOCS / "kante.md", "python"):
        exec(snippet.text, vars(module))
    return vars(module)


def test_the_schema_has_the_trail_beside_the_services_own_types(found: Any) -> None:
    sdl = found["schema"].as_str()
    for line in ("createProject(", "revertAssignation(", "historyEntries(", "type ProjectHistory "):
        assert line in sdl
    ours = [extension.__name__ for extension in found["schema"].extensions][-2:]
    assert ours == ["AuthentikateExtension", "KoherentExtension"]


def test_sockets_and_trackers_are_as_written(found: Any) -> None:
    assert isinstance(found["sockets"](found["schema"]), ProtocolTypeRouter)
    assert found["SocketConsumer"].__mro__[1] is GraphQLWSConsumer
    assert issubclass(found["SocketConsumer"], KanteWsConsumer)
    task = SimpleNamespace(provenance=SimpleNamespace(rtk="task-1", tsk="task-2"))
    assert (found["root_task"](task), found["task"](task)) == ("task-1", "task-2")
    assert found["task"](SimpleNamespace(provenance=None)) is None
