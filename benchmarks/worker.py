"""One package's process: takes orders as JSON lines on its standard input, answers with JSON lines.

An order is ``{"do": name, ...}``; the answer ``{"ok": result}``, or the process ends with its traceback.
"""

import gc
import json
import os
import sys
from functools import partial
from typing import Any

import django
from django.db.models import Field

from benchmarks.measure import counted, memory, reset_peak, timed


class Worker:
    """The orders that a driver can give."""

    def __init__(self) -> None:
        from benchmarks.packages import current

        self.package = current()
        self.cases: dict[str, Any] = {}

    def create(self) -> dict[str, str]:
        """Make the tables, and what attribution needs; returns versions."""
        from django.core.management import call_command

        grow_up()
        call_command("migrate", run_syncdb=True, verbosity=0)
        self.package.setup()
        gc.collect()
        self.idle = memory("VmRSS")
        return self.package.versions()

    def seed(self, case: str, size: int) -> None:
        """Make a case's rows, give the database its statistics of them, and run it once as a warm-up."""
        from benchmarks.cases import CASES

        made = CASES[case](self.package, size)
        made.seed()
        self.cases[case] = made
        self.settle()
        self.run(case, 1)

    @staticmethod
    def settle() -> None:
        """Give the database its statistics, and this process's own objects to the garbage collector's old age."""
        from django.db import connection

        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
        gc.collect()
        gc.freeze()

    def run(self, case: str, repeats: int) -> list[tuple[float, float]]:
        """Seconds of each repeat, by the clock and of CPU."""
        made = self.cases[case]
        seconds = []
        for _ in range(repeats):
            seconds.append(timed(partial(made.work, made.prepare())))
        return seconds

    def count(self, case: str) -> dict[str, Any]:
        """The statements of one run, its peak of memory, and what was missing of its entries."""
        made = self.cases[case]
        given = made.prepare()
        before = self.package.recorded()
        gc.collect()
        reset_peak()
        with counted() as statements:
            made.work(given)
        peak = memory("VmHWM") - self.idle
        after = self.package.recorded()
        made.check(given)
        return {
            "statements": statements,
            "peak": peak,
            "note": made.note(after[0] - before[0], after[1] - before[1]),
        }


def grow_up() -> None:
    """Make this process as slow in Django's fields as that of a project with a hundred models.

    Each field that is made changes a class attribute of ``Field``, and CPython caches no look-ups any more in a class
    (nor in its subclasses) that was changed a thousand times (``MAX_VERSIONS_PER_CLASS``, since 3.13): all of Django
    is then up to a sixth slower. The lab is so small that some packages would pass that point and others not.
    """
    for _ in range(1_500):
        Field().get_internal_type()


def main() -> None:
    """Serve until the driver closes the pipe."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    worker = Worker()
    for line in sys.stdin:
        order: dict[str, Any] = json.loads(line)
        result = getattr(worker, order.pop("do"))(**order)
        answers.write(json.dumps({"ok": result}) + "\n")


if __name__ == "__main__":
    main()
