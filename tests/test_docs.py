"""The pages name all that is public, and their snippets run."""

import importlib
import re
from pathlib import Path

import httpx
import pytest

from koherent import errors
from koherent.client import assignation

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PUBLIC = ("koherent", "koherent.revert", "koherent.graphql", "koherent.admin", "koherent.testing")


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("module", PUBLIC)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    words = set(re.findall(r"\w+", page("python.md") + page("graphql.md")))
    assert [name for name in importlib.import_module(module).__all__ if name not in words] == []


def test_every_name_of_the_reference_exists() -> None:
    for path in re.findall(r"^::: ([\w.]+)$", page("python.md"), flags=re.MULTILINE):
        holder, _, name = path.rpartition(".")
        if path in ("koherent.client", "koherent.errors"):
            importlib.import_module(path)
        else:
            assert hasattr(importlib.import_module(holder), name), path


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert listed == {path.name for path in DOCS.glob("*.md")}


def test_every_error_has_its_line() -> None:
    codes = {
        kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.KoherentError)
    }
    table = set(re.findall(r"^\| `([A-Z_]+)` \|", page("errors.md"), flags=re.MULTILINE))
    assert codes - {"KOHERENT"} == table


def test_the_clients_snippet_names_its_requests() -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", page("clients.md"), flags=re.DOTALL)
    found: dict[str, object] = {}
    exec(snippet, found)
    http = found["http"]
    assert isinstance(http, httpx.Client)
    (hook,) = http.event_hooks["request"]
    with assignation("import-42"):
        hook(found["request"])
    request = found["request"]
    assert isinstance(request, httpx.Request)
    assert request.headers["X-Assignation-Id"] == "import-42"
    http.close()
