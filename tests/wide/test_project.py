"""The project itself: everything in it is tracked, checked, and where it should be."""

import pytest
from django.apps import apps
from django.core.checks import run_checks
from django.db import connections

from koherent import registry
from tests.wide.models import Elsewhere, Headline, Membership, Neighbour, Slip, Sticker
from tests.wide.option_models import BareLink, Operator, PlanView, Roaming

UNTRACKED = {BareLink, Headline, Membership, Neighbour, Operator, PlanView, Slip, Sticker}


def test_every_model_is_tracked_but_those_that_say_they_are_not() -> None:
    own = {model for model in apps.get_app_config("wide").get_models() if not hasattr(model, "instance_type")}
    assert {tracked.model for tracked in registry.tracked_models()} == own - UNTRACKED


@pytest.mark.django_db(databases=["default", "other"])
def test_the_system_checks_have_a_word_on_the_second_database_only() -> None:
    assert [(message.id, message.obj) for message in run_checks()] == [("koherent.W003", Elsewhere)]


@pytest.mark.django_db(databases=["default", "other"])
def test_the_second_database_holds_its_one_model_and_its_history() -> None:
    tables = {alias: set(connections[alias].introspection.table_names()) for alias in connections}
    there = {Elsewhere._meta.db_table, Elsewhere.history.model._meta.db_table}
    both = {Roaming._meta.db_table, Roaming.history.model._meta.db_table}
    assert {name for name in tables["other"] if name.startswith(("wide_", "koherent_", "auth_"))} == there | both
    assert not there & tables["default"]
