"""Each argument that ``HistoryField`` takes over from django-simple-history does what it does there."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks import Error
from django.db import connections, models
from django.test.utils import isolate_apps
from simple_history.exceptions import RelatedNameConflictError

import koherent
from koherent import checks, registry
from koherent.baseline import record_baseline
from koherent.fields import HistoryField
from tests.wide.models import Elsewhere, Instrument, Unit
from tests.wide.option_models import (
    Bare,
    BareLink,
    Based,
    BigPlan,
    Hosted,
    Kept,
    Linked,
    Named,
    Numbered,
    Operated,
    Operator,
    Plan,
    PlanView,
    Remarked,
    Roaming,
    tenant,
)

pytestmark = pytest.mark.django_db(databases=["default", "other"])


def entries(model: Any, *names: str) -> list[tuple[Any, ...]]:
    """The history of a model in the order of writing: (type, *names)."""
    return list(model.history.order_by("history_id").values_list("history_type", *names))


def test_names_of_table_model_and_relations(ada: User) -> None:
    """verbose_name, verbose_name_plural, table_name, custom_model_name, user_related_name, related_name."""
    trail = Named.history.model
    with koherent.audit(user=ada):
        named = Named.objects.create(name="n")
        Named.objects.update(name="m")
        Named.objects.bulk_create([Named(name="b")])
    found = (
        trail._meta.verbose_name,
        trail._meta.verbose_name_plural,
        trail._meta.db_table,
        trail._meta.object_name,
        [row.name for row in ada.named_entries.order_by("history_id")],  # type: ignore[attr-defined]
        [row.name for row in named.entries.order_by("history_id")],  # type: ignore[attr-defined]
    )
    expected = ("trail of names", "trails of names", "trail_of_names", "NamedTrail", ["n", "m", "b"], ["n", "m"])
    assert found == expected


def test_related_name_outlives_the_object() -> None:
    named = Named.objects.create(name="n")
    key = named.pk
    named.delete()
    assert entries(Named, "history_relation_id") == [("+", key), ("-", key)]


def test_a_baseline_and_a_repair_fill_what_related_name_and_bases_bring() -> None:
    unit = Unit.objects.create(name="m")
    with koherent.pause():
        named, based = Named.objects.create(name="n"), Based.objects.create(name="b")
        based.units.add(unit)
    keys = named.pk, based.pk
    token = tenant.set("blue")
    try:
        for repair in (False, True):
            for model in (Named, Based):
                tracked = registry.for_model(model)
                assert tracked is not None
                record_baseline(tracked, repair=repair)
            with koherent.pause():
                Named.objects.all().delete()
                Based.objects.all().delete()
    finally:
        tenant.reset(token)
    assert entries(Named, "history_relation_id") == [("+", keys[0]), ("-", keys[0])]
    assert entries(Based, "tenant", "checked", "remark") == [("+", "blue", False, None), ("-", "blue", False, None)]
    links = Based.history.model.units.model.objects.order_by("m2m_history_id")
    assert list(links.values_list("based_id", "unit_id", "tenant")) == [(keys[1], unit.pk, "blue")] * 2


def test_the_erasure_of_what_is_gone_fills_what_related_name_bases_and_get_user_bring(ada: User) -> None:
    """Its entry is like any other of the table, as it is when the object is there."""
    operator = Operator.objects.create(name="on duty")
    named, based, operated = (model.objects.create(name="n") for model in (Named, Based, Operated))
    gone = [type(made)(pk=made.pk) for made in (named, based, operated)]
    for made in (named, based, operated):
        made.delete()
    token = tenant.set("blue")
    try:
        for there in gone:
            koherent.erase(there, ["name"])
        with koherent.audit(user=ada):
            koherent.erase(gone[2], ["name"])
    finally:
        tenant.reset(token)
    assert entries(Named, "history_relation_id", "origin", "name")[-1] == ("-", gone[0].pk, "erasure", "")
    assert entries(Based, "tenant", "name")[-1] == ("-", "blue", "")
    # An account of another model than the history refers to is named by text alone.
    by = ("history_user_id", "actor_name")
    assert entries(Operated, *by)[-2:] == [("-", operator.pk, "on duty"), ("-", None, "ada")]


def test_related_name_must_not_be_the_fields_own() -> None:
    with isolate_apps("tests.wide"), pytest.raises(RelatedNameConflictError):

        class Clash(models.Model):  # noqa: DJ008
            history = HistoryField(related_name="history")

            class Meta:
                app_label = "wide"


def test_history_id_field_and_change_reason_field_are_the_teams_own() -> None:
    """history_id_field, history_change_reason_field: its own columns, filled on every path."""
    with koherent.audit(reason="spring cleaning"):
        Named.objects.create(name="n")
        Named.objects.update(name="m")
    trail = Named.history.model
    assert type(trail._meta.pk) is models.AutoField
    assert trail._meta.get_field("history_change_reason").max_length == 200
    assert entries(Named, "name", "history_change_reason") == [
        ("+", "n", "spring cleaning"),
        ("~", "m", "spring cleaning"),
    ]


def test_history_id_is_a_big_number_unless_the_team_says_otherwise() -> None:
    keys = {t.model: type(t.history_model._meta.pk) for t in registry.tracked_models() if t.model is not Named}
    assert set(keys.values()) == {models.BigAutoField}


def test_no_column_is_indexed_without_a_query_that_uses_it() -> None:
    """no_db_index, and the primary and foreign keys that django-simple-history would index."""
    indexed = {
        (t.label, f.name)
        for t in registry.tracked_models()
        for f in t.history_model._meta.concrete_fields
        if getattr(f, "db_index", False) and f.name in {tracked.name for tracked in t.fields}
    }
    assert indexed == set()


def test_uuid_history_id_and_cascading_deletion_are_refused_by_a_check() -> None:
    """history_id_field (a UUID), cascade_delete_history."""
    with isolate_apps("tests.wide"):

        class Refused(models.Model):  # noqa: DJ008
            history = HistoryField(cascade_delete_history=True, history_id_field=models.UUIDField())

            class Meta:
                app_label = "wide"

    try:
        found = {message.id for message in checks.check_fields(None) if isinstance(message, Error)}
    finally:
        registry._tracked.pop(Refused)
    assert found == {"koherent.E002", "koherent.E003"}


def test_columns_of_the_teams_own_bases_are_filled_by_their_defaults_on_every_path() -> None:
    """bases, m2m_bases: django-simple-history fills them where it saves, we wherever we record."""
    unit = Unit.objects.create(code="m", name="metre")
    token = tenant.set("ours")
    try:
        based = Based.objects.create(name="a")
        Based.objects.update(name="b")
        based.units.add(unit)
        Based.objects.bulk_create([Based(name="bulk")])
        based.delete()
    finally:
        tenant.reset(token)
    assert entries(Based, "name", "tenant", "checked", "remark") == [
        ("+", "a", "ours", False, None),
        ("~", "b", "ours", False, None),
        ("~", "b", "ours", False, None),
        ("+", "bulk", "ours", False, None),
        ("-", "b", "ours", False, None),
    ]
    tracked = registry.for_model(Based)
    assert tracked is not None
    links = tracked.m2m[0].history_model._base_manager.values_list("unit_id", "tenant")
    assert list(links) == [("m", "ours"), ("m", "ours")]


def test_history_manager_and_queryset_are_the_teams_own() -> None:
    """history_manager, historical_queryset: also on an instance, and after koherent's own writes."""
    with koherent.audit(app="cli"):
        based = Based.objects.create(name="a")
    Based.objects.create(name="b").delete()
    assert [row.name for row in Based.history.by_app("cli")] == ["a"]
    assert [row.name for row in Based.history.all().deletions()] == ["b"]
    assert based.history.by_app("cli").get().name == "a"


def test_only_the_named_many_to_many_fields_are_tracked() -> None:
    """m2m_fields by name, m2m_fields_model_field_name."""
    unit = Unit.objects.create(code="m", name="metre")
    based, linked = Based.objects.create(name="a"), Linked.objects.create(name="l")
    based.untracked.add(unit)
    based.units.add(unit)
    linked.units.add(unit)
    assert entries(Based) == [("+",), ("~",)]
    assert [link.unit_id for link in Based.history.latest().units.all()] == ["m"]
    assert [link.unit_id for link in Linked.history.latest().units.all()] == ["m"]


def test_get_user_and_user_model_name_the_actor_where_nobody_else_does(ada: User) -> None:
    """get_user, user_model: on every path; whom ``audit()`` names is frozen as text, and no key of another table."""
    operator = Operator.objects.create(name="on duty")
    Operated.objects.create(name="a")
    Operated.objects.update(name="b")
    Operated.objects.bulk_create([Operated(name="c")])
    with koherent.audit(user=operator):
        Operated.objects.filter(name="c").update(name="d")
    with koherent.audit(user=ada):
        Operated.objects.filter(name="d").delete()
    on_duty = (operator.pk, str(operator.pk), "on duty")
    assert entries(Operated, "name", "history_user_id", "actor_id", "actor_name") == [
        ("+", "a", *on_duty),
        ("~", "b", *on_duty),
        ("+", "c", *on_duty),
        ("~", "d", *on_duty),
        ("-", "d", None, str(ada.pk), "ada"),
    ]


def test_history_user_as_a_plain_number(ada: User) -> None:
    """history_user_id_field, history_user_getter, history_user_setter."""
    operator = Operator.objects.create(name="o")
    with koherent.audit(user=operator):
        Numbered.objects.create(name="a")
        Numbered.objects.update(name="b")
    assert entries(Numbered, "name", "history_user_id") == [("+", "a", operator.pk), ("~", "b", operator.pk)]
    assert [row.history_user for row in Numbered.history.all()] == [operator, operator]


def test_history_in_another_app_and_with_a_constraint_on_the_account(ada: User) -> None:
    """app, user_db_constraint."""
    with koherent.audit(user=ada):
        Hosted.objects.create(name="a")
        Hosted.objects.update(name="b")
    trail = Hosted.history.model
    assert (trail._meta.app_label, trail._meta.db_table) == ("auth", "auth_historicalhosted")
    assert trail._meta.get_field("history_user").db_constraint
    assert entries(Hosted, "name", "history_user_id") == [("+", "a", ada.pk), ("~", "b", ada.pk)]


def test_arguments_that_no_foreign_key_knows_stay_away_from_the_copy() -> None:
    """excluded_field_kwargs."""
    named = Named.objects.create(name="n")
    Remarked.objects.create(named=named)
    assert entries(Remarked, "named_id") == [("+", named.pk)]


def test_excluded_fields_have_no_column_and_their_changes_no_entry() -> None:
    """excluded_fields."""
    instrument = Instrument.objects.create(code="i", name="i", cache="warm")
    instrument.cache = "cold"
    instrument.save()
    Instrument.objects.update(cache="frozen")
    assert "cache" not in {f.name for f in Instrument.history.model._meta.fields}
    assert entries(Instrument) == [("+",)]


def test_inherited_by_children_but_not_by_proxies() -> None:
    """inherit: a proxy shares its model's history, where django-simple-history splits it."""
    plan = Plan.objects.create(name="a")
    view = PlanView.objects.get()
    view.name = "b"
    view.save()
    PlanView.objects.update(name="c")
    big = BigPlan.objects.create(name="big", size=3)
    assert entries(Plan, "id", "name") == [
        ("+", plan.pk, "a"),
        ("~", plan.pk, "b"),
        ("~", plan.pk, "c"),
        ("+", big.pk, "big"),
    ]
    assert entries(BigPlan, "id", "name", "size") == [("+", big.pk, "big", 3)]
    assert registry.for_model(PlanView) is registry.for_model(Plan)
    assert [row.name for row in view.history.order_by("history_id")] == ["a", "b", "c"]


def test_the_history_is_in_the_database_of_its_row() -> None:
    """use_base_model_db, or not: change and entry share a transaction, so they share a database."""
    here = Roaming.objects.create(name="here")
    there = Roaming.objects.using("other").create(name="there")
    there.name = "over there"
    there.save()
    here.delete()
    Elsewhere.objects.create(name="elsewhere")
    assert entries(Roaming, "name") == [("+", "here"), ("-", "here")]
    found = Roaming.history.using("other").order_by("history_id").values_list("history_type", "name")
    assert list(found) == [("+", "there"), ("~", "over there")]
    table = Elsewhere.history.model._meta.db_table
    assert table in connections["other"].introspection.table_names()


def test_a_save_that_changes_nothing_is_kept_where_the_field_says_so() -> None:
    """record_unchanged: koherent's own argument."""
    kept = Kept.objects.create(name="a")
    kept.save()
    Kept.objects.update(name="a")
    assert entries(Kept, "name") == [("+", "a"), ("~", "a"), ("~", "a")]


def test_through_as_a_bare_string_for_a_class_defined_later() -> None:
    """django-simple-history 3.13 raises ValueError when it meets such a field among ``m2m_fields``."""
    unit = Unit.objects.create(code="m", name="metre")
    bare = Bare.objects.create(name="b")
    bare.units.add(unit, through_defaults={"note": "first"})
    BareLink.objects.update(note="second")
    bare.units.clear()
    history = Bare.history.order_by("history_id")
    found = [(row.history_type, [(link.unit_id, link.note) for link in row.units.all()]) for row in history]
    assert found == [("+", []), ("~", [("m", "first")]), ("~", [("m", "second")]), ("~", [])]
