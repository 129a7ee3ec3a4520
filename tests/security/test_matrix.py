"""Kinds of user x models x rows x fields x every entry point of the schema."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Permission
from django.db import transaction
from graphql import GraphQLInterfaceType, GraphQLObjectType, build_schema

from example_schema.models import Image
from koherent.models import Assignation
from tests.security import matrix, questions
from tests.security.matrix import ENTRIES, FIELDS, KINDS, Kind, Sight, visit, wrong
from tests.security.questions import id_of
from tests.security.world import World, context_of, schema

pytestmark = pytest.mark.django_db

SDL: Any = build_schema((Path(__file__).parents[2] / "schema.graphql").read_text(encoding="utf-8")).type_map
OBJECTS = {
    name: kind
    for name, kind in SDL.items()
    if isinstance(kind, GraphQLObjectType | GraphQLInterfaceType) and not name.startswith("__")
}
ROOTS = ("Query", "Mutation", "Subscription")
BY_NAME = pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])


def test_every_field_of_the_schema_has_a_row() -> None:
    """Whoever adds a field says here who may see it."""
    fields = {f"{name}.{field}" for name, kind in OBJECTS.items() for field in kind.fields if name not in ROOTS}
    records = {f for f in fields if f.split(".")[0].endswith("Record")}
    assert fields - records == FIELDS.keys()
    assert {f"{name}.{field}" for name in ROOTS for field in SDL[name].fields} == ENTRIES.keys()


def codes(result: Any) -> set[Any]:
    return {(error.extensions or {}).get("code") for error in result.errors or ()}


def doors(world: World) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Operations through each entry point to the trail."""
    entries = [{"id": id_of(key)} for key in world.entries()[::4]]
    ids = [{"id": id} for id in Assignation.objects.order_by("pk").values_list("assignation_id", flat=True)[::2]]
    now = dt.datetime.now(dt.UTC).isoformat()
    objects = (world.dataset, world.hidden_dataset, world.project, world.hidden_project, world.tag)
    as_of = [{"model": one._meta.label_lower, "objectId": str(one.pk), "at": now} for one in objects]
    return {
        "Query.history": [(questions.HISTORY, {})],
        "Query.historyEntry": [(questions.ONE, variables) for variables in entries],
        "Query.historyAsOf": [(questions.AS_OF, variables) for variables in as_of],
        "Query.historyModels": [(questions.MODELS, {})],
        "Query.assignation": [(questions.ASSIGNATION, variables) for variables in ids],
        "Query.assignations": [(questions.ASSIGNATIONS, {})],
        "Mutation.revertTo": [(questions.TO, variables) for variables in entries],
        "Mutation.revertAssignation": [(questions.ALL, variables) for variables in ids],
        "node": [(questions.NODE, variables) for variables in entries],
    }


#: What an entry point says to those who may see some of the trail, besides data.
SAID = {
    "Query.historyAsOf": {"BAD_FILTER"},
    "Mutation.revertTo": {"NOT_FOUND", "FORBIDDEN"},
    "Mutation.revertAssignation": {"NOT_FOUND", "FORBIDDEN"},
}


@BY_NAME
def test_every_door_shows_what_its_user_may_see(world: World, kind: Kind) -> None:
    user, sight = kind.make(), Sight(kind)
    for door, operations in doors(world).items():
        visited = 0
        for query, variables in operations:
            result = world.ask(user, query, **variables)
            if kind.refused:
                assert codes(result) == {kind.refused}, door
                assert result.data is None or set(result.data.values()) == {None}, door
                continue
            assert codes(result) <= SAID.get(door, set()), (door, variables)
            for value in (result.data or {}).values():
                assert wrong(sight, value) == [], (door, variables)
                visited += len(list(visit(value)))
        if not kind.refused and (kind.reverts or not door.startswith("Mutation")):
            assert visited > 0, door


def test_asynchronous_execution_says_the_same(world: World) -> None:
    user = next(kind for kind in KINDS if kind.name == "reads and reverts").make()
    for door, operations in doors(world).items():
        query, variables = operations[0]
        result = async_to_sync(schema.execute)(query, variables, context_value=context_of(user))
        assert questions.normal(result) == questions.normal(world.ask(user, query, **variables)), door


def test_a_plan_is_for_those_who_may_do_each_step(world: World) -> None:
    entry = next(key for key in world.entries() if key[0] == "ImageHistory")
    with world.openly("wider"):
        Image.objects.filter(pk=world.image.pk).update(width=99)
    for kind in KINDS:
        expected = kind.refused or ("NOT_FOUND" if "image" not in kind.reads else "FORBIDDEN")
        may = "image" in kind.reads & kind.reverts
        assert codes(world.ask(kind.make(), questions.TO, id=id_of(entry))) == (set() if may else {expected}), kind.name
    # One that undoes a creation needs other rights than one that undoes a change.
    changer = Kind("changes images", reads=matrix.ALL).make()
    changer.user_permissions.add(Permission.objects.get(codename="change_image"))
    assert codes(world.ask(changer, questions.TO, id=id_of(entry))) == set()
    gone = Image.history.filter(name="gone", history_type="+").get()
    assert codes(world.ask(changer, questions.TO, id=id_of(("ImageHistory", gone.pk)))) == {"FORBIDDEN"}


def test_the_history_of_a_teams_own_type(world: World) -> None:
    for kind in KINDS:
        user, sight = kind.make(), Sight(kind)
        result = world.ask(user, f"{{ datasets {{ __typename id history {questions.PAGE} }} }}")
        if kind.refused or not kind.views:
            assert codes(result) == {kind.refused or "FORBIDDEN"}, kind.name
        else:
            assert result.errors is None, kind.name
            assert wrong(sight, result.data["datasets"]) == [], kind.name


def test_the_applications_own_doors(world: World) -> None:
    users = {kind: kind.make() for kind in KINDS}
    values = {
        "project": (world.project.pk, 'name: "P"'),
        "tag": (world.tag.pk, 'name: "T"'),
        "dataset": (world.dataset.pk, f'project: {{set: {world.project.pk}}}, title: "D"'),
        "image": (world.image.pk, f'dataset: {{set: {world.dataset.pk}}}, name: "I", width: 1, height: 1'),
    }
    doors = {door: needs.split(".")[1] for door, needs in ENTRIES.items() if needs.startswith("example_schema.")}
    assert len(doors) == 16
    for door, permission in doors.items():
        root, name = door.split(".")
        action, model = permission.split("_")
        key, new = values[model]
        given = new if action == "add" else f'id: "{key}"'
        query = f"{{ {name} {{ id }} }}"
        if root == "Mutation":
            query = f"mutation {{ {name}(data: {{{given}}}) {{ __typename }} }}"
        for kind, user in users.items():
            with transaction.atomic():
                result = world.ask(user, query)
                transaction.set_rollback(True)
            may = kind.sees_all or (kind.views if action == "view" else model in kind.reverts)
            refused = {"UNAUTHENTICATED"} if kind.refused == "UNAUTHENTICATED" else {"FORBIDDEN"}
            assert codes(result) == (set() if may else refused), (door, kind.name)


def test_every_row_of_the_matrix_is_about_something_that_was_seen(world: World) -> None:
    """A field that no operation above ever shows would be checked by nothing."""
    user = KINDS[-1].make()
    seen: set[str] = set()
    for operations in doors(world).values():
        for query, variables in operations[:6]:
            for value in (world.ask(user, query, **variables).data or {}).values():
                seen |= {name for name, *_ in visit(value)}
    unseen = {name for name, check in FIELDS.items() if name not in seen and check is not matrix.team}
    assert unseen == {
        # Of interfaces, whose fields are seen on the types; of the stream; of arguments that validation names.
        "Node.id",
        *(name for name in FIELDS if name.startswith(("HistoryEntry.", "HistoryFeedItem.", "OperationInfo."))),
        *(name for name in FIELDS if name.startswith("OperationMessage.")),
        "Dataset.history",
    }
