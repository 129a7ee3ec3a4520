"""What an operation asks for, so that nothing else is read."""

from collections.abc import Iterator
from typing import Any

import strawberry

from koherent.timeline import Wanted


def asked(info: strawberry.Info) -> frozenset[str]:
    """The names of all fields that are selected anywhere below the field that is resolved now.

    In lower case and without underscores, whatever the schema's style of names. Fragments are followed; what
    ``@skip`` or ``@include`` leaves out counts as asked for.
    """
    raw: Any = info._raw_info
    return frozenset(_below(raw.field_nodes, raw.fragments, set()))


def _below(nodes: Any, fragments: Any, seen: set[str]) -> Iterator[str]:
    for node in nodes:
        if node.selection_set is None:
            continue
        for selection in node.selection_set.selections:
            if selection.kind == "field":
                yield selection.name.value.replace("_", "").lower()
                yield from _below([selection], fragments, seen)
            elif selection.kind == "inline_fragment":
                yield from _below([selection], fragments, seen)
            elif selection.name.value not in seen:
                seen.add(selection.name.value)
                yield from _below([fragments[selection.name.value]], fragments, seen)


def wanted_of(names: frozenset[str]) -> Wanted:
    """Which parts of entries a selection needs."""
    return Wanted(
        changes="changes" in names,
        labels=bool(names & {"oldlabel", "newlabel"}),
        links=bool(names & {"snapshot", "record"}),
        accounts="deleted" in names,
        previous="haspreviouspage" in names,
        next="hasnextpage" in names,
    )
