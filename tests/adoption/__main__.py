"""One stage of a project's move from django-simple-history to koherent; prints what it saw, as JSON.

``before`` makes the project and its history; ``widen`` tries, and ``adopt`` does the adoption. The arguments are the
stage, the folder for the migrations and a number of rows. The database is that of the example's environment switches.
Each stage runs in a process of its own, because the models differ.
"""

import importlib
import io
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import django
from django.conf import settings
from django.core.management import CommandError, call_command

STAGE, FOLDER, ROWS = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
(FOLDER / "lab_migrations").mkdir(exist_ok=True)
(FOLDER / "lab_migrations" / "__init__.py").touch()
sys.path.insert(0, str(FOLDER))

from example_schema.settings import DATABASES  # noqa: E402  # the switches are read once, here

settings.configure(
    SECRET_KEY="adoption",
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "simple_history",
        *(["koherent"] if STAGE != "before" else []),
        "tests.adoption.lab",
    ],
    DATABASES=DATABASES,
    MIGRATION_MODULES={"lab": "lab_migrations"},
    ADOPTION_WIDE=STAGE == "widen",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    USE_TZ=True,
)
django.setup()

from django.contrib.auth.models import User  # noqa: E402  # needs the settings above
from django.db import connection  # noqa: E402

lab: Any = importlib.import_module("tests.adoption.lab.models")
POSTGRES = connection.vendor == "postgresql"
OLD = ("history_id", "history_type", "history_date", "history_change_reason", "history_user_id")
VALUES: dict[Any, tuple[str, ...]] = {
    lab.Site: ("id", "slug", "name"),
    lab.Sample: ("id", "site_id", "code", "keeper_id", "price", "taken_on"),
    lab.Photo: ("id", "sample_id"),
    lab.Neighbour: ("id", "name"),
}


DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "data-migrations.md"


def command(name: str, *arguments: str) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, stderr=out)
    return out.getvalue()


def old_rows() -> dict[str, list[list[str]]]:
    """All that django-simple-history wrote, and the links of its many-to-many."""
    found: dict[str, list[list[str]]] = {}
    for model, names in VALUES.items():
        rows = model.history.filter(history_id__lte=1_000_000).order_by("history_id").values_list(*OLD, *names)
        found[model.__name__] = [[str(value) for value in row] for row in rows[:1_000]]
    through = lab.Sample.history.model.tags.model
    links = through.objects.order_by("m2m_history_id").values_list(
        "m2m_history_id", "history_id", "sample_id", "tag_id"
    )
    found["links"] = [[str(value) for value in row] for row in links]
    return found


def fill(rows: int) -> None:
    """Many more sites, each with one history row."""
    numbers = (
        f"generate_series(1, {rows}) AS numbers(n)"
        if POSTGRES
        else f"(WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {rows}) SELECT n FROM c)"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"INSERT INTO lab_site (id, slug, name) SELECT n + 1000, 's' || n, 'Site ' || n FROM {numbers}")
        cursor.execute(
            "INSERT INTO lab_historicalsite (id, slug, name, history_date, history_type, history_user_id) "
            "SELECT id, slug, name, CURRENT_TIMESTAMP, '+', (SELECT MIN(id) FROM auth_user) "
            "FROM lab_site WHERE id > 1000 ORDER BY id"
        )
        if POSTGRES:
            cursor.execute("SELECT setval(pg_get_serial_sequence('lab_site', 'id'), (SELECT MAX(id) FROM lab_site))")


def before() -> dict[str, Any]:
    command("makemigrations", "lab")
    command("migrate")
    ada, bob = User.objects.create_user("ada"), User.objects.create_user("bob")
    site = lab.Site(slug="reef", name="Reef")
    site._history_user = ada
    site._change_reason = "found it"
    site.save()
    site._history_user = bob
    site.name = "Outer reef"
    site.save()
    sample = lab.Sample.objects.create(site=site, code="S1", keeper=ada, price="1.50", taken_on="2026-01-01")
    sample.tags.add(lab.Tag.objects.create(name="coral"), lab.Tag.objects.create(name="night"))
    lab.Photo.objects.create(sample=sample)
    gone = lab.Site.objects.create(slug="gone", name="Gone")
    gone.delete()
    lab.Site.objects.bulk_create([lab.Site(slug="bulk", name="Without history")])
    lab.Neighbour.objects.create(name="left alone")
    bob.delete()
    fill(ROWS)
    return {"rows": old_rows()}


def widen() -> dict[str, Any]:
    """What is said to a field that would make the key of the history wider."""
    try:
        command("koherent_adopt", "lab")
    except CommandError as error:
        files = [
            command("koherent_adopt", "lab", "--widen", "--dry-run", "--verbosity", "3", *more)
            for more in ([], ["--no-indexes"])
        ]
        return {"status": error.returncode, "message": str(error), "files": files}
    raise AssertionError("The key would have been widened.")


def filenodes() -> dict[str, int]:
    """Where PostgreSQL keeps each history table: a rewritten table is kept somewhere else."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname, pg_relation_filenode(oid) FROM pg_class "
            "WHERE relkind = 'r' AND relname LIKE 'lab_historical%'"
        )
        return dict(cursor.fetchall())


def indexes() -> dict[str, list[str]]:
    """The columns of each index of a history table, the primary key's left out."""
    found: dict[str, list[str]] = {}
    for model in (lab.Site, lab.Sample, lab.Photo):
        table = model.history.model._meta.db_table
        with connection.cursor() as cursor:
            constraints = connection.introspection.get_constraints(cursor, table)
        plain = (c for c in constraints.values() if c["index"] and not c["primary_key"])
        found[model.__name__] = sorted(",".join(c["columns"]) for c in plain)
    return found


def seconds(work: Any) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def adopt() -> dict[str, Any]:
    import koherent
    from koherent import registry, timeline
    from koherent.adoption import adopt_actors
    from koherent.baseline import record_baseline
    from koherent.feed.cursor import Position, Snapshot, identity, read_since
    from koherent.policy import Viewer, scope_for
    from koherent.verify import verify

    def fed() -> list[Any]:
        """All that the feed would ever deliver."""
        snapshot = Snapshot(1, 1, frozenset()) if POSTGRES else None
        position = Position(database=identity(), time=int(time.time()), snapshot=snapshot)
        found: list[Any] = []
        while True:
            batch = read_since(position, 10_000)
            found += [item.pair for item in batch.items]
            if not batch.more:
                return found
            position = batch.position

    def findings() -> list[Any]:
        return [[f.problem, f.model, f.object_id] for t in registry.tracked_models() for f in verify(t)]

    seen: dict[str, Any] = {"written": command("koherent_adopt", "lab", "--no-header")}
    seen["migration"] = (FOLDER / "lab_migrations" / "0002_adopt_history.py").read_text()
    seen["sql"] = command("sqlmigrate", "lab", "0002")
    if POSTGRES:
        seen["filenodes before"] = filenodes()
    seen["migrate seconds"] = seconds(lambda: command("migrate"))
    if POSTGRES:
        seen["filenodes after"] = filenodes()
    seen["check"] = command("makemigrations", "--check", "--dry-run")
    seen["rows"] = old_rows()
    seen["indexes"] = indexes()
    site, sample = registry.by_label("lab.site"), registry.by_label("lab.sample")
    assert site is not None
    assert sample is not None
    new_columns = ("app", "assignation_id", "actor_id", "metadata", "origin", "position", "field_set", "in_run")
    stamps = {row for t in (site, sample) for row in map(repr, t.history_model._base_manager.values_list(*new_columns))}
    seen["stamps"] = sorted(stamps)
    seen["field sets"] = [repr((None, None, None, {}, "change", 0, t.field_set, False)) for t in (site, sample)]
    seen["fed before"] = fed()
    counted: list[int] = []
    seen["actors seconds"] = seconds(lambda: counted.append(adopt_actors(site)))
    seen["actors"] = counted
    seen["named"] = list(
        site.history_model._base_manager.filter(history_id__lte=3)
        .order_by("history_id")
        .values_list("history_type", "actor_name")
    )
    seen["verify seconds"] = seconds(lambda: seen.update(missing=findings()))
    seen["baseline"] = record_baseline(site).created
    seen["findings"] = findings()
    with koherent.audit(app="lab", assignation_id="first"):
        lab.Sample.objects.update(price="2.50")
    seen["fed after"] = fed()
    [entry] = timeline.load(scope_for(Viewer(user=User(is_superuser=True, is_active=True, pk=0))), fed())
    seen["change"] = [[c.field, c.old, c.new] for c in entry.changes or ()]
    seen["snapshot"] = sorted(entry.snapshot)
    documented = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[0]
    (FOLDER / "lab_migrations" / "0003_prices.py").write_text(documented)
    command("migrate")
    new = lab.Sample.history.filter(history_id__gt=3).order_by("history_id")
    names = ("history_type", "code", "price", "origin", "position", "app", "history_change_reason")
    seen["data migration"] = [
        [*(getattr(row, name) for name in names), [link.tag.name for link in row.tags.order_by("tag__name")]]
        for row in new
    ]
    seen["findings after data"], seen["fed after data"] = findings(), fed()
    new = lab.Sample.history.filter(history_id__gte=3)
    lab.Sample.history.model.tags.model.objects.filter(history__in=new).delete()
    new.delete()
    lab.Site.history.filter(origin="baseline").delete()
    command("migrate", "lab", "0001")
    (FOLDER / "lab_migrations" / "0003_prices.py").unlink()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM lab_historicalsite ORDER BY history_id LIMIT 1")
        seen["columns backwards"] = sorted(column[0] for column in cursor.description)
        cursor.execute("SELECT COUNT(*) FROM lab_historicalsite")
        seen["count backwards"] = cursor.fetchone()[0]
    command("migrate")
    seen["rows again"] = old_rows()
    lab.Neighbour.objects.create(name="still plain")
    seen["neighbour"] = list(lab.Neighbour.history.order_by("history_id").values_list("history_type", "name"))
    seen["check again"] = command("makemigrations", "--check", "--dry-run")
    return seen


json.dump({"before": before, "widen": widen, "adopt": adopt}[STAGE](), sys.stdout, default=str)
