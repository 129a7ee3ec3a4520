"""A model whose history lives in a second database is in nobody's way: what serves the default one passes it over."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command

import koherent
from koherent import export, timeline
from koherent.adoption import adopt_actors
from koherent.errors import BadInput, NotFound
from koherent.feed.cursor import current_position, read_since
from koherent.policy import Scope, Viewer, scope_for
from koherent.registry import for_model
from koherent.retention import prune
from koherent.revert import revert_to
from koherent.timeline import Filters
from tests.wide.models import Elsewhere, Unit

pytestmark = pytest.mark.django_db(databases=["default", "other"])


@pytest.fixture
def scope(django_user_model: Any) -> Scope:
    return scope_for(Viewer(user=django_user_model.objects.create_superuser("root")))


@pytest.fixture
def both(db: None, ada: User) -> Unit:
    """A change in each database, by the same person in the same assignation."""
    with koherent.audit(user=ada, assignation_id="both"):
        Elsewhere.objects.create(name="there")
        return Unit.objects.create(code="m", name="metre")


def test_the_timeline_shows_the_default_database(scope: Scope, both: Unit) -> None:
    assert "wide.elsewhere" not in {tracked.label for tracked in scope.models}
    assert scope.sees_everything
    page = timeline.page(scope, Filters(assignation_id="both"))
    assert [(entry.tracked.label, entry.object_id) for entry in page.entries] == [("wide.unit", "m")]


def test_so_does_an_export(both: Unit) -> None:
    assert [entry.object_id for entry in export.entries(export.unrestricted())] == ["m"]


@pytest.mark.django_db(databases=["default", "other"], transaction=True)
def test_so_does_the_feed() -> None:
    before = current_position()
    Elsewhere.objects.create(name="there")
    Unit.objects.create(code="m", name="metre")
    assert [item.key.label for item in read_since(before, 10).items] == ["wide.unit"]


def test_a_person_is_erased_from_one_database_at_a_time(both: Unit, ada: User) -> None:
    assert koherent.erase_actor(ada).entries == 1
    # Accounts are where the router says, whatever database is looked at.
    assert koherent.erase_actor(str(ada.pk), using="other").entries == 1
    names = set(Unit.history.values_list("actor_name", flat=True))
    names |= set(Elsewhere.history.using("other").values_list("actor_name", flat=True))
    assert names == {"[erased]", None}


def test_a_prune_takes_what_is_in_its_database(both: Unit) -> None:
    assert "wide.elsewhere" not in {model.label for model in prune(keep=0).models}
    assert [model.label for model in prune(keep=0, using="other").models] == ["wide.elsewhere", "wide.roaming"]
    with pytest.raises(BadInput, match=r"wide\.Elsewhere is not a tracked model of this database\."):
        prune(keep=0, models=["wide.Elsewhere"])
    call_command("koherent_prune", keep=0, database="other", verbosity=0)


def test_accounts_of_adopted_entries_are_where_the_router_says(both: Unit, ada: User) -> None:
    tracked = for_model(Elsewhere)
    assert tracked is not None
    Elsewhere.history.using("other").update(actor_id=None, actor_name=None)
    assert adopt_actors(tracked, using="other") == 1
    assert Elsewhere.history.using("other").get().actor_name == "ada"


def test_a_revert_refuses_an_entry_of_another_database_by_its_code(both: Unit) -> None:
    entry = Elsewhere.history.using("other").get()
    with pytest.raises(NotFound, match=r"No such entry\."):
        revert_to(None, "wide.elsewhere", entry.history_id)
