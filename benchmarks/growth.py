"""Growth: the same page at ten thousand, a million and ten million entries; and many parents against one."""

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.case import Case
from benchmarks.packages import SCALES
from benchmarks.read import PAGE
from benchmarks.seeding import VERSIONS
from benchmarks.writes import MOMENT

if TYPE_CHECKING:
    from benchmarks.packages.koherent import Koherent


class GrowthCase(Case):
    """A page of koherent's root field; ``variables`` are what the client sends."""

    package: "Koherent"
    full_size = 0
    only = frozenset(SCALES)
    #: How many entries the page has at any scale.
    expected = PAGE

    def variables(self) -> dict[str, Any]:
        """The page's arguments."""
        return {"first": PAGE}

    def seed(self) -> None:
        if not self.package.users:
            self.package.seed_history(self.size)
        #: Half of all entries are newer.
        self.halfway = (MOMENT + timedelta(seconds=self.size // 2)).isoformat()
        self.given = self.variables()

    def prepare(self) -> Any:
        return self.package.reader()

    def work(self, given: Any) -> Any:
        return self.package.ask(given, self.given)

    def check(self, given: Any) -> None:
        found = len(self.work(given)["edges"])
        if found != self.expected:
            raise AssertionError(f"{found} entries instead of {self.expected}")

    def note(self, entries: int, attributed: int) -> str:
        return ""


class Middle(GrowthCase):
    title = "page in the middle, by cursor"

    def variables(self) -> dict[str, Any]:
        newest = self.package.ask(self.package.reader(), {"first": 1, "filters": {"until": self.halfway}})
        return {"first": PAGE, "after": newest["pageInfo"]["endCursor"]}


class Last(GrowthCase):
    title = "last page"

    def variables(self) -> dict[str, Any]:
        return {"last": PAGE}


class First(GrowthCase):
    title = "first page"


class FilteredCase(GrowthCase):
    """The first page under one filter."""

    filters: dict[str, Any]

    def variables(self) -> dict[str, Any]:
        return {"first": PAGE, "filters": self.filters}


class ByModel(FilteredCase):
    title = "models"
    filters = {"models": ["lab.image"]}


class ByObject(FilteredCase):
    title = "objectId"
    expected = VERSIONS
    filters = {"models": ["lab.image"], "objectId": "7"}


class ByUser(FilteredCase):
    title = "users: one who often acts"

    def variables(self) -> dict[str, Any]:
        return {"first": PAGE, "filters": {"users": [str(self.package.users[0])]}}


class ByRareUser(FilteredCase):
    title = "users: one who hardly ever acts"

    def variables(self) -> dict[str, Any]:
        return {"first": PAGE, "filters": {"users": [str(self.package.users[-1])]}}


class ByApp(FilteredCase):
    title = "apps"
    filters = {"apps": ["app-1"]}


class ByAssignation(FilteredCase):
    title = "assignationId"
    filters = {"assignationId": "task-7"}


class Assigned(FilteredCase):
    title = "assigned: true"
    filters = {"assigned": True}


class Unassigned(FilteredCase):
    title = "assigned: false"
    filters = {"assigned": False}


class Updates(FilteredCase):
    title = "actions: UPDATE"
    filters = {"actions": ["UPDATE"]}


class Creates(FilteredCase):
    title = "actions: CREATE, the oldest of all"
    filters = {"actions": ["CREATE"]}


class Since(FilteredCase):
    title = "since"

    def variables(self) -> dict[str, Any]:
        return {"first": PAGE, "filters": {"since": self.halfway}}


class Until(FilteredCase):
    title = "until"

    def variables(self) -> dict[str, Any]:
        return {"first": PAGE, "filters": {"until": self.halfway}}


class Parents(GrowthCase):
    """So many samples with the three newest entries of each and their changes."""

    title = "100 parents, 3 newest entries of each"
    parents = 100

    def work(self, given: Any) -> Any:
        return self.package.parents(given, self.parents)

    def check(self, given: Any) -> None:
        found = self.work(given)
        if len(found) != self.parents or any(len(parent["history"]["edges"]) != 3 for parent in found):
            raise AssertionError(f"{len(found)} parents")


class OneParent(Parents):
    title = "1 parent, 3 newest entries"
    parents = 1


CASES: dict[str, type[Case]] = {
    "first": First,
    "middle": Middle,
    "last": Last,
    "by_model": ByModel,
    "by_object": ByObject,
    "by_user": ByUser,
    "by_rare_user": ByRareUser,
    "by_app": ByApp,
    "by_assignation": ByAssignation,
    "assigned": Assigned,
    "unassigned": Unassigned,
    "updates": Updates,
    "creates": Creates,
    "since": Since,
    "until": Until,
    "parents": Parents,
    "one_parent": OneParent,
}
