"""The fenced blocks of the documentation, wherever they stand."""

import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
#: Whatever tells people what to type.
PAGES = (
    *sorted(DOCS.glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks" / "README.md",
    ROOT / "examples" / "clients" / "README.md",
)
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Snippet:
    """A block of a page, without its indentation, and where it begins."""

    path: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def snippets(path: Path, *languages: str) -> list[Snippet]:
    """The blocks of a page in these languages, or all."""
    text = path.read_text(encoding="utf-8")
    return [
        Snippet(
            path=path,
            line=text.count("\n", 0, found.start()) + 1,
            language=found["language"],
            text=textwrap.dedent(found["text"]),
        )
        for found in _FENCE.finditer(text)
        if not languages or found["language"] in languages
    ]


def run(page: str, **names: object) -> dict[str, object]:
    """Run the Python of a page from top to bottom, as one module that knows ``names``; returns what is in it then."""
    module = ModuleType(f"documented_{page.removesuffix('.md')}")
    sys.modules[module.__name__] = module  # where annotations are looked up
    vars(module).update(names)
    for snippet in snippets(DOCS / page, "python"):
        exec(compile("\n" * snippet.line + snippet.text, str(snippet.path), "exec"), vars(module))
    return vars(module)
