"""A person's name is gone from the trail; that they, as a key, did what they did is not."""

from typing import Any

import pytest
from django.contrib.auth.models import User

import koherent
from example_schema.models import Dataset, Project, Tag
from koherent import export, timeline
from koherent.erasure import ERASED_NAME, actors
from koherent.errors import BadInput
from koherent.registry import by_label
from koherent.timeline import Filters
from koherent.verify import verify

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada() -> User:
    return User.objects.create_user("ada", email="Ada@Example.org", first_name="Ada", last_name="Lovelace")


@pytest.fixture(autouse=True)
def _work(ada: User) -> None:
    """Entries by Ada under two names, and by others who mention her."""
    bob = User.objects.create_user("bob")
    with koherent.audit(user=ada, ip="10.0.0.1"):
        Project.objects.create(name="Moon")
    ada.username = "countess"
    ada.save()
    with koherent.audit(user=ada, on_behalf_of={"names": ["Adam", "ADA LOVELACE"], "mail": "ada@example.org"}):
        Tag.objects.create(name="night")
    with koherent.audit(user=bob, impersonates="ada", note="ada asked for it"):
        Tag.objects.create(name="day")


def rows(model: Any) -> list[Any]:
    """What people did, without the erasures."""
    return list(model.history.exclude(origin="erasure").order_by("history_id"))


@pytest.mark.parametrize("batch", [1, 5_000])
@pytest.mark.parametrize("gone", [False, True])
@pytest.mark.parametrize("by_key", [False, True])
def test_names_go_and_the_key_stays(
    ada: User, batch: int, gone: bool, by_key: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(actors, "BATCH", batch)
    key = ada.pk
    traces = ["ada lovelace", "ada@example.org"] if gone and by_key else []
    if gone:
        User.objects.filter(pk=key).delete()
    report = koherent.erase_actor(key if by_key else ada, traces=traces)
    assert (report.key, report.entries, report.metadata) == (str(key), 2, 2)
    [project], (night, day) = rows(Project), rows(Tag)
    for row in (project, night):
        assert (row.actor_id, row.actor_name, row.history_user_id) == (str(key), ERASED_NAME, None)
    assert project.metadata == {"ip": "10.0.0.1"}
    assert night.metadata == {"on_behalf_of": {"names": ["Adam", ERASED_NAME], "mail": ERASED_NAME}}
    assert day.metadata == {"impersonates": ERASED_NAME, "note": "ada asked for it"}
    assert day.actor_name == "bob"
    assert day.history_user_id is not None
    [mine] = timeline.page(export.unrestricted(), Filters(users=[str(key)], models=["example_schema.tag"])).entries
    assert mine.user is not None
    assert mine.user.name == ERASED_NAME
    assert koherent.erase_actor(key, traces=traces).entries == 0


def test_further_names_can_be_given(ada: User) -> None:
    assert koherent.erase_actor(ada, traces=["10.0.0.1", "ada asked for it", ""]).metadata == 3
    assert rows(Project)[0].metadata == {"ip": ERASED_NAME}
    assert rows(Tag)[1].metadata == {"impersonates": ERASED_NAME, "note": ERASED_NAME}


def test_names_of_any_script_and_case_are_found(ada: User) -> None:
    with koherent.audit(seen=["zoë müller", 'O"Brien \\ 100%', "ZOË MÜLLER"]):
        Tag.objects.create(name="x")
    koherent.erase_actor(ada, traces=["Zoë Müller", 'o"brien \\ 100%'])
    assert rows(Tag)[-1].metadata == {"seen": [ERASED_NAME] * 3}


def test_a_history_from_before_koherent_is_cleared_too(ada: User) -> None:
    Project.history.update(actor_id=None, actor_name=None, history_user_id=ada.pk)
    koherent.erase_actor(ada)
    [row] = rows(Project)
    assert (row.actor_id, row.actor_name, row.history_user_id) == (str(ada.pk), ERASED_NAME, None)


def test_a_dry_run_counts_and_changes_nothing(ada: User) -> None:
    before = [list(model.history.values()) for model in (Project, Tag)]
    report = koherent.erase_actor(ada, dry_run=True)
    assert (report.entries, report.metadata) == (2, 2)
    assert [list(model.history.values()) for model in (Project, Tag)] == before


def test_an_account_of_another_kind_of_key_is_found_by_its_text(ada: User) -> None:
    Project.history.update(actor_id="an-old-key", history_user_id=None)
    assert koherent.erase_actor("an-old-key").entries == 1
    assert rows(Project)[0].actor_name == ERASED_NAME


@pytest.mark.parametrize("nobody", [None, "", User()])
def test_nobody_is_refused(nobody: Any) -> None:
    with pytest.raises(BadInput):
        koherent.erase_actor(nobody)


def test_the_erasure_is_an_entry_in_each_table_where_the_name_was(ada: User) -> None:
    boss = User.objects.create_user("boss")
    Tag.objects.filter(name="night").delete()
    with koherent.audit(user=boss, app="office"):
        report = koherent.erase_actor(ada, reason="request of 3 March")
    found = dict(report.erasures)
    assert found.keys() == {"example_schema.project", "example_schema.tag"}
    project, tag = Project.history.latest("history_id"), Tag.history.latest("history_id")
    assert (found["example_schema.project"], found["example_schema.tag"]) == (project.pk, tag.pk)
    for entry in (project, tag):
        assert (entry.origin, entry.actor_name, entry.app) == ("erasure", "boss", "office")
        assert (entry.history_change_reason, entry.metadata) == (
            "request of 3 March",
            {actors.ERASED_ACTOR: str(ada.pk)},
        )
    assert (project.history_type, project.name) == ("~", "Moon")
    assert (tag.history_type, tag.name) == ("-", "night")
    assert koherent.erase_actor(ada).erasures == ()
    assert list(verify(by_label("example_schema.project"))) == []  # type: ignore[arg-type]


def test_names_in_metadata_alone_are_an_erasure_too(ada: User) -> None:
    koherent.erase_actor(ada)
    with koherent.audit(seen_by="countess"):
        Project.objects.create(name="Mars")
    report = koherent.erase_actor(ada)
    assert (report.entries, report.metadata) == (0, 1)
    assert report.erasures == (("example_schema.project", Project.history.latest("history_id").pk),)


@pytest.mark.parametrize("batch", [1, 5_000])
def test_who_erases_themselves_is_not_named_by_that(ada: User, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actors, "BATCH", batch)
    with koherent.audit(seen_by="ada"):
        Dataset.objects.create(project=Project.objects.get(), title="of nobody")
    with koherent.audit(user=ada, note="COUNTESS"):
        report = koherent.erase_actor(ada)
    assert (report.entries, report.metadata) == (2, 3)
    for model in (Project, Tag, Dataset):
        own = model.history.get(origin="erasure")
        assert (own.actor_id, own.actor_name, own.history_user_id) == (str(ada.pk), ERASED_NAME, None)
        assert own.metadata == {"note": ERASED_NAME, actors.ERASED_ACTOR: str(ada.pk)}
