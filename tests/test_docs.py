"""The pages name all that is public and every error, and their links lead somewhere."""

import importlib
import importlib.util
import re
from pathlib import Path

import httpx
import pytest

from koherent import errors
from koherent.client import assignation

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PUBLIC = (
    "koherent",
    "koherent.admin",
    "koherent.fields",
    "koherent.graphql",
    "koherent.retention",
    "koherent.revert",
    "koherent.testing",
)
TEXTS = (
    *sorted(DOCS.glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CHANGELOG")),
)


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


def test_every_name_that_a_guide_uses_exists_and_is_in_the_reference() -> None:
    """``koherent.x.y`` in any text is a name that python.md has, word for word or as a part."""
    reference = set(re.findall(r"koherent(?:\.\w+)+", page("python.md"))) | {"koherent.graphql.sdl"}
    words = set(re.findall(r"\w+", page("python.md") + page("graphql.md")))
    for path in TEXTS:
        for name in re.findall(r"(?<![\w/.:\"'-])koherent(?:\.[A-Za-z]\w*)+", path.read_text(encoding="utf-8")):
            if re.match(r"koherent\.([EW]\d|erase[:d]|erasing|\w*graphql$|md|feed$|toml)", name):
                continue
            assert exists(name), (path.name, name)
            assert name in reference or name.rpartition(".")[2] in words, (path.name, name)


def exists(name: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    module, _, last = name.rpartition(".")
    try:
        holder = importlib.import_module(module)
    except ModuleNotFoundError:
        holder, last = importlib.import_module(module.rpartition(".")[0]), f"{module.rpartition('.')[2]}.{last}"
    for part in last.split("."):
        if not hasattr(holder, part) and importlib.util.find_spec(f"{module}.{part}") is None:
            return False
        holder = getattr(holder, part, holder)
    return True


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([\w-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert listed == {path.name for path in DOCS.glob("*.md")}


def test_every_code_and_every_check_has_its_cause_and_remedy() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.KoherentError)
    ]
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "koherent").rglob("*.py"))
    codes = {kind.code for kind in kinds} - {"KOHERENT"} | set(re.findall(r'"code": "([A-Z_]+)"', source))
    wanted = codes | set(re.findall(r'"(koherent\.[EWIC]\d+)"', source))
    entries = re.findall(r"^### (\S+)\n\n(.*?)(?=^##|\Z)", page("errors.md"), flags=re.MULTILINE | re.DOTALL)
    assert {name for name, _ in entries} == wanted
    assert len(entries) == len(wanted)
    assert len({text for _, text in entries}) == len(entries)
    shape = re.compile(r"[^*]{10,}\n\n- \*\*Cause:\*\* .{10,}\.\n- \*\*Remedy:\*\* .{10,}\.\n+", re.DOTALL)
    assert [name for name, text in entries if shape.fullmatch(text) is None] == []


def anchors(path: Path) -> set[str]:
    """The anchors that mkdocs gives a page's headings."""
    text = re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Pages, pictures and anchors; `make docs` looks again, with the site's own eyes."""
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_addresses_are_the_readers_own_or_examples(path: Path) -> None:
    """The documentation needs no other site, so no link of it can die elsewhere."""
    hosts = re.findall(r"\bhttps?://([^/\s:)`'\"]+)", path.read_text(encoding="utf-8"))
    assert [host for host in hosts if host not in ("127.0.0.1", "localhost") and not host.endswith(".example")] == []


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
