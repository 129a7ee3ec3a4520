"""One process that writes until it is told to stop: ``python -m tests.soak.writer NAME RATE``.

Saves, bulk writes, deletions and rollbacks, some in transactions that stay open for a while, so that commits come in
another order than ids. Prints how many transactions it committed.
"""

import random
import signal
import sys
import time

import django


def main(name: str, rate: float) -> None:
    """About ``rate`` entries a second."""
    django.setup()
    from django.db import transaction

    import koherent
    from example_schema.models import Project, Tag

    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    chance = random.Random(name)
    project = Project.objects.create(name=f"{name} project")
    committed, number = 0, 0
    while not stopped:
        number += 1
        began = time.monotonic()
        kind = chance.random()
        try:
            with koherent.audit(app=name, assignation_id=f"{name}-{number // 20}"), transaction.atomic():
                if kind < 0.6:
                    project.description = f"{number}"
                    project.save()
                    count = 1
                elif kind < 0.8:
                    Tag.objects.bulk_create([Tag(name=f"{name} {number} {n}") for n in range(5)])
                    count = 5
                elif kind < 0.9:
                    going = Tag.objects.filter(name__startswith=f"{name} ").values_list("pk", flat=True)[:3]
                    count, _ = Tag.objects.filter(pk__in=list(going)).delete()
                else:
                    project.description = f"{number} will not stay"
                    project.save()
                    time.sleep(chance.random() / 10)
                    raise _Undone
                if chance.random() < 0.2:
                    time.sleep(chance.random() / 2)
            committed += 1
        except _Undone:
            count = 1
        time.sleep(max(0.0, max(count, 1) / rate - (time.monotonic() - began)))
    sys.stdout.write(f"{committed}\n")


class _Undone(Exception):
    pass


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
