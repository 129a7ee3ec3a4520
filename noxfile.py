"""The matrix: every version that koherent promises to run on. ``nox --list`` shows it, ``make matrix`` runs it.

    nox -s 'tests(3.12-django6.0-oldest-sqlite)'

PostgreSQL and Redis are found by ``PGHOST``, ``PGUSER``, ... and ``EXAMPLE_REDIS``. What follows ``--`` is for pytest.
"""

import os

import nox

nox.options.default_venv_backend = "uv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests", "kante"]

PYTHONS = ("3.11", "3.12", "3.13")
DJANGOS = ("5.2", "6.0", "6.1")
STRAWBERRIES = {
    "oldest": ("strawberry-graphql==0.324.*", "strawberry-graphql-django==0.87.*", "graphql-core<3.3"),
    "newest": ("strawberry-graphql", "strawberry-graphql-django"),
}
DATABASES = ("sqlite", "postgresql")
CELLS = [
    nox.param(python, django, strawberry, database, id=f"{python}-django{django}-{strawberry}-{database}")
    for python in PYTHONS
    for django in DJANGOS
    if python != "3.11" or django == "5.2"  # later Djangos need a later Python
    for strawberry in STRAWBERRIES
    for database in DATABASES
]


@nox.session
@nox.parametrize(["python", "django", "strawberry", "database"], CELLS)
def tests(session: nox.Session, django: str, strawberry: str, database: str) -> None:
    """Both test projects on one cell."""
    group = nox.project.load_toml("pyproject.toml")["dependency-groups"]["test"]
    session.install("-e", ".[example]", *group, f"django=={django}.*", *STRAWBERRIES[strawberry])
    environment = {"EXAMPLE_SQLITE": os.path.join(session.create_tmp(), "matrix.sqlite3")}
    if database == "postgresql":
        environment["EXAMPLE_DB"] = "postgres"
        environment["EXAMPLE_REDIS"] = os.environ.get("EXAMPLE_REDIS", "redis://127.0.0.1:6379/0")
    session.run("pytest", "-q", *session.posargs, env=environment)
    if not session.posargs:
        session.run("pytest", "-q", "--ds=tests.wide.settings", "tests/wide", env=environment)


@nox.session(python=["3.12", "3.13"])
def kante(session: nox.Session) -> None:
    """Attribution in a project of Kante and authentikate, with their pins."""
    session.install("-r", "requirements/kante.txt")
    session.run("pytest", "-q", "--ds=tests.kante.settings", "tests/kante", *session.posargs)
