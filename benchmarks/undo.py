"""Undo: of all that one correlation id did, and of one object."""

import itertools
from typing import TYPE_CHECKING, Any

from benchmarks.case import Case
from benchmarks.writes import samples

if TYPE_CHECKING:
    from benchmarks.packages.trail import Undoing

_fresh = itertools.count(1_000_000)
BEFORE = -1
#: Rows are made in chunks, so that the peak of memory is not the seeding's.
CHUNK = 5_000


class Undo(Case):
    """``size`` objects changed under one correlation id, and that taken back."""

    package: "Undoing"
    title = "undo of {size} changes"
    only = frozenset({"koherent", "simple_history", "koherent4", "pghistory", "reversion"})

    def seed(self) -> None:
        from benchmarks.lab.models import Sample

        with self.package.attributed():
            for start in range(0, self.size, CHUNK):
                self.package.bulk_create(Sample, samples(min(CHUNK, self.size - start), quantity=BEFORE))
        newest = Sample._default_manager.order_by("-pk").values_list("pk", flat=True)
        self.newest, self.oldest = newest[0], newest[self.size - 1]

    def objects(self) -> Any:
        """The case's own objects."""
        from benchmarks.lab.models import Sample

        return Sample._default_manager.filter(pk__gte=self.oldest, pk__lte=self.newest)

    def prepare(self) -> Any:
        number = next(_fresh)
        with self.package.attributed() as correlation_id:
            self.package.change(self.objects(), quantity=number, note=f"changed as {number}")
        return correlation_id

    def work(self, given: Any) -> None:
        from benchmarks.lab.models import Sample

        with self.package.attributed():
            self.package.undo(Sample, given)

    def check(self, given: Any) -> None:
        left = self.objects().exclude(quantity=BEFORE).count()
        if left:
            raise AssertionError(f"{left} of {self.size} changes were not undone")


class PlainSaves(Undo):
    """For comparison: as many plain saves as there are changes to undo, without any audit."""

    title = "{size} plain saves in one transaction"
    only = frozenset({"plain"})

    def prepare(self) -> Any:
        objects = list(self.objects())
        for instance in objects:
            instance.note = f"saved as {next(_fresh)}"
        return objects

    def work(self, given: Any) -> None:
        with self.package.atomic():
            for instance in given:
                instance.save()

    def check(self, given: Any) -> None:
        return


class UndoMany(Undo):
    """A hundred times as much: its time against the smaller case, and the memory that it takes."""

    title = "undo of {size} changes"
    full_size = 100_000
    most_rounds = 2
    only = frozenset({"koherent"})


class UndoOne(Undo):
    """One object back to what an entry says, of which a client knows the key."""

    title = "one object back to an entry"
    full_size = 1
    inner = 10

    def prepare(self) -> Any:
        super().prepare()
        return self.package.entry_before(self.objects().get()).pk

    def work(self, given: Any) -> None:
        from benchmarks.lab.models import Sample

        with self.package.attributed():
            self.package.undo_one(Sample, given)


CASES: dict[str, type[Case]] = {
    "plain_saves": PlainSaves,
    "undo": Undo,
    "undo_many": UndoMany,
    "undo_one": UndoOne,
}
