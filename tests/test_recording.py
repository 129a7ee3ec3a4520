"""What every write path leaves in the trail: whole rows, with their actor, in the transaction of the change."""

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, models, transaction
from django.db.models import F
from django.test.utils import CaptureQueriesContext

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent import recorder, registry
from koherent.models import Assignation, FieldSet

pytestmark = pytest.mark.django_db


def rows(model: Any, *names: str) -> list[tuple[Any, ...]]:
    """The history of a model in the order of writing: (type, *names)."""
    return list(model.history.order_by("history_id").values_list("history_type", *names))


@pytest.fixture
def project() -> Project:
    with koherent.pause():
        return Project.objects.create(name="Cells")


@pytest.fixture
def dataset(project: Project) -> Dataset:
    with koherent.pause():
        return Dataset.objects.create(project=project, title="Plate 1")


@pytest.fixture
def images(dataset: Dataset) -> list[Image]:
    with koherent.pause():
        return Image.objects.bulk_create(
            [Image(dataset=dataset, name=f"i{number}", width=number, height=1) for number in range(3)]
        )


def test_row_carries_who_with_what_and_in_which_context(django_user_model: type[User]) -> None:
    user = django_user_model.objects.create_user("ada")
    with koherent.audit(user=user, app="cli", assignation_id="import-1", reason="first import", ticket=7):
        project = Project.objects.create(name="Cells")
    row = project.history.get()
    found = (
        row.history_type,
        row.history_user,
        row.actor_id,
        row.actor_name,
        row.app,
        row.assignation_id,
        row.history_change_reason,
        row.metadata,
        row.origin,
        row.name,
    )
    expected = ("+", user, str(user.pk), "ada", "cli", "import-1", "first import", {"ticket": 7}, "change", "Cells")
    assert found == expected
    assert row.position > 0
    assert Assignation.objects.get().assignation_id == "import-1"


def test_actor_survives_deletion_of_the_account(django_user_model: type[User]) -> None:
    user = django_user_model.objects.create_user("ada")
    with koherent.audit(user=user):
        project = Project.objects.create(name="Cells")
    key = str(user.pk)
    user.delete()
    row = project.history.get()
    assert (row.history_user_id, row.actor_id, row.actor_name) == (None, key, "ada")


Path = Callable[[Project], object]


def _save(project: Project) -> None:
    project.name = "new"
    project.save()


def _save_update_fields(project: Project) -> None:
    project.name, project.description = "new", "not written"
    project.save(update_fields=["name"])


def _save_deferred(project: Project) -> None:
    deferred = Project.objects.only("id").get(pk=project.pk)
    deferred.name = "new"
    deferred.save()


def _bulk_update(project: Project) -> None:
    project.name = "new"
    Project.objects.bulk_update([project], ["name"])


UPDATES: dict[str, Path] = {
    "save": _save,
    "save(update_fields)": _save_update_fields,
    "save of a deferred instance": _save_deferred,
    "update": lambda project: Project.objects.filter(pk=project.pk).update(name="new"),
    "base manager": lambda project: Project._base_manager.filter(pk=project.pk).update(name="new"),
    "update_or_create": lambda project: Project.objects.update_or_create(pk=project.pk, defaults={"name": "new"}),
    "bulk_update": _bulk_update,
}


@pytest.mark.parametrize("path", UPDATES)
def test_every_updating_path_leaves_one_row_with_the_database_values(path: str) -> None:
    project = Project.objects.create(name="old", description="kept")
    UPDATES[path](project)
    assert rows(Project, "id", "name", "description") == [
        ("+", project.pk, "old", "kept"),
        ("~", project.pk, "new", "kept"),
    ]


def test_bulk_create_leaves_a_row_for_each(dataset: Dataset) -> None:
    created = Image.objects.bulk_create([Image(dataset=dataset, name=n, width=1, height=1) for n in "ab"])
    assert sorted(rows(Image, "id", "name")) == sorted(("+", image.pk, image.name) for image in created)


def test_bulk_create_with_conflicts_tells_created_from_updated_and_ignored() -> None:
    Tag.objects.create(name="red")
    Tag.objects.bulk_create([Tag(name="red"), Tag(name="blue")], ignore_conflicts=True)
    assert rows(Tag, "name") == [("+", "red"), ("+", "blue")]
    red = Tag.objects.get(name="red")
    Tag.objects.bulk_create(
        [Tag(id=red.pk, name="scarlet"), Tag(id=red.pk + 100, name="green")],
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["name"],
    )
    assert sorted(rows(Tag, "name")[2:]) == [("+", "green"), ("~", "scarlet")]


def test_expressions_are_recorded_as_the_database_computed_them(images: list[Image]) -> None:
    Image.objects.update(width=F("width") + 10)
    assert sorted(rows(Image, "width")) == [("~", 10), ("~", 11), ("~", 12)]
    image = Image.objects.get(name="i0")
    image.height = F("height") + 1
    image.exposure_ms = Decimal("1.5")
    image.save()
    assert rows(Image, "height", "exposure_ms")[-1] == ("~", 2, Decimal("1.500"))


def test_related_manager_add_leaves_a_row(project: Project, dataset: Dataset) -> None:
    other = Project.objects.create(name="Other")
    other.datasets.add(dataset)
    assert rows(Dataset, "project_id") == [("~", other.pk)]


def test_save_that_changes_nothing_leaves_no_row() -> None:
    project = Project.objects.create(name="Cells")
    project.save()
    Project.objects.update(name="Cells")
    assert rows(Project) == [("+",)]


def test_save_that_moves_only_auto_now_leaves_no_row(project: Project) -> None:
    dataset = Dataset.objects.create(project=project, title="Plate 1")
    dataset.save()
    assert rows(Dataset) == [("+",)]


def test_cascade_is_recorded_with_last_values_in_few_statements(dataset: Dataset, images: list[Image]) -> None:
    dataset.tags.add(Tag.objects.create(name="red"))
    with CaptureQueriesContext(connection) as few:
        dataset.project.delete()
    assert sorted(rows(Image, "name")) == [("-", "i0"), ("-", "i1"), ("-", "i2")]
    assert rows(Project, "name") == [("-", "Cells")]
    last = Dataset.history.order_by("history_id").last()
    assert (last.history_type, last.title, [link.tag.name for link in last.tags.all()]) == ("-", "Plate 1", ["red"])
    inserts = [q for q in few.captured_queries if "INSERT INTO" in q["sql"]]
    assert len(inserts) == 4  # three models, and one tracked many-to-many


def tags_of(row: Any) -> set[int]:
    return set(row.tags.values_list("tag_id", flat=True))


def test_many_to_many_is_recorded_from_both_sides_and_when_the_other_side_goes(dataset: Dataset) -> None:
    red, blue = Tag.objects.create(name="red"), Tag.objects.create(name="blue")
    dataset.tags.add(red, blue)
    dataset.tags.add(red)  # nothing new
    red.datasets.remove(dataset)
    red.datasets.add(dataset)
    red.datasets.clear()
    blue_key = blue.pk
    blue.delete()
    history = Dataset.history.order_by("history_id")
    assert [(row.history_type, tags_of(row)) for row in history] == [
        ("~", {red.pk, blue_key}),
        ("~", {blue_key}),
        ("~", {red.pk, blue_key}),
        ("~", {blue_key}),
        ("~", set()),
    ]


def test_failed_history_insert_takes_the_change_along(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 1, one way: no change without its row. Fails each INSERT into the trail in turn."""

    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "historicalproject" in sql and sql.startswith("INSERT"):
            raise DatabaseError("history table is full")
        return execute(sql, params, many, context)

    writes: list[Callable[[], object]] = [
        lambda: Project.objects.create(name="second"),
        lambda: Project.objects.filter(pk=project.pk).update(name="renamed"),
        lambda: Project.objects.bulk_create([Project(name="third")]),
        project.delete,
    ]
    for write in writes:
        with connection.execute_wrapper(fail), pytest.raises(DatabaseError), transaction.atomic():
            write()
        assert list(Project.objects.values_list("name")) == [("Cells",)]
        assert rows(Project) == []


@pytest.mark.django_db(transaction=True)
def test_failed_history_insert_takes_the_change_along_under_autocommit() -> None:
    def fail(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "historicalproject" in sql:
            raise DatabaseError("history table is full")
        return execute(sql, params, many, context)

    with connection.execute_wrapper(fail), pytest.raises(DatabaseError):
        Project.objects.create(name="Cells")
    assert not Project.objects.exists()


def test_rolled_back_change_leaves_no_row() -> None:
    """Promise 1, the other way: no row without its change."""
    with koherent.audit(assignation_id="a"), transaction.atomic():
        Project.objects.create(name="Cells")
        transaction.set_rollback(True)
    assert rows(Project) == []
    assert not Assignation.objects.exists()


def describe(project: Project, description: str) -> None:
    project.description = description
    project.save()


@pytest.mark.parametrize("when", ["in the same transaction", "in another one"])
def test_an_assignation_has_its_row_whatever_a_savepoint_by_hand_took_back(when: str, project: Project) -> None:
    """Django drops no callbacks with a savepoint that it has not set itself."""
    with koherent.audit(assignation_id="work"):
        with transaction.atomic():
            savepoint = connection.savepoint()
            assert savepoint is not None
            describe(project, "taken back")
            connection.savepoint_rollback(savepoint)
            if when == "in the same transaction":
                describe(project, "kept")
        describe(project, "later")
    assert Assignation.objects.filter(assignation_id="work").count() == 1


def test_equal_times_keep_the_order_of_writing() -> None:
    """Promise 3: the entry before is found by id, whatever the dates say."""
    project = Project.objects.create(name="a")
    for name in "bcd":
        project.name = name
        project.save()
    Project.history.update(history_date="2026-01-01T00:00:00Z")
    project.name = "d"
    project.save()
    assert rows(Project, "name") == [("+", "a"), ("~", "b"), ("~", "c"), ("~", "d")]


def test_plain_simple_history_is_left_alone() -> None:
    """Promise 8: models that are not ours keep Django's own managers and options."""
    assert type(User._default_manager).__module__ == "django.contrib.auth.models"
    assert type(User.objects.all()) is models.QuerySet
    assert type(User._meta).__module__ == "django.db.models.options"


def test_managers_introduce_themselves_to_migrations_as_their_original() -> None:
    assert Project.objects.deconstruct()[1] == "django.db.models.manager.Manager"


def test_row_knows_which_fields_its_model_had(project: Project) -> None:
    tracked = registry.for_model(Project)
    assert tracked is not None
    row = Project.history.model(field_set=tracked.field_set)
    assert tracked.field_names(row) == {"id", "name", "description"}
    FieldSet.objects.create(digest=1, model=tracked.label, names=["id", "name", "gone"])
    registry._known_field_sets.cache_clear()
    row.field_set = 1
    assert tracked.field_names(row) == {"id", "name"}
    registry._known_field_sets.cache_clear()


def test_pause_is_logged_and_leaves_no_row(caplog: pytest.LogCaptureFixture) -> None:
    with koherent.pause():
        Project.objects.create(name="Cells")
    assert rows(Project) == []
    assert "koherent.pause()" in caplog.text


@pytest.mark.parametrize("how", ["overridden", "set"])
def test_nothing_is_recorded_while_simple_history_is_switched_off(how: str, settings: Any) -> None:
    switches: Any = settings if how == "overridden" else django_settings
    switches.SIMPLE_HISTORY_ENABLED = False
    Tag.objects.create(name="unrecorded")
    del switches.SIMPLE_HISTORY_ENABLED
    assert not Tag.history.exists()
    Tag.objects.create(name="recorded")
    assert Tag.history.get().name == "recorded"


@pytest.mark.django_db(transaction=True)
def test_threads_never_see_each_others_actor(django_user_model: type[User]) -> None:
    """Promise 2, in its simplest form."""
    users = [django_user_model.objects.create_user(f"u{number}") for number in range(4)]
    barrier = threading.Barrier(len(users), timeout=20)
    failures: list[BaseException] = []

    def work(user: User) -> None:
        try:
            with koherent.audit(user=user, assignation_id=f"a-{user.username}"):
                barrier.wait()
                for number in range(5):
                    Project.objects.create(name=f"{user.username}-{number}")
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert failures == []
    found = rows(Project, "name", "actor_name", "assignation_id")
    assert len(found) == 20
    for _, name, actor, assignation in found:
        assert (name.rsplit("-", 1)[0], assignation) == (actor, f"a-{actor}")


def test_links_written_straight_into_the_through_table_are_changes_of_their_owner(dataset: Dataset) -> None:
    """The way of strawberry-django's own mutations, which know of no ``add()`` and send no ``m2m_changed``."""
    tag = Tag.objects.create(name="coral")
    link = Dataset.tags.through.objects.create(dataset=dataset, tag=tag)
    link.delete()
    Dataset.tags.through.objects.bulk_create([Dataset.tags.through(dataset=dataset, tag=tag)])
    Dataset.tags.through.objects.all().delete()
    tags = [list(row.tags.values_list("tag_id", flat=True)) for row in dataset.history.order_by("history_id")]
    assert tags == [[tag.pk], [], [tag.pk], []]


def test_set_is_one_entry_for_each_owner(dataset: Dataset) -> None:
    coral, algae = (Tag.objects.create(name=name) for name in ("coral", "algae"))
    dataset.tags.set([coral])
    dataset.tags.set([algae])
    coral.datasets.set([dataset])
    algae.datasets.set([])
    tags = [set(row.tags.values_list("tag_id", flat=True)) for row in dataset.history.order_by("history_id")]
    assert tags == [{coral.pk}, {algae.pk}, {algae.pk, coral.pk}, {coral.pk}]


def test_saves_that_change_nothing_can_be_kept(project: Project, settings: Any) -> None:
    project.save()
    assert rows(Project) == [("~",)]  # paused when it was made: the first entry
    project.save()
    assert len(rows(Project)) == 1
    settings.KOHERENT = {"RECORD_UNCHANGED": True}
    project.save()
    Project.objects.filter(pk=project.pk).update(name=project.name)
    with koherent.atomic():
        project.save()
    assert rows(Project) == [("~",)] * 4


def test_a_change_of_links_on_another_database_is_recorded_there(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded: list[str] = []
    monkeypatch.setattr(recorder, "record", lambda tracked, using, *_, **__: recorded.append(using))
    tracked = registry.for_model(Dataset)
    assert tracked is not None
    with recorder.link_changes("default"):
        recorder.record_links(tracked, "default", [1])
        recorder.record_links(tracked, "other", [1])
        assert recorded == ["other"]
    assert recorded == ["other", "default"]


def test_the_entries_of_one_statement_begin_their_assignation_once() -> None:
    with koherent.audit(assignation_id="import"):
        Tag.objects.bulk_create([Tag(name=name) for name in ("coral", "reef", "sand")])
    assert Tag.history.filter(assignation_id="import").count() == 3
    assert Assignation.objects.filter(assignation_id="import").count() == 1


@pytest.mark.parametrize("write", [lambda tag: tag.save(), lambda tag: Tag.objects.update(name=tag.name)])
def test_what_came_back_unrecorded_is_recorded_with_its_next_write_though_no_value_differs(write: Any) -> None:
    tag = Tag.objects.create(name="coral")
    key = tag.pk
    tag.delete()
    with koherent.pause():
        back = Tag.objects.create(pk=key, name="coral")
    write(back)
    assert rows(Tag) == [("+",), ("-",), ("~",)]


@pytest.mark.django_db(transaction=True)
def test_an_object_that_is_saved_within_the_save_of_another_has_an_entry_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A field may do so before it gives its value."""
    inner, outer = Tag.objects.create(name="inner"), Tag.objects.create(name="outer")
    inner.name, outer.name = "inner again", "outer again"
    inner._change_reason, outer._change_reason = "inner's", "outer's"  # type: ignore[attr-defined]
    field = Tag._meta.get_field("name")
    pre_save = type(field).pre_save

    def with_another(self: Any, instance: Tag, add: bool) -> Any:
        if instance is outer:
            inner.save()
        return pre_save(self, instance, add)

    monkeypatch.setattr(type(field), "pre_save", with_another)
    outer.save()
    told = Tag.history.filter(history_type="~").order_by("history_id").values_list("name", "history_change_reason")
    assert list(told) == [("inner again", "inner's"), ("outer again", "outer's")]
