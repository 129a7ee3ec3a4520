"""Starts a worker for each package and runs their cases in turns."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.cases import CASES
from benchmarks.packages import ORDINARY, POSTGRESQL_ONLY, SCALES

ROOT = Path(__file__).resolve().parent.parent
SQLITE, POSTGRESQL = "sqlite", "postgresql"


class WorkerFailed(Exception):
    """A worker ended; its traceback is on the standard error stream."""


class Child:
    """A process that takes orders and answers them, as JSON, a line each; it ends with its input."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT, env=env
        )

    def send(self, do: str, **arguments: Any) -> None:
        """Give an order; ``answer`` waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")

    def answer(self) -> Any:
        """The result of the oldest order not yet answered. Raises ``WorkerFailed``."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerFailed(self.name)
        return json.loads(line)["ok"]

    def do(self, do: str, **arguments: Any) -> Any:
        """Give an order and wait for its result."""
        self.send(do, **arguments)
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Worker(Child):
    """One package on one database, in a process of its own with a database of its own."""

    def __init__(self, package: str, database: str, scratch: Path) -> None:
        self.package, self.database = package, database
        self.place = str(scratch / f"{package}.sqlite3")
        if database == POSTGRESQL:
            self.place = f"koherent_bench_{os.getpid()}_{package}"
            recreate(self.place)
        super().__init__(
            f"{package} on {database}",
            [_interpreter(package), "-P", "-m", "benchmarks.worker"],
            {
                **os.environ,
                "PYTHONPATH": str(_path(package, scratch)),
                "BENCH_PACKAGE": package,
                "BENCH_DATABASE": database,
                "BENCH_NAME": self.place,
            },
        )

    def close(self) -> None:
        """End the process and drop its database."""
        super().close()
        if self.database == POSTGRESQL:
            drop(self.place)


@dataclass
class Outcome:
    """What one case came to for one package."""

    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    #: Megabytes above the idle process, of one run.
    peak: float = 0.0
    #: What was missing: the entries, or their actor.
    note: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return median(self.seconds)

    @property
    def by_cpu(self) -> "Outcome":
        """The same by CPU time, the client's and its server process's, which other work on the machine hardly moves."""
        return replace(self, seconds=self.cpu)


@dataclass
class Results:
    """Outcomes of one database by case and package, and what took part."""

    database: str
    sizes: dict[str, int]
    outcomes: dict[str, dict[str, Outcome]] = field(default_factory=dict)
    versions: dict[str, dict[str, str]] = field(default_factory=dict)


@contextmanager
def workers(packages: Sequence[str], database: str) -> Iterator[dict[str, Worker]]:
    """A worker for each package that runs on the database; all are ended and their databases dropped."""
    made: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory(prefix="koherent-bench-") as scratch:
        try:
            for package in packages:
                if database == SQLITE and package in POSTGRESQL_ONLY:
                    continue
                made[package] = Worker(package, database, Path(scratch))
            yield made
        finally:
            for worker in made.values():
                worker.close()


def run(packages: Sequence[str], database: str, sizes: dict[str, int], rounds: int, processes: int = 1) -> Results:
    """Run the cases that ``sizes`` names, ``rounds`` turns each, in as many fresh workers one after another.

    Processes of the same code differ by some hundredths, as their memory happens to lie.
    """
    results = Results(database, sizes)
    for _ in range(processes):
        _run_once(results, packages, rounds)
    return results


def _run_once(results: Results, packages: Sequence[str], rounds: int) -> None:
    """Add one set of workers' outcomes. Within a turn every package runs once.

    The order of the packages is turned by one each time, so that none always follows the same neighbour.
    """
    with workers(packages, results.database) as made:
        for worker in made.values():
            worker.send("create")
        for package, worker in made.items():
            results.versions[package] = worker.answer()
        for case, size in results.sizes.items():
            note(f"{results.database}: {case} ")
            only = CASES[case].only
            taking_part = {package: worker for package, worker in made.items() if package in (only or ORDINARY)}
            outcomes = results.outcomes.setdefault(case, {})
            for package, worker in taking_part.items():
                worker.do("seed", case=case, size=SCALES.get(package, size))
                # In each process, though one tells enough: their histories are to be of the same length.
                outcomes.setdefault(package, Outcome(**worker.do("count", case=case)))
            names = list(taking_part)
            for turn in range(min(rounds, CASES[case].most_rounds)):
                note(".")
                shift = turn % max(len(names), 1)
                for package in names[shift:] + names[:shift]:
                    for seconds, cpu in made[package].do("run", case=case, repeats=CASES[case].inner):
                        outcomes[package].seconds.append(seconds)
                        outcomes[package].cpu.append(cpu)
            note("\n")


def note(text: str) -> None:
    """Progress, for people."""
    sys.stderr.write(text)
    sys.stderr.flush()


def _interpreter(package: str) -> str:
    if package != "koherent4":
        return sys.executable
    python = os.environ.get("BENCH_KOHERENT4_PYTHON", str(ROOT / ".venv-bench-koherent4" / "bin" / "python"))
    if not Path(python).exists():
        raise SystemExit(f"koherent 4.1.1 needs an environment of its own: no {python} (see benchmarks/README.md)")
    return python


def _path(package: str, scratch: Path) -> Path:
    """Where the worker imports from: the working tree, or for the namesake only this package of it."""
    if package != "koherent4":
        return ROOT
    alone = scratch / "path"
    alone.mkdir(exist_ok=True)
    if not (alone / "benchmarks").exists():
        (alone / "benchmarks").symlink_to(ROOT / "benchmarks")
    return alone


def _maintenance() -> Any:
    import psycopg

    return psycopg.connect(
        host=os.environ.get("PGHOST", "127.0.0.1"),
        port=os.environ.get("PGPORT", "5432"),
        user=os.environ.get("PGUSER", "postgres"),
        password=os.environ.get("PGPASSWORD") or None,
        dbname="postgres",
        autocommit=True,
    )


def drop(name: str) -> None:
    with _maintenance() as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def recreate(name: str) -> None:
    drop(name)
    with _maintenance() as connection:
        connection.execute(f'CREATE DATABASE "{name}"')


def server_facts() -> dict[str, str]:
    """What of PostgreSQL's settings moves the figures."""
    names = ("server_version", "shared_buffers", "fsync", "synchronous_commit")
    with _maintenance() as connection:
        return {name: connection.execute(f"SHOW {name}").fetchone()[0] for name in names}
