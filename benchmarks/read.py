"""Reading: a page of the newest entries with their changes and users, through GraphQL."""

from typing import TYPE_CHECKING, Any

from benchmarks.case import Case

if TYPE_CHECKING:
    from benchmarks.packages.trail import Trail

PAGE = 50


class Page(Case):
    """The newest entries of all five models."""

    package: "Trail"
    title = "page of 50, all models, {size} entries"
    full_size = 1_000_000
    only = frozenset({"koherent", "simple_history", "koherent4", "pghistory", "auditlog", "reversion"})

    def seed(self) -> None:
        if not self.package.users:
            self.package.seed_history(self.size)

    def prepare(self) -> Any:
        return self.package.reader()

    def work(self, given: Any) -> Any:
        return self.package.page(given, PAGE)

    def check(self, given: Any) -> None:
        found = self.work(given)
        if not found or any(len(entry["changes"]) < 1 for entry in found):
            raise AssertionError(f"{len(found)} entries with {[len(entry['changes']) for entry in found]} changes")

    def note(self, entries: int, attributed: int) -> str:
        return ""


class ObjectPage(Page):
    """The newest entries of one sample with a long history."""

    title = "page of 50, one object with 50,000 entries"

    def work(self, given: Any) -> Any:
        from benchmarks.seeding import long_key

        return self.package.page(given, PAGE, long_key(self.size))


CASES: dict[str, type[Case]] = {"page": Page, "object": ObjectPage}
