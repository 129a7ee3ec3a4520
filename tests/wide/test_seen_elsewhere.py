"""What other packages, and the one below, were seen to miss, to double or to blame on the wrong one."""

import asyncio
from collections.abc import Callable
from typing import Any

import django
import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.core import serializers
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models import F
from django.utils import timezone
from simple_history.utils import bulk_create_with_history, bulk_update_with_history

import koherent
from koherent import registry
from koherent.verify import Problem, verify
from tests.wide.models import Article, Dependent, Folder, Headline, Instrument, Neighbour, Person, Reagent, Team, Unit
from tests.wide.option_models import Based

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def entries(model: Any, *names: str) -> list[tuple[Any, ...]]:
    """The history of a model in the order of writing: (type, *names)."""
    return list(model.history.order_by("history_id").values_list("history_type", *names))


def findings(model: Any) -> list[tuple[str, tuple[str, ...]]]:
    """What the verifier says about a model: (problem, fields)."""
    tracked = registry.for_model(model)
    assert tracked is not None
    return [(finding.problem, finding.fields) for finding in verify(tracked)]


class TestNoRowAtAll:
    """Paths on which django-simple-history leaves nothing; each also stands in the tables of ``test_paths``."""

    @pytest.mark.parametrize(
        "write",
        [
            lambda: Unit.objects.bulk_create([Unit(code="new", name="n")]),
            lambda: Unit.objects.bulk_update([Unit(code="m", name="n")], ["name"]),
            lambda: Unit.objects.update(name="n"),
        ],
        ids=["bulk_create", "bulk_update", "queryset.update"],
    )
    def test_bulk_writes_leave_a_row_with_its_actor(self, write: Callable[[], object], ada: User) -> None:
        Unit.objects.create(code="m", name="metre")
        with koherent.audit(user=ada):
            write()
        row = Unit.history.latest()
        assert (Unit.history.count(), row.name, row.actor_name) == (2, "n", "ada")

    def test_many_to_many_that_is_not_tracked_leaves_none_by_choice(self) -> None:
        based = Based.objects.create(name="a")
        based.untracked.add(Unit.objects.create(code="m", name="metre"))
        assert entries(Based) == [("+",)]
        assert findings(Based) == []

    def test_rows_of_a_through_model_leave_a_row_of_their_owner(self) -> None:
        person, team = Person.objects.create(name="ann"), Team.objects.create(name="red")
        through: Any = Person.teams.through
        through.objects.create(person=person, team=team, role="lead")
        through.objects.update(role="chair")
        through.objects.all().delete()
        found = [(row.history_type, [link.role for link in row.teams.all()]) for row in _in_order(Person)]
        assert found == [("+", []), ("~", ["lead"]), ("~", ["chair"]), ("~", [])]

    @pytest.mark.parametrize(
        ("rule", "left"),
        [("nulled", None), ("defaulting", None), ("falling_back", "default"), ("calling", "stand-in")],
        ids=["SET_NULL", "SET_DEFAULT: null", "SET_DEFAULT", "SET"],
    )
    def test_side_effects_of_a_deletion_leave_a_row_of_the_dependent(self, rule: str, left: str | None) -> None:
        for code in ("default", "stand-in", "gone"):
            Unit.objects.create(code=code, name=code)
        Dependent.objects.create(name="d", **{f"{rule}_id": "gone"})
        Unit.objects.get(code="gone").delete()
        assert entries(Dependent, f"{rule}_id") == [("+", "gone"), ("~", left)]

    def test_save_without_historical_record_is_a_gap_that_the_verifier_finds(self) -> None:
        unit = Unit.objects.create(code="m", name="metre")
        unit.name = "secretly"
        unit.save_without_historical_record()  # type: ignore[attr-defined]
        assert entries(Unit, "name") == [("+", "metre")]
        assert findings(Unit) == [(Problem.STALE, ("name",))]
        unit.amount = 1
        unit.save()
        assert entries(Unit, "name", "amount")[1:] == [("~", "secretly", 1)]

    def test_raw_saves_of_fixtures_are_a_gap_that_the_verifier_finds(self) -> None:
        text = serializers.serialize("json", [Unit(code="m", name="metre")])
        for loaded in serializers.deserialize("json", text):
            loaded.save()
        assert entries(Unit) == []
        assert findings(Unit) == [(Problem.MISSING, ())]

    def test_raw_sql_and_raw_delete_are_gaps_that_the_verifier_finds(self) -> None:
        Unit.objects.create(code="m", name="metre")
        Unit.objects.create(code="s", name="second")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE wide_unit SET name = 'meter' WHERE code = 'm'")
        queryset: Any = Unit.objects.filter(code="s")
        queryset._raw_delete("default")
        assert findings(Unit) == [(Problem.STALE, ("name",)), (Problem.VANISHED, ())]

    @pytest.mark.skipif(django.VERSION < (6, 1), reason="Django has DB_CASCADE and DB_SET_NULL since 6.1")
    def test_cascades_of_the_database_are_gaps_that_the_verifier_finds(self) -> None:
        from tests.wide.option_models import DatabaseCascade, DatabaseSetNull

        unit = Unit.objects.create(code="m", name="metre")
        DatabaseCascade.objects.create(unit=unit)
        DatabaseSetNull.objects.create(unit=unit)
        unit.delete()
        assert (entries(DatabaseCascade), entries(DatabaseSetNull)) == ([("+",)], [("+",)])
        assert findings(DatabaseCascade) == [(Problem.VANISHED, ())]
        assert findings(DatabaseSetNull) == [(Problem.STALE, ("unit",))]

    def test_a_proxy_of_a_tracked_model_leaves_rows_in_its_models_history(self) -> None:
        headline = Headline.lines.create(name="a")
        headline.name = "b"
        headline.save()
        headline.delete()
        assert entries(Article, "name") == [("+", "a"), ("~", "b"), ("-", "b")]


class TestRowAndNoSignal:
    """Paths on which attribution by signal finds nobody, or on which two layers would both record."""

    def test_bulk_create_with_history_is_attributed_and_not_doubled(self, ada: User) -> None:
        with koherent.audit(user=ada, assignation_id="import"):
            bulk_create_with_history([Unit(code="m", name="metre"), Unit(code="s", name="second")], Unit)
        found = sorted(entries(Unit, "code", "actor_name", "history_user_id", "assignation_id"))
        assert found == [("+", code, "ada", ada.pk, "import") for code in ("m", "s")]

    def test_bulk_create_with_history_that_ignores_conflicts_records_what_it_created(self) -> None:
        Instrument.objects.create(code="a", name="first")
        instruments = [Instrument(code="a", name="taken"), Instrument(code="b", name="new")]
        Instrument.objects.bulk_create(instruments, ignore_conflicts=True)
        assert entries(Instrument, "code", "name") == [("+", "a", "first"), ("+", "b", "new")]

    def test_bulk_update_with_history_is_attributed_and_not_doubled(self, ada: User) -> None:
        unit, second = Unit.objects.create(code="m", name="metre"), Unit.objects.create(code="s", name="second")
        unit.name, unit.amount = "meter", 99
        with koherent.audit(user=ada):
            bulk_update_with_history([unit, second], Unit, ["name"])
        assert entries(Unit, "code", "name", "amount", "actor_name")[2:] == [("~", "m", "meter", 0, "ada")]

    def test_history_bulk_create_writes_what_is_missing_and_nothing_twice(self, ada: User) -> None:
        with koherent.pause():
            missing = Unit.objects.create(code="m", name="metre")
        there = Unit.objects.create(code="s", name="second")
        with koherent.audit(user=ada):
            Unit.history.bulk_history_create([missing, there])
        assert entries(Unit, "code", "actor_name") == [("+", "s", None), ("+", "m", "ada")]

    def test_whom_the_bulk_helpers_are_told_is_recorded_where_nobody_else_is_named(self, ada: User) -> None:
        units = [Unit(code="m", name="metre")]
        moment = timezone.now().replace(year=2020)
        bulk_create_with_history(units, Unit, default_user=ada, default_change_reason="import", default_date=moment)
        names = ("history_user_id", "actor_id", "actor_name", "history_change_reason", "history_date")
        assert entries(Unit, *names) == [("+", ada.pk, str(ada.pk), "ada", "import", moment)]


class TestWrongRows:
    """Rows that do not say what the database holds."""

    def test_update_fields_and_stale_memory_are_not_recorded(self) -> None:
        unit = Unit.objects.create(code="m", name="metre")
        stale = Unit.objects.get()
        Unit.objects.update(amount=5)
        stale.name, stale.amount = "meter", 1
        stale.save(update_fields=["name"])
        stale.amount = 2
        Unit.objects.bulk_update([stale], ["name"])
        assert entries(Unit, "name", "amount") == [("+", "metre", 0), ("~", "metre", 5), ("~", "meter", 5)]
        assert unit.pk == stale.pk

    def test_a_save_with_an_expression_is_recorded_as_computed(self) -> None:
        """django-simple-history on Django 5.2: ValueError from the history insert."""
        unit = Unit.objects.create(code="m", name="metre", amount=2)
        unit.amount = F("amount") * 3
        unit.save()
        assert entries(Unit, "amount") == [("+", 2), ("~", 6)]

    def test_fields_that_no_form_shows_are_recorded(self) -> None:
        instrument = Instrument.objects.create(code="i", name="i")
        instrument.checksum = "abc"
        instrument.save()
        assert entries(Instrument, "checksum") == [("+", ""), ("~", "abc")]

    def test_a_value_that_the_database_rounds_is_recorded_rounded(self) -> None:
        instrument = Instrument.objects.create(code="i", name="i", price="1.5")
        assert entries(Instrument, "price") == [("+", Instrument.objects.get().price)]
        instrument.price = "1.5000"
        instrument.save()
        assert len(entries(Instrument)) == 1

    def test_several_changes_of_one_moment_keep_their_order(self) -> None:
        unit = Unit.objects.create(code="m", name="a")
        moment = timezone.now()
        for name in "bcd":
            unit.name, unit._history_date = name, moment  # type: ignore[attr-defined]
            unit.save()
        assert entries(Unit, "name") == [("+", "a"), ("~", "b"), ("~", "c"), ("~", "d")]

    def test_a_save_inside_a_save_handler_is_recorded_after_it(self) -> None:
        def again(sender: Any, instance: Unit, created: bool, **_: Any) -> None:
            if created:
                instance.amount = 1
                instance.save()

        models.signals.post_save.connect(again, sender=Unit)
        try:
            Unit.objects.create(code="m", name="metre")
        finally:
            models.signals.post_save.disconnect(again, sender=Unit)
        assert entries(Unit, "amount") == [("+", 0), ("~", 1)]


class TestManyToMany:
    """Links as seen from both sides."""

    def test_the_reverse_side_can_change_a_tracked_many_to_many(self) -> None:
        """django-simple-history raises AttributeError."""
        instrument, acid = Instrument.objects.create(code="i", name="i"), Reagent.objects.create(name="acid")
        acid.instruments.add(instrument)
        found = [(row.history_type, [link.reagent_id for link in row.reagents.all()]) for row in _in_order(Instrument)]
        assert found == [("+", []), ("~", [acid.pk])]

    def test_set_that_adds_and_removes_is_one_entry(self) -> None:
        """django-simple-history writes two."""
        instrument = Instrument.objects.create(code="i", name="i")
        acid, base = (Reagent.objects.create(name=name) for name in ("acid", "base"))
        instrument.reagents.set([acid])
        instrument.reagents.set([base])
        found = [[link.reagent_id for link in row.reagents.all()] for row in _in_order(Instrument)]
        assert found == [[], [acid.pk], [base.pk]]

    def test_clear_logs_no_object_that_was_never_linked(self) -> None:
        """django-auditlog does."""
        linked, other = (Instrument.objects.create(code=code, name=code) for code in "ab")
        acid = Reagent.objects.create(name="acid")
        linked.reagents.add(acid)
        acid.instruments.clear()
        other.reagents.clear()
        assert entries(Instrument, "code") == [("+", "a"), ("+", "b"), ("~", "a"), ("~", "a")]

    def test_links_of_every_entry_are_those_of_its_moment(self) -> None:
        instrument, acid = Instrument.objects.create(code="i", name="i"), Reagent.objects.create(name="acid")
        instrument.reagents.add(acid)
        instrument.name = "renamed"
        instrument.save()
        instrument.reagents.clear()
        found = [(row.name, row.reagents.count()) for row in _in_order(Instrument)]
        assert found == [("i", 0), ("i", 1), ("renamed", 1), ("renamed", 0)]

    def test_reverse_foreign_key_add_leaves_a_row(self) -> None:
        """It writes through ``_base_manager.update``, not through the model's own manager."""
        top, loose = Folder.objects.create(name="top"), Folder.objects.create(name="loose")
        top.children.add(loose)
        assert entries(Folder, "name", "parent_id")[2:] == [("~", "loose", top.pk)]


class TestPhantoms:
    """Entries of changes that never happened."""

    @pytest.mark.parametrize(
        "write",
        [
            lambda: Instrument.objects.filter(code="a").update(code="b"),
            lambda: Instrument.objects.create(code="b", name="again"),
            lambda: Instrument.objects.bulk_create([Instrument(code="c", name="c"), Instrument(code="b", name="b")]),
            lambda: Instrument.objects.bulk_update(
                [Instrument(pk=Instrument.objects.get(code="a").pk, code="b")], ["code"]
            ),
            lambda: Instrument(pk=Instrument.objects.get(code="a").pk, code="b", name="a").save(),
        ],
        ids=["update", "create", "bulk_create", "bulk_update", "save"],
    )
    def test_a_failed_write_leaves_no_entry(self, write: Callable[[], object]) -> None:
        """django-auditlog logs the failed update."""
        for code in "ab":
            Instrument.objects.create(code=code, name=code)
        with pytest.raises(IntegrityError), transaction.atomic():
            write()
        assert entries(Instrument, "code") == [("+", "a"), ("+", "b")]

    def test_a_deletion_that_a_handler_stops_leaves_no_entry(self) -> None:
        class Stopped(Exception):
            pass

        def stop(**_: Any) -> None:
            raise Stopped

        unit = Unit.objects.create(code="m", name="metre")
        models.signals.pre_delete.connect(stop, sender=Unit)
        try:
            with pytest.raises(Stopped), transaction.atomic():
                unit.delete()
        finally:
            models.signals.pre_delete.disconnect(stop, sender=Unit)
        unit.delete()
        assert entries(Unit) == [("+",), ("-",)]

    def test_updates_that_match_or_move_nothing_leave_no_entry(self) -> None:
        Unit.objects.create(code="m", name="metre")
        Unit.objects.filter(code="x").update(name="n")
        Unit.objects.update(name=F("name"))
        assert entries(Unit) == [("+",)]


class TestActors:
    """Whom an entry is blamed on."""

    def test_two_contexts_on_one_loop_never_swap_their_actors(self, ada: User) -> None:
        """A second ``async with`` on one loop was attributed to the first one's user by django-pghistory."""
        bob = User.objects.create_user("bob")

        async def work(user: User, mine: asyncio.Event, others: asyncio.Event) -> None:
            async with koherent.audit(user=user):
                mine.set()
                await others.wait()
                await Unit.objects.acreate(code=user.username, name="n")

        async def both() -> None:
            first, second = asyncio.Event(), asyncio.Event()
            await asyncio.gather(work(ada, first, second), work(bob, second, first))

        async_to_sync(both)()
        assert sorted(entries(Unit, "code", "actor_name")) == [("+", "ada", "ada"), ("+", "bob", "bob")]

    def test_the_outer_actor_is_back_after_a_nested_one(self, ada: User) -> None:
        """django-auditlog loses it."""
        bob = User.objects.create_user("bob")
        with koherent.audit(user=ada):
            with koherent.audit(user=bob):
                Unit.objects.create(code="inner", name="n")
            Unit.objects.create(code="outer", name="n")
        Unit.objects.create(code="after", name="n")
        found = entries(Unit, "code", "actor_name")
        assert found == [("+", "inner", "bob"), ("+", "outer", "ada"), ("+", "after", None)]

    def test_a_deletion_is_recorded_with_its_actor(self, ada: User) -> None:
        """django-reversion never records one."""
        unit = Unit.objects.create(code="m", name="metre")
        with koherent.audit(user=ada):
            unit.delete()
        assert entries(Unit, "name", "actor_name") == [("+", "metre", None), ("-", "metre", "ada")]

    def test_the_actor_survives_the_deletion_of_the_account(self, ada: User) -> None:
        """Everywhere else ``history_user`` is set to NULL in every history table, and that is all there was."""
        with koherent.audit(user=ada):
            Unit.objects.create(code="m", name="metre")
            Unit.objects.update(name="meter")
        key = str(ada.pk)
        ada.delete()
        assert entries(Unit, "history_user_id", "actor_id", "actor_name") == [
            ("+", None, key, "ada"),
            ("~", None, key, "ada"),
        ]

    def test_work_handed_to_a_thread_keeps_its_actor(self, ada: User) -> None:
        async def work() -> None:
            async with koherent.audit(user=ada):
                await sync_to_async(Unit.objects.create)(code="m", name="metre")

        async_to_sync(work)()
        assert entries(Unit, "actor_name") == [("+", "ada")]


@pytest.mark.django_db(transaction=True, databases=["default", "other"])
def test_a_failed_history_insert_takes_the_save_along_under_autocommit() -> None:
    """django-simple-history leaves the model's row changed: it writes history after save's own transaction."""

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "historicalunit" in sql:
            raise DatabaseError("no room for history")
        return execute(sql, params, many, context)

    unit = Unit.objects.create(code="m", name="metre")
    unit.name = "meter"
    with connection.execute_wrapper(fail), pytest.raises(DatabaseError, match="no room"):
        unit.save()
    assert list(Unit.objects.values_list("name")) == [("metre",)]


class TestNeighbour:
    """Promise 8: a plain django-simple-history model in the same project."""

    def test_it_records_as_it_always_did(self, ada: User) -> None:
        unit = Unit.objects.create(code="m", name="metre")
        with koherent.audit(user=ada, reason="not for you"):
            neighbour = Neighbour.objects.create(name="a")
            neighbour.save()
            neighbour.units.add(unit)
            Neighbour.objects.update(name="b")
            Neighbour.objects.bulk_create([Neighbour(name="bulk")])
            bulk_create_with_history([Neighbour(name="helper")], Neighbour)
            neighbour.delete()
        found = entries(Neighbour, "name", "history_user_id", "history_change_reason")
        assert found == [
            ("+", "a", None, None),
            ("~", "a", None, None),
            ("~", "a", None, None),
            ("+", "helper", None, None),
            ("-", "a", None, None),
        ]

    def test_its_classes_and_columns_are_its_own(self) -> None:
        columns = {f.name for f in Neighbour.history.model._meta.fields}
        assert not columns & {"app", "assignation_id", "actor_id", "actor_name", "metadata", "origin", "position"}
        assert type(Neighbour._meta).__module__ == "django.db.models.options"
        assert type(Neighbour.objects) is models.Manager
        assert type(Neighbour.objects.all()) is models.QuerySet


def _in_order(model: Any) -> Any:
    return model.history.order_by("history_id")
