"""What looks after the trail finds entries of runs as quickly as others, and leaves runs that tell of their entries."""

import datetime as dt
import io
import random
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.db.models import Q
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Project, Tag
from koherent import export, registry, retention, runs, timeline, trust, writer
from koherent.adoption import adopt_actors
from koherent.baseline import record_baseline
from koherent.erasure import ERASED_NAME, actors
from koherent.models import Assignation
from koherent.policy import Policy, Viewer
from koherent.registry import TrackedModel
from koherent.retention import pruning
from koherent.revert import RevertStatus, revert_assignation
from koherent.revert.plan import objects_of
from koherent.revert.versions import Versions, in_assignation
from koherent.timeline import Filters
from koherent.verify import Finding, Problem, foreign_positions, verify
from tests.effort import plan
from tests.retention.histories import days_ago

pytestmark = pytest.mark.django_db
POSTGRES = connection.vendor == "postgresql"
#: Entries of somebody else: half of them stand alone, half are in runs of a hundred.
CROWD = 20_000
MANY = 60


@pytest.fixture(autouse=True)
def _runs_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "RUN_AT_LEAST", 20)


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob")


def tracked(model: Any = Tag) -> TrackedModel:
    found = registry.for_model(model)
    assert found is not None
    return found


def write(model: Any, count: int, **context: Any) -> list[int]:
    """Create so many objects with one statement; returns the ids of their entries."""
    before = set(ids(model))
    with koherent.audit(**context):
        model.objects.bulk_create(model(name=f"{len(before)} {number}") for number in range(count))
    return [id for id in ids(model) if id not in before]


def ids(model: Any, *conditions: Q, **values: Any) -> list[int]:
    return list(model.history.filter(*conditions, **values).order_by("history_id").values_list("history_id", flat=True))


def having(condition: Q, model: Any = Tag) -> list[int]:
    """The same as ``ids(model, condition)``, if runs say what their entries do."""
    return ids(model, runs.having(tracked(model), "default", condition))


def run_rows(model: Any = Tag) -> list[tuple[Any, ...]]:
    found = Assignation.objects.filter(model=tracked(model).label).order_by("first_id")
    return list(found.values_list("assignation_id", "first_id", "last_id"))


def crowd(model: Any = Tag, date: dt.datetime | None = None) -> None:
    """A great many entries that others wrote long ago."""
    table, first = model.history.model._meta.db_table, 1 + max(ids(model), default=0)
    date = date or days_ago(400)
    numbers = (
        f"generate_series(0, {CROWD - 1}) AS numbers(n)"
        if POSTGRES
        else f"(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {CROWD - 1}) SELECT n FROM c)"
    )
    values = {
        "history_id": f"{first} + n",
        "id": "1000000 + n",
        "name": "'c' || n",
        **({"description": "''"} if model is Project else {}),
        "history_date": "%s",
        "history_type": "'+'",
        **dict.fromkeys(("app", "actor_name"), "'crowd'"),
        "assignation_id": "'crowd' || (n / 100)",
        "actor_id": "'0'",
        "metadata": "'{}'",
        "origin": "'change'",
        "position": "1",
        "in_run": f"n >= {CROWD // 2}",
    }
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {table} ({', '.join(values)}) SELECT {', '.join(values.values())} FROM {numbers}", [date]
        )
        said = {"history_date": date, "history_type": "+", "app": "crowd", "actor_id": "0"}
        Assignation.objects.bulk_create(
            Assignation(
                model=tracked(model).label,
                started_at=date,
                first_id=start,
                last_id=start + 99,
                position=1 if POSTGRES else None,
                assignation_id=f"crowd{(start - first) // 100}",
                **said,
            )
            for start in range(first + CROWD // 2, first + CROWD, 100)
        )
        if POSTGRES:
            cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'history_id'), {first + CROWD})")
        cursor.execute("ANALYZE")


def looked_at(run: Callable[[], Any]) -> int:
    """How many rows PostgreSQL looks at, or about as many of SQLite's steps; nothing of it stays."""
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        ticks = steps(run) if not POSTGRES else run()
        transaction.set_rollback(True)
    if not POSTGRES:
        return int(ticks)
    rows = 0
    for query in captured.captured_queries:
        if query["sql"].startswith(("SELECT", "WITH", "UPDATE", "DELETE")):
            with transaction.atomic():
                rows += plan(query["sql"])[2]
                transaction.set_rollback(True)
    return rows


def steps(run: Callable[[], Any], every: int = 100) -> int:
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    connection.connection.set_progress_handler(tick, every)
    try:
        run()
    finally:
        connection.connection.set_progress_handler(None, every)
    return ticks * every


# --- whose an assignation is


def test_an_assignation_of_runs_is_ones_own_or_anothers(ada: User, bob: User) -> None:
    crowd()
    write(Tag, MANY, user=ada, assignation_id="a")
    write(Tag, MANY, user=ada, assignation_id="both")
    write(Project, MANY, user=bob, assignation_id="both")
    write(Tag, MANY, assignation_id="nobody")
    asked = {
        (id, user): trust._new_or_own(id, str(user.pk)) for id in ("a", "both", "nobody", "new") for user in (ada, bob)
    }
    assert [id for (id, _), own in asked.items() if own] == ["a", "new", "new"]
    assert looked_at(lambda: [trust._new_or_own(id, str(ada.pk)) for id in ("a", "both", "nobody")]) < CROWD
    # Updated by hand, the entries count, whatever their run says.
    Tag.history.filter(assignation_id="a").update(actor_id=str(bob.pk))
    assert not trust._new_or_own("a", str(ada.pk))
    Tag.history.filter(assignation_id="a").delete()
    assert not trust._new_or_own("a", str(ada.pk))


# --- undoing an assignation


class Theirs(Policy):
    """Hides the entries of some objects."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        return queryset.exclude(name__endswith="0")


def test_what_an_assignation_wrote_is_found_in_runs_and_outside(ada: User, bob: User) -> None:
    crowd()
    own = write(Tag, MANY, user=ada, assignation_id="a")
    write(Tag, MANY, user=bob, assignation_id="b")
    own += write(Tag, 3, user=bob, assignation_id="a")
    projects = write(Project, MANY, assignation_id="a")
    own += write(Tag, MANY, user=bob, assignation_id="a")
    versions = Versions(tracked())
    found: dict[str, Any] = {}

    def read() -> None:
        found["objects"] = {t.label: count for t, count in objects_of("a").items()}
        found["batches"] = [id for batch in versions.batches_of("a") for id in batch]
        found["entries"] = [v.id for own in versions.of_assignation("a", None)[0].values() for v in own]

    assert looked_at(read) < CROWD
    assert found == {
        "objects": {"example_schema.project": len(projects), "example_schema.tag": len(own)},
        "batches": own,
        "entries": own,
    }
    assert ids(Tag, in_assignation(tracked(), "a")) == own == ids(Tag, assignation_id="a")
    assert looked_at(lambda: objects_of("unknown")) < CROWD


def test_an_undo_takes_back_all_and_counts_what_is_seen(ada: User, settings: Any, admin: User) -> None:
    own = write(Tag, MANY, user=ada, assignation_id="a")
    settings.KOHERENT = {"POLICY": f"{__name__}.Theirs", "REVERT_LIMIT": len(own) - MANY // 10}
    with pytest.raises(koherent.errors.Forbidden):
        # Not for their number: the hidden ones are not counted.
        revert_assignation(Viewer(user=admin), "a")
    assert revert_assignation(None, "a").status is RevertStatus.APPLIED
    assert not Tag.objects.exists()
    assert list(verify(tracked())) == []


# --- accounts that go


def test_an_account_that_is_deleted_is_no_longer_referred_to(ada: User, bob: User) -> None:
    crowd()
    key = str(ada.pk)
    own = write(Tag, MANY, user=ada) + write(Tag, 3, user=ada)
    others = write(Tag, MANY, user=bob) + write(Tag, 3, user=bob)
    Tag.history.filter(pk=own[-1]).update(actor_id=None)
    assert looked_at(lambda: User.objects.get(pk=key).delete()) < CROWD
    ada.delete()
    assert ids(Tag, history_user_id__isnull=False) == others
    assert having(Q(actor_id=key)) == ids(Tag, actor_id=key) == own[:-1]


@pytest.mark.parametrize("batch", [7, 5_000])
def test_a_persons_name_goes_from_runs_too(ada: User, bob: User, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "BATCH", batch)
    own = write(Tag, MANY, user=ada)
    others = write(Tag, MANY, user=bob) + write(Tag, 3, user=bob)
    ada.username = "countess"
    ada.save()
    own += write(Tag, 3, user=ada) + write(Tag, MANY, user=ada)
    Tag.history.filter(pk=own[-1]).update(in_run=False, actor_id=None, actor_name=None)
    assert actors._Actor(str(ada.pk), "default", True).names(str(ada.pk), ()) == {"ada", "countess"}
    assert koherent.erase_actor(ada, dry_run=True).entries == len(own)
    report = koherent.erase_actor(ada)
    assert report.entries == len(own)
    assert ids(Tag, origin="change", actor_name=ERASED_NAME, history_user=None) == own
    assert ids(Tag, origin="change", actor_name="bob", history_user=bob) == others
    assert having(Q(actor_id=str(ada.pk))) == own
    # The newest object that was named.
    [(_, said)] = report.erasures
    assert Tag.history.get(pk=said).id == Tag.history.get(pk=own[-1]).id
    assert koherent.erase_actor(ada).entries == 0
    assert list(verify(tracked())) == []


def test_each_chunk_of_a_persons_entries_reads_no_more_than_a_chunk(
    ada: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd()
    monkeypatch.setattr(runs, "_GAP", 10)

    def work(chunk: int, count: int) -> tuple[int, int]:
        user = User.objects.create_user(f"user {count} {chunk}")
        for _ in range(count):
            write(Tag, 25, user=user)
            write(Tag, 25, user=bob)
        monkeypatch.setattr(actors, "BATCH", chunk)
        erasure = actors._Actor(str(user.pk), "default", False)
        assert looked_at(lambda: erasure.names(str(user.pk), ())) < CROWD
        rows = looked_at(lambda: erasure.clear(tracked()))
        return rows, len(runs.ranges(tracked(), "default", Q(actor_id=str(user.pk))))

    few, ranges = work(10, 4)
    assert ranges == 4
    assert few < CROWD
    many, _ = work(10, 16)
    assert many < 6 * few


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_entries_of_any_dates_are_cleared(ada: User, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "BATCH", batch)
    for days in (3, 5, 5, 5, 1, 4, 4):
        [id] = write(Tag, 1, user=ada)
        Tag.history.filter(pk=id).update(history_date=dt.datetime(2026, 1, days, tzinfo=dt.UTC))
    assert koherent.erase_actor(ada).entries == 7
    assert not Tag.history.exclude(origin="erasure").exclude(actor_name=ERASED_NAME).exists()


def test_ranges_are_few_and_hold_all(ada: User, bob: User) -> None:
    first = write(Tag, MANY, user=ada)
    write(Tag, MANY, user=bob)
    second = write(Tag, MANY, user=ada)
    own = Q(actor_id=str(ada.pk))
    assert runs.ranges(tracked(), "default", own) == [(first[0], second[-1])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_GAP", MANY)
        assert runs.ranges(tracked(), "default", own) == [(first[0], first[-1]), (second[0], second[-1])]
    assert runs.ranges(tracked(Project), "default", own) == []


def test_an_adopted_actor_is_found_though_the_run_has_none(ada: User) -> None:
    own = write(Tag, MANY)
    Tag.history.filter(pk=own[7]).update(history_user=ada)
    assert adopt_actors(tracked()) == 1
    assert having(Q(actor_id=str(ada.pk))) == [own[7]]
    assert having(Q(actor_id=None)) == [id for id in own if id != own[7]]


# --- prunes


def age(model: Any, days: float = 30) -> None:
    """Everything of a model happened so long ago."""
    date = days_ago(days)
    model.history.update(history_date=date)
    Assignation.objects.filter(model=tracked(model).label).update(history_date=date)
    Assignation.objects.update(started_at=date)


def rename(model: Any) -> None:
    for row in model.objects.order_by("pk"):
        row.name += "!"
        row.save()


def test_runs_of_any_dates_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    for days in (30, 40, 40, 40, 30, 30, 1):
        own = write(Tag, 20)
        Assignation.objects.filter(first_id=own[0]).update(history_date=days_ago(days).replace(microsecond=0))
    Tag.history.exclude(pk=own[0]).delete()
    retention.prune(before=days_ago(20))
    assert run_rows() == [(None, own[0], own[-1])]


def test_runs_are_shortened_emptied_or_left_alone() -> None:
    shortened = write(Tag, MANY, assignation_id="shortened")
    emptied = write(Tag, MANY, assignation_id="emptied")
    without = write(Tag, MANY)
    kept = {Tag.history.get(pk=id).id for id in shortened[10:12]}
    for tag in Tag.objects.exclude(pk__in=kept):
        tag.name += "!"
        tag.save()
    age(Tag)
    young = write(Tag, MANY, assignation_id="young")
    Tag.history.filter(pk__in=young).delete()
    report = retention.prune(before=days_ago(20))
    assert (report.entries, report.assignations) == (3 * MANY - 2, 1)
    assert run_rows() == [("shortened", shortened[0], shortened[-1]), ("young", young[0], young[-1])]
    assert ids(Tag, in_run=True) == shortened[10:12] == having(Q(assignation_id="shortened"))
    assert not Assignation.objects.filter(Q(assignation_id="emptied") | Q(assignation_id=None)).exists()
    assert ids(Tag, pk__in=emptied + without) == []


@pytest.mark.parametrize("left", ["alone", "run"])
def test_an_assignation_whose_run_went_goes_on_as_long_as_other_entries_do(left: str) -> None:
    write(Tag, MANY, assignation_id="a", app="import")
    other = write(Project, MANY if left == "run" else 1, assignation_id="a", app="import")
    # It began with the run.
    assert Assignation.objects.count() == (1 if left == "alone" else 2)
    rename(Tag)
    age(Tag)
    age(Project)
    report = retention.prune(keep=0, models=["example_schema.tag"])
    assert (report.entries, report.assignations) == (MANY, 0)
    row, *others = Assignation.objects.order_by("pk")
    assert row.assignation_id == "a"
    assert row.pruned_at is not None
    assert {getattr(row, name) for name in pruning.NO_RUN} == {None}
    assert run_rows(Project) == [("a", other[0], other[-1]) for _ in others]
    # What is left goes, too; each object's baseline has no assignation.
    rename(Project)
    age(Project)
    report = retention.prune(keep=0, models=["example_schema.project"])
    assert (report.entries, report.assignations) == (len(other), 1 + len(others))
    assert not Assignation.objects.exists()


def test_a_prune_looks_at_no_other_models_runs() -> None:
    write(Tag, MANY, assignation_id="a")
    rename(Tag)
    age(Tag)

    crowd(Project)
    with CaptureQueriesContext(connection) as captured:
        retention.prune(keep=0, models=["example_schema.tag"])
    asked = [query["sql"] for query in captured if "first_id" in query["sql"]]
    assert asked
    assert not any("historicalproject" in sql for sql in asked)
    assert run_rows() == []
    assert len(run_rows(Project)) == CROWD // 2 // 100


def test_assignations_without_entries_are_found_by_indexes() -> None:
    crowd(date=days_ago(1))
    Assignation.objects.bulk_create(
        Assignation(assignation_id=f"empty {number}", started_at=days_ago(40)) for number in range(50)
    )
    for number in (0, CROWD // 100 - 1):
        Assignation.objects.create(assignation_id=f"crowd{number}", started_at=days_ago(40))
    assert looked_at(lambda: pruning._prune_assignations("default", days_ago(30))) < CROWD
    assert pruning._prune_assignations("default", days_ago(30)) == 50


@pytest.mark.parametrize("seed", range(12))
def test_whatever_is_pruned_runs_and_assignations_are_those_of_what_is_left(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(writer, "RUN_AT_LEAST", 2)
    monkeypatch.setattr(pruning, "BATCH", chance.choice([2, 3, 1_000]))
    models: tuple[Any, ...] = (Tag, Project)
    for number in range(14):
        model, name = chance.choice(models), chance.choice([None, "a", "b", "c"])
        with koherent.audit(assignation_id=name):
            some = model.objects.filter(pk__in=[pk for pk in ids_of(model) if chance.random() < 0.6])
            if chance.random() < 0.4:
                model.objects.bulk_create(model(name=f"{number} {n}") for n in range(chance.randint(1, 5)))
            elif chance.random() < 0.5:
                for row in some:
                    row.name += "!"
                    row.save()
            else:
                model.objects.bulk_update([rename_to(row, f"{number} {row.pk}") for row in some], ["name"])
    for model in models:
        age(model)
    for _ in range(3):
        chosen = chance.sample(models, chance.choice([1, 2]))
        retention.prune(keep=chance.choice([0, 1, 2]), models=[tracked(model).label for model in chosen])
        for model in chosen:
            for _, first, last in run_rows(model):
                assert ids(model, in_run=True, pk__gte=first, pk__lte=last)
        assert not Assignation.objects.filter(assignation_id=None, model=None).exists()
    for model in models:
        assert [f for f in verify(tracked(model)) if f.problem == Problem.IMPOSSIBLE and "run" in f.message] == []
        for name in ("a", "b", "c", None):
            assert having(Q(assignation_id=name), model) == ids(model, assignation_id=name)
    retention.prune(keep=100)
    there = {name for model in models for name in model.history.values_list("assignation_id", flat=True)} - {None}
    rows = Assignation.objects.exclude(assignation_id=None)
    assert set(rows.values_list("assignation_id", flat=True)) == there


def ids_of(model: Any) -> list[Any]:
    return list(model.objects.order_by("pk").values_list("pk", flat=True))


def rename_to(row: Any, name: str) -> Any:
    row.name = name
    return row


# --- verifying and repairing


def findings(**options: Any) -> list[Finding]:
    return list(verify(tracked(), **options))


@pytest.mark.parametrize("chunk", [1, 7, 2_000])
def test_entries_that_their_run_does_not_know_are_found_and_repaired(ada: User, chunk: int) -> None:
    own = write(Tag, MANY, user=ada, app="one", assignation_id="a")
    gone = write(Tag, MANY, user=ada, app="two")
    short = write(Tag, MANY, user=ada, app="three")
    assert findings(chunk=chunk) == []
    by_hand: dict[int, dict[str, Any]] = {
        own[3]: {"app": "other"},
        own[4]: {"app": None, "assignation_id": "b"},
        own[5]: {"actor_id": None},
        own[6]: {"history_date": days_ago(3)},
    }
    for id, values in by_hand.items():
        Tag.history.filter(pk=id).update(**values)
    Assignation.objects.filter(app="two").delete()
    Assignation.objects.filter(app="three").update(last_id=short[-3])
    expected: dict[int, tuple[str, ...]] = {
        own[3]: ("app",),
        own[4]: ("app", "assignation_id"),
        own[5]: ("actor_id",),
        **dict.fromkeys([own[6], *gone, *short[-2:]], ()),
    }
    found = findings(chunk=chunk)
    assert {f.problem for f in found} == {Problem.IMPOSSIBLE}
    assert {f.entry: f.fields for f in found} == expected
    messages = {f.entry: f.message for f in found}
    assert messages[own[4]] == "Differs from its run in app, assignation_id: filters do not find it."
    assert messages[gone[0]] == "No run knows of it: filters do not find it."
    assert {f.object_id for f in found} == {str(Tag.history.get(pk=id).id) for id in expected}
    # Neither as what the run says nor as what they say.
    assert having(Q(app="one")) == ids(Tag, app="one")
    assert having(Q(app="other")) == having(Q(app="two")) == []
    assert record_baseline(tracked(), repair=True, chunk=chunk, dry_run=True).detached == len(expected)
    assert record_baseline(tracked(), chunk=chunk).detached is None
    report = record_baseline(tracked(), repair=True, chunk=chunk)
    assert (report.entries, report.detached, report.restored) == (0, len(expected), 0)
    assert findings(chunk=chunk) == []
    assert ids(Tag, in_run=False) == sorted(expected)
    for condition in (Q(app="other"), Q(app="two"), Q(app="three"), Q(assignation_id="b"), Q(actor_id=None)):
        assert having(condition) == ids(Tag, condition) != []


def test_old_ones_can_be_passed_over() -> None:
    own = write(Tag, MANY)
    Assignation.objects.all().delete()
    assert len(findings(since=days_ago(1))) == len(own)
    assert findings(since=dt.datetime.now(dt.UTC) + dt.timedelta(days=1)) == []


def test_shortened_and_empty_runs_are_as_they_should_be() -> None:
    own = write(Tag, MANY)
    Tag.history.filter(pk=own[5]).update(in_run=False, app="copied by hand")
    Tag.history.filter(pk__in=[own[0], own[20], own[-1]]).delete()
    impossible = [f for f in findings() if f.problem == Problem.IMPOSSIBLE]
    assert impossible == []
    Tag.history.all().delete()
    assert [f for f in findings() if f.problem == Problem.IMPOSSIBLE] == []
    assert record_baseline(tracked(), repair=True).detached == 0


def test_of_many_runs_of_one_statement_the_right_one_is_looked_at() -> None:
    """As on PostgreSQL, where others part a statement's ids."""
    own = write(Tag, MANY, app="one")
    [run] = Assignation.objects.all()
    for first in range(own[0], own[-1] + 1, 2):
        run.pk, run.first_id, run.last_id = None, first, first + 1
        run.save(force_insert=True)
    Assignation.objects.filter(first_id=own[0], last_id=own[-1]).delete()
    assert len(run_rows()) == MANY // 2
    assert findings() == []
    Assignation.objects.filter(first_id=own[10]).update(app="two")
    Assignation.objects.filter(first_id=own[20]).delete()
    assert {f.entry: f.fields for f in findings()} == {
        own[10]: ("app",),
        own[11]: ("app",),
        own[20]: (),
        own[21]: (),
    }


def test_the_commands_say_so() -> None:
    write(Tag, MANY)
    Assignation.objects.all().delete()
    out = io.StringIO()
    with pytest.raises(CommandError, match=f"The trail is not whole: {MANY} impossible."):
        call_command("koherent_verify", stdout=out)
    assert "No run knows of it: filters do not find it." in out.getvalue()
    for arguments, verb in (["--dry-run"], "would lose"), ([], "lost"):
        out = io.StringIO()
        call_command("koherent_baseline", "--repair", "--model", "example_schema.tag", *arguments, stdout=out)
        assert out.getvalue().rstrip().endswith(f"; {MANY} {verb} a run that knew nothing of them")
    call_command("koherent_verify", stdout=out)


@pytest.mark.parametrize("chunk", [50, 130, 2_000])
def test_positions_of_another_cluster_go_from_runs_and_their_entries_alike(ada: User, chunk: int) -> None:
    """SQLite's feed has no positions, so it has none of another cluster's."""
    crowd()
    own = write(Tag, MANY, user=ada) + write(Tag, 3, user=ada) + write(Tag, MANY, user=ada)
    kept = write(Tag, MANY, user=ada)
    Tag.history.filter(pk__in=own).update(position=2**60)
    Assignation.objects.filter(model=tracked().label, first_id__in=own).update(position=2**60)
    # An empty run has a position, too.
    Assignation.objects.create(
        model=tracked().label, first_id=10**6, last_id=10**6 + 999, position=2**59, started_at=days_ago(1)
    )
    Tag.history.filter(pk=own[0]).delete()
    expected = own[1:] if POSTGRES else []
    assert looked_at(lambda: list(foreign_positions(tracked(), "default"))) < CROWD
    assert [(f.problem, f.entry, f.count) for f in foreign_positions(tracked(), "default")] == [
        (Problem.FOREIGN_POSITION, expected[0], len(expected)) for _ in expected[:1]
    ]
    assert record_baseline(tracked(), repair=True, dry_run=True).restored == len(expected)
    report = record_baseline(tracked(), repair=True, chunk=chunk)
    assert report.restored == len(expected)
    assert ids(Tag, position=0, actor_id=str(ada.pk)) == expected
    assert ids(Tag, position__gt=0, pk__in=kept) == kept
    if POSTGRES:
        own_runs = Assignation.objects.filter(model=tracked().label, actor_id=str(ada.pk)).order_by("first_id")
        assert [run.position == 0 for run in own_runs] == [True, True, False]
    assert list(foreign_positions(tracked(), "default")) == []


def test_erased_and_pruned_runs_are_still_shown_as_what_they_are(ada: User) -> None:
    write(Tag, MANY, user=ada, app="import")
    koherent.erase_actor(ada)
    shown = timeline.page(export.unrestricted(), Filters(users=[str(ada.pk)]), first=100).entries
    assert len(shown) == MANY
    assert {entry.user.name for entry in shown if entry.user is not None} == {ERASED_NAME}
