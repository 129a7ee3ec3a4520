"""The writes that are compared. Each case prepares outside the clock, then works inside it, attributed."""

import datetime
import itertools
from typing import Any

from benchmarks.case import Case

MOMENT = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
#: What is written differs each time, so that no write is one that changes nothing.
_fresh = itertools.count(1)


def samples(count: int, **values: Any) -> list[Any]:
    """Unsaved samples."""
    from benchmarks.lab.models import Sample

    return [
        Sample(
            **{
                "name": f"sample {number}",
                "quantity": number,
                "weight": "1.250",
                "measured_at": MOMENT,
                "note": f"a note on sample {number}, as people write them",
                **values,
            }
        )
        for number in range(count)
    ]


class Saves(Case):
    """``size`` plain full saves in one unit of work."""

    title = "{size} saves in one unit"
    full_size = 100

    def seed(self) -> None:
        from benchmarks.lab.models import Sample

        with self.package.attributed():
            self.package.bulk_create(Sample, samples(self.size, status="done"))
        self.keys = list(Sample._default_manager.order_by("-pk").values_list("pk", flat=True)[: self.size])

    def prepare(self) -> Any:
        from benchmarks.lab.models import Sample

        objects = list(Sample._default_manager.filter(pk__in=self.keys))
        for instance in objects:
            instance.quantity = next(_fresh)
            instance.note = f"saved as {instance.quantity}"
        return objects

    def work(self, given: Any) -> None:
        with self.package.attributed(), self.package.atomic():
            for instance in given:
                self.package.save(instance)


class Save(Saves):
    """One ``save()`` under autocommit, the attribution of its request included."""

    title = "one save(), autocommit"
    full_size = 1
    inner = 20

    def work(self, given: Any) -> None:
        with self.package.attributed():
            self.package.save(given[0])


class BulkCreate(Case):
    title = "bulk_create of {size}"

    def prepare(self) -> Any:
        return samples(self.size)

    def work(self, given: Any) -> None:
        from benchmarks.lab.models import Sample

        with self.package.attributed():
            self.package.bulk_create(Sample, given)


class Update(Saves):
    title = "update() of {size}"
    full_size = 1000

    def prepare(self) -> Any:
        from benchmarks.lab.models import Sample

        return Sample._default_manager.filter(pk__gte=min(self.keys), pk__lte=max(self.keys))

    def work(self, given: Any) -> None:
        with self.package.attributed():
            self.package.update(given, quantity=next(_fresh))


class BulkUpdate(Saves):
    title = "bulk_update of {size}"
    full_size = 1000

    def work(self, given: Any) -> None:
        from benchmarks.lab.models import Sample

        with self.package.attributed():
            self.package.bulk_update(Sample, given, ["quantity", "note"])


class Delete(Case):
    """``queryset.delete()`` with a cascade to five tracked readings each."""

    title = "delete() of {size}, cascade of 5 each"
    most_rounds = 1

    def prepare(self) -> Any:
        from benchmarks.lab.models import Reading, Sample

        with self.package.attributed():
            self.package.bulk_create(Sample, samples(self.size))
            newest = list(Sample._default_manager.order_by("-pk")[: self.size])
            readings = [
                Reading(name=f"reading {n}", quantity=n, weight="0.5", measured_at=MOMENT, sample=sample)
                for sample in newest
                for n in range(5)
            ]
            self.package.bulk_create(Reading, readings)
        keys = [sample.pk for sample in newest]
        return Sample._default_manager.filter(pk__gte=min(keys), pk__lte=max(keys))

    def work(self, given: Any) -> None:
        with self.package.attributed():
            self.package.delete(given)


CASES: dict[str, type[Case]] = {
    "save": Save,
    "saves": Saves,
    "bulk_create": BulkCreate,
    "update": Update,
    "bulk_update": BulkUpdate,
    "delete": Delete,
}
