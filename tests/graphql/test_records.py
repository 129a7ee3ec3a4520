"""Records carry the types that strawberry-django gives the same fields, choices as enums where the schema has them."""

import datetime as dt
from functools import cache
from typing import Any

import pytest
import strawberry
import strawberry_django
from django.contrib.auth.models import User
from django.db import models
from django.test import override_settings

import koherent
from example_schema.models import Dataset, Image, Project
from koherent import registry
from koherent.checks import check_fields
from koherent.graphql import records
from koherent.graphql.enums import choices_enum
from tests.graphql.asking import context

pytestmark = pytest.mark.django_db
STATUS = """{ history(filters: {actions: [CREATE]}) {
  edges { node { snapshot ... on DatasetHistory { record { status } } } } } }"""


@pytest.fixture
def fresh_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types are made once: this test makes its own, beside those that the schemas of other tests hold."""
    monkeypatch.setattr(records, "history_type", cache(records.history_type.__wrapped__))


@pytest.fixture
def dataset() -> Dataset:
    dataset = Dataset.objects.create(project=Project.objects.create(name="Moon"), title="Craters")
    Dataset.objects.filter(pk=dataset.pk).update(status="lost")
    Dataset.history.filter(history_type="~").update(history_type="+", in_run=False)
    return dataset


@pytest.mark.usefixtures("fresh_types", "dataset")
def test_generated_enums_are_those_of_the_teams_own_types(admin: User) -> None:
    with override_settings(STRAWBERRY_DJANGO={"GENERATE_ENUMS_FROM_CHOICES": True}):

        @strawberry_django.type(Dataset)
        class DatasetNode:
            status: strawberry.auto

        @strawberry.type
        class Query(koherent.graphql.Query):
            datasets: list[DatasetNode] = strawberry_django.field()

        schema = strawberry.Schema(query=Query)
        sdl = str(schema)
    assert sdl.count("enum ExampleSchemaDatasetStatusEnum") == 1
    assert "status: ExampleSchemaDatasetStatusEnum!" in sdl
    assert "status: ExampleSchemaDatasetStatusEnum\n" in sdl
    result = schema.execute_sync(STATUS, context_value=context(admin))
    assert result.errors is None
    assert result.data is not None
    unknown, draft = [edge["node"] for edge in result.data["history"]["edges"] if "record" in edge["node"]]
    assert (draft["record"], draft["snapshot"]["status"]) == ({"status": "draft"}, "draft")
    # What is no choice any more is null in the enum, and is there as it was in the snapshot.
    assert (unknown["record"], unknown["snapshot"]["status"]) == ({"status": None}, "lost")


class Grade(models.IntegerChoices):
    """An enum of the user's own."""

    GOOD = 1
    BAD = 2


class Colour(models.TextChoices):
    """Never decorated."""

    RED = "red"
    BLUE = "blue"


strawberry.enum(Grade)


def field_of(field: Any) -> Any:
    """A model field that stands on a model of this module."""
    field.model = type("Sample", (), {"__module__": __name__})
    field.name = field.attname = "sample"
    return field


def test_an_enum_that_the_user_has_made_is_found_by_its_values() -> None:
    assert choices_enum(field_of(models.IntegerField(choices=Grade.choices))) is Grade
    assert choices_enum(field_of(models.IntegerField(choices=[*Grade.choices, (3, "Ugly")]))) is None
    assert choices_enum(field_of(models.CharField(choices=Colour.choices, default=Colour.RED))) is None
    assert choices_enum(field_of(models.CharField())) is None


def test_an_enum_of_django_choices_field_is_taken() -> None:
    class TextChoicesField(models.CharField):  # type: ignore[type-arg]
        """As that package makes it."""

        choices_enum = Grade

    assert choices_enum(field_of(TextChoicesField(choices=Grade.choices))) is Grade


def test_without_any_of_these_a_choice_is_text() -> None:
    schema = str(strawberry.Schema(query=koherent.graphql.Query))
    record = schema[schema.index("type DatasetRecord") :].partition("}")[0]
    assert "status: String\n" in record
    # Descriptions are the help texts.
    assert '"""A short title for people."""\n  title: String' in record


def test_numbers_that_graphql_cannot_hold_are_null_and_stay_in_the_snapshot() -> None:
    assert records._number(2**31 - 1) == 2**31 - 1
    assert records._number(-(2**31)) == -(2**31)
    assert records._number(2**31) is None
    assert records._number(float("nan")) is None
    assert records._number(1.5) == 1.5


def test_values_of_every_kind_pass_through_the_schema(admin: User, dataset: Dataset) -> None:
    image = Image.objects.create(
        dataset=dataset, name="a", width=7, height=2, exposure_ms="1.250", extra={"a": [1, None]}
    )
    query = """{ history(filters: {models: ["example_schema.image", "example_schema.dataset"]}, first: 2) {
      edges { node {
      ... on ImageHistory { record { pk datasetId name width exposureMs extra } }
      ... on DatasetHistory { record { createdAt tags } } } } } }"""
    result = strawberry.Schema(query=koherent.graphql.Query).execute_sync(query, context_value=context(admin))
    assert result.errors is None
    assert result.data is not None
    newest, before = [edge["node"]["record"] for edge in result.data["history"]["edges"]]
    assert newest == {
        "pk": str(image.pk),
        "datasetId": str(dataset.pk),
        "name": "a",
        "width": 7,
        "exposureMs": "1.250",
        "extra": {"a": [1, None]},
    }
    assert (dt.datetime.fromisoformat(before["createdAt"]), before["tags"]) == (dataset.created_at, [])


def test_two_models_of_one_name_are_a_check_error_that_names_type_name(monkeypatch: pytest.MonkeyPatch) -> None:
    tag = registry.by_label("example_schema.tag")
    assert tag is not None
    monkeypatch.setattr(tag.field, "type_name", "Project")
    tag.__dict__.pop("type_name", None)
    try:
        [error] = check_fields(None)
    finally:
        tag.__dict__.pop("type_name", None)
    assert (error.id, error.obj) == ("koherent.E004", tag.model)
    assert error.msg == "example_schema.project has the same GraphQL name, Project."
    assert error.hint == "Give one of them HistoryField(type_name=...)."
