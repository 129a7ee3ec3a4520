"""The figures that koherent promises, each a ratio or a count of one run, with its limit and its aim."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.cases import SIZES
from benchmarks.driver import POSTGRESQL, SQLITE, Outcome, Results

Outcomes = dict[str, Outcome]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """``measure`` gets the case's outcomes by package; ``needs`` names those that it reads."""

    case: str
    title: str
    measure: Callable[[Outcomes], float]
    needs: tuple[str, ...]
    limits: dict[str, float]
    aims: dict[str, float]


def ratio(package: str, to: str) -> Callable[[Outcomes], float]:
    """Time over time."""
    return lambda outcomes: outcomes[package].median / outcomes[to].median


def overhead(package: str, to: str) -> Callable[[Outcomes], float]:
    """Time above plain Django, over the other package's time above plain Django."""

    def measure(outcomes: Outcomes) -> float:
        plain = outcomes["plain"].median
        return (outcomes[package].median - plain) / (outcomes[to].median - plain)

    return measure


def statements(package: str) -> Callable[[Outcomes], float]:
    """How many statements."""
    return lambda outcomes: len(outcomes[package].statements)


def _figure(
    case: str,
    title: str,
    measure: Callable[[Outcomes], float],
    needs: tuple[str, ...],
    limits: dict[str, float],
    aims: dict[str, float] | None = None,
) -> Figure:
    return Figure(case=case, title=title, measure=measure, needs=("koherent", *needs), limits=limits, aims=aims or {})


def _both(value: float) -> dict[str, float]:
    return {SQLITE: value, POSTGRESQL: value}


_SH = ("plain", "simple_history")
FIGURES = [
    _figure(
        "save",
        "overhead / simple-history's",
        overhead("koherent", "simple_history"),
        _SH,
        {SQLITE: 0.4, POSTGRESQL: 0.7},
        {SQLITE: 0.3, POSTGRESQL: 0.5},
    ),
    _figure("saves", "overhead / simple-history's", overhead("koherent", "simple_history"), _SH, _both(0.2)),
    _figure(
        "saves",
        "overhead / pghistory's row triggers",
        overhead("koherent", "pghistory"),
        ("plain", "pghistory"),
        {POSTGRESQL: 1.2},
        {POSTGRESQL: 1.0},
    ),
    _figure("saves", "statements", statements("koherent"), (), _both(102)),
    _figure("bulk_create", "time / plain Django", ratio("koherent", "plain"), ("plain",), _both(1.3)),
    _figure("update", "time / plain Django", ratio("koherent", "plain"), ("plain",), {SQLITE: 10.0}),
    _figure(
        "update", "time / pghistory's row triggers", ratio("koherent", "pghistory"), ("pghistory",), {POSTGRESQL: 1.0}
    ),
    _figure(
        "update",
        "time / pghistory's statement triggers (an aim)",
        ratio("koherent", "pghistory_statement"),
        ("pghistory_statement",),
        {},
        {POSTGRESQL: 1.0},
    ),
    _figure("update", "statements", statements("koherent"), (), _both(3)),
    _figure("bulk_update", "time / plain Django", ratio("koherent", "plain"), ("plain",), _both(1.1)),
]


def verdicts(results: Results) -> list[list[str]]:
    """Rows of a table: case, figure, measured, limit, aim, verdict; for what this run can tell."""
    rows = []
    for figure in FIGURES:
        outcomes = results.outcomes.get(figure.case, {})
        limit, aim = figure.limits.get(results.database), figure.aims.get(results.database)
        if results.sizes.get(figure.case) != SIZES[figure.case]:
            continue  # the figures are promised at their own sizes only
        if (limit is None and aim is None) or not outcomes.keys() >= set(figure.needs):
            continue
        measured = figure.measure(outcomes)
        if aim is not None and measured <= aim:
            verdict = "holds, aim too"
        elif limit is None:
            verdict = "aim missed"
        else:
            verdict = "holds" if measured <= limit else "**missed**"
        shown = f"{measured:.0f}" if figure.title == "statements" else f"{measured:.2f}"
        rows.append([figure.case, figure.title, shown, _number(limit), _number(aim), verdict])
    return rows


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
