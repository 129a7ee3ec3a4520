"""What every case is: rows made once, something prepared for each run, and the work that the clock sees."""

from abc import ABC, abstractmethod
from typing import Any

from benchmarks.packages.base import Package


class Case(ABC):
    """One kind of work, of ``size`` rows."""

    title: str
    #: The size that koherent's figures are promised for.
    full_size = 1000
    #: How often a worker repeats it in one turn; small work needs more repeats than turns.
    inner = 1
    #: Turns after which more would only take time.
    most_rounds = 1000
    #: The only packages that take part; None for all but koherent at other scales.
    only: frozenset[str] | None = None

    def __init__(self, package: Package, size: int) -> None:
        self.package, self.size = package, size

    def seed(self) -> None:  # noqa: B027  # some cases need nothing of their own
        """Rows that the case works on; once."""

    @abstractmethod
    def prepare(self) -> Any:
        """What the work is given; not timed."""

    @abstractmethod
    def work(self, given: Any) -> None:
        """The attributed work; timed."""

    def check(self, given: Any) -> None:  # noqa: B027  # writes are checked by the entries that they leave
        """Raises where the work did not do what it is measured for."""

    def note(self, entries: int, attributed: int) -> str:
        """What was missing, given how many entries one run left and how many of them name who and why."""
        if type(self.package) is Package or (entries and entries == attributed):
            return ""
        return "no actor" if entries else "no entry"
