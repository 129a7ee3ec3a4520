"""What the lesser user gets is what the greater one gets, filtered; and it does not depend on what they do not see."""

import datetime as dt
from typing import Any

import pytest
from django.contrib.auth.models import User
from strawberry import relay

from koherent.models import Assignation
from koherent.registry import by_label, tracked_models
from tests.security import questions
from tests.security.questions import Answer, id_of, read, reading, reverting
from tests.security.world import OF_TAGS, SECRET, World

pytestmark = pytest.mark.django_db

TAG = "example_schema.tag"
REDACTED = {"access_notes"}
STATUS = {"draft": "Draft", "published": "Published"}


class Oracle:
    """What the lesser user should get, worked out from the greater one's whole history."""

    def __init__(self, answers: Answer) -> None:
        data, errors = answers["history {}"]
        assert errors == []
        self.edges = [edge for edge in data["history"]["edges"] if self.shows(edge["node"])]
        self.nodes = [edge["node"] for edge in self.edges]
        self.all = {edge["node"]["id"]: edge["node"] for edge in data["history"]["edges"]}
        models, _ = answers["models"]
        self.labels = {
            (model["model"], field["name"]): field["label"]
            for model in models["historyModels"]
            for field in model["fields"]
        }

    @staticmethod
    def shows(node: Any) -> bool:
        return bool(node["app"] != "secret" and node["model"] != TAG)

    def number(self, node: Any) -> int:
        return int(relay.from_base64(node["id"])[1])

    def same_object(self, node: Any) -> list[Any]:
        """The visible entries of its object, oldest first."""
        own = [n for n in self.nodes if (n["model"], n["objectId"]) == (node["model"], node["objectId"])]
        return sorted(own, key=self.number)

    def entry(self, node: Any) -> Any:
        before = [n for n in self.same_object(node) if self.number(n) < self.number(node)]
        expected = {
            **node,
            "metadata": {k: v for k, v in node["metadata"].items() if k == "ticket"},
            "snapshot": {k: None if k in REDACTED else v for k, v in node["snapshot"].items()},
            "changes": self.changes(node, before[-1] if before else None),
        }
        if "accessNotes" in node["record"]:
            expected["record"] = {**node["record"], "accessNotes": None}
        return expected

    def changes(self, node: Any, before: Any) -> Any:
        new, old = node["snapshot"], None if before is None else before["snapshot"]
        if node["action"] == "CREATE":
            old = None
        elif node["action"] == "DELETE":
            old, new = new, None
        elif old is None:
            return None
        found = []
        pk = "id"
        for name in node["snapshot"]:
            a, b = (None if side is None else side[name] for side in (old, new))
            if name == pk or not (a != b or (name in REDACTED and None in (old, new))):
                continue
            change = dict.fromkeys(("old", "new", "oldLabel", "newLabel", "added", "removed"))
            change |= {"__typename": "FieldChange", "field": name, "label": self.labels[node["model"], name]}
            change |= {"redacted": name in REDACTED, "erased": False}
            if isinstance(node["snapshot"][name], list):
                change["added"] = [key for key in b or [] if key not in (a or [])]
                change["removed"] = [key for key in a or [] if key not in (b or [])]
                if not (change["added"] or change["removed"]):
                    continue
            elif name not in REDACTED:
                change |= {"old": a, "new": b}
                change |= {"oldLabel": self.name(node["model"], name, a), "newLabel": self.name(node["model"], name, b)}
            found.append(change)
        return found

    def name(self, model: str, field: str, value: Any) -> str | None:
        if field == "status":
            return STATUS.get(value)
        tracked = by_label(model)
        assert tracked is not None
        target = next(f for f in tracked.fields if f.name == field).remote_field
        if target is None or value is None:
            return None
        label = target.model._meta.label_lower
        own = [n for n in self.nodes if (n["model"], n["objectId"]) == (label, str(value))]
        newest = max(own, key=self.number, default=None)
        return None if newest is None or newest["action"] == "DELETE" else newest["objectLabel"]

    def page(self, page: Any) -> Any:
        """A page without limits."""
        edges = [{**edge, "node": self.entry(edge["node"])} for edge in page["edges"] if self.shows(edge["node"])]
        return self.connection(page, edges) | {"totalCount": len(edges)}

    @staticmethod
    def connection(page: Any, edges: list[Any]) -> Any:
        start, end = (edges[0]["cursor"], edges[-1]["cursor"]) if edges else (None, None)
        info = {**page["pageInfo"], "startCursor": start, "endCursor": end}
        return {**page, "edges": edges, "pageInfo": info}

    def assignation(self, one: Any) -> Any:
        own = [n for n in self.nodes if n["assignationId"] == one["id"]]
        if not own:
            return None
        shown = {n["assignationId"] for n in self.nodes}
        users = {n["user"]["id"]: n["user"] for n in own}
        entry = one["revertsEntry"]
        return {
            **one,
            "startedAt": min(n["date"] for n in own),
            "endedAt": max(n["date"] for n in own),
            "users": sorted(users.values(), key=lambda user: (user["username"], user["id"])),
            "apps": sorted({n["app"] for n in own}),
            "models": sorted({n["model"] for n in own}),
            "entryCount": len(own),
            "reverts": one["reverts"] if one["reverts"] in shown else None,
            "revertsEntry": entry if entry in {n["id"] for n in self.nodes} else None,
            "revertedBy": [id for id in one["revertedBy"] if id in shown],
            "entries": self.page(one["entries"]),
        }

    def report(self, report: Any, undone: list[Any], assignation: bool) -> Any:
        """The plan, or the code of the refusal."""
        if report["__typename"] != "RevertReport" or not any(map(self.shows, undone)):
            return "NOT_FOUND"
        edges = []
        for edge in report["steps"]["edges"]:
            step = edge["node"]
            own = [n for n in self.all.values() if (n["model"], n["objectId"]) == (step["model"], step["objectId"])]
            needed = [n for n in undone if n in own]
            if assignation and step["action"] != "DELETE":
                # What comes back is what the entry before each of them says.
                numbers = [self.number(n) for n in needed]
                needed += [max((o for o in own if self.number(o) < n), key=self.number) for n in numbers]
            if not all(map(self.shows, [max(own, key=self.number), *needed])):
                return "FORBIDDEN"
            if step["action"] == "UPDATE" and any(change["field"] in REDACTED for change in step["changes"]):
                return "FORBIDDEN"
            changes = [self.change_of_step(step, change) for change in step["changes"]]
            if step["action"] != "UPDATE":
                changes = self.with_hidden(step, changes)
            conflicts = [self.conflict(conflict) for conflict in step["conflicts"]]
            edges.append({**edge, "node": {**step, "changes": changes, "conflicts": conflicts}})
        return {**report, "steps": {**report["steps"], "edges": edges}}

    def change_of_step(self, step: Any, change: Any) -> Any:
        if change["field"] in REDACTED:
            return {**change, "old": None, "new": None, "redacted": True}
        named = {f"{side}Label": self.name(step["model"], change["field"], change[side]) for side in ("old", "new")}
        return {**change, **named}

    def with_hidden(self, step: Any, changes: list[Any]) -> list[Any]:
        """A hidden field is always among initial and last values."""
        assert {c["field"] for c in changes} >= (REDACTED if step["model"] == "example_schema.dataset" else set())
        return changes

    def conflict(self, conflict: Any) -> Any:
        entry = conflict["entry"]
        if entry is None or self.shows(entry):
            return {**conflict, "entry": None if entry is None else self.entry(self.all[entry["id"]])}
        message = "Other rows still refer to it." if conflict["code"] == "STILL_REFERENCED" else conflict["message"]
        return {**conflict, "entry": None, "message": message}


def assignations() -> list[str]:
    ids = Assignation.objects.values_list("assignation_id", flat=True)
    return [*sorted({id for id in ids if id is not None}), "never was"]


def users() -> list[str]:
    return [str(pk) for pk in User.objects.values_list("pk", flat=True)]


def test_every_page_is_the_greater_ones_filtered(world: World) -> None:
    asked = list(reading(world.entries()[::3], assignations(), users()))
    greater, lesser = read(world, world.greater, asked), read(world, world.lesser, asked)
    oracle = Oracle(greater)
    assert 10 < len(oracle.nodes) < len(oracle.all)
    for name, (data, errors) in greater.items():
        got = lesser[name]
        if name == f"history {{'models': ['{TAG}']}}":
            assert got[0] == {"history": None}
            assert [error[2] for error in got[1]] == [{"code": "BAD_FILTER", "field": "models"}]
        elif name.startswith("history {"):
            assert got == ({"history": oracle.page(data["history"])}, errors), name
        elif name.startswith(("history first", "history last")):
            size = int(name.split()[-1])
            shown = oracle.edges[: size if "first" in name else None]
            shown = shown[-size if "last" in name and size else len(shown) * ("last" in name) :]
            assert [e["node"] for e in got[0]["history"]["edges"]] == [oracle.entry(e["node"]) for e in shown], name
            info = got[0]["history"]["pageInfo"]
            assert info["hasNextPage"] == ("first" in name and size < len(oracle.edges))
            assert got[0]["history"]["totalCount"] == len(oracle.edges)
        elif name.startswith("entry"):
            node = data["historyEntry"]
            assert got == ({"historyEntry": oracle.entry(node) if oracle.shows(node) else None}, []), name
        elif name.startswith("node"):
            assert (got[0]["node"], got[1]) == (lesser[name.replace("node", "entry")][0]["historyEntry"], []), name
        elif name.startswith("assignation "):
            one = data["assignation"]
            expected = None if one is None else oracle.assignation(one)
            assert got == ({"assignation": expected}, []), name
        elif name == "assignations":
            edges = [{**e, "node": oracle.assignation(e["node"])} for e in data["assignations"]["edges"]]
            edges = [edge for edge in edges if edge["node"] is not None]
            assert got == ({"assignations": oracle.connection(data["assignations"], edges)}, []), name
        elif name == "models":
            expected = [m for m in data["historyModels"] if m["model"] != TAG]
            for model in expected:
                for field in model["fields"]:
                    field["redacted"] = field["name"] in REDACTED
            assert got == ({"historyModels": expected}, []), name
        elif name.startswith("own field"):
            expected = [{**d, "history": oracle.page(d["history"])} for d in data["datasets"]]
            assert got == ({"datasets": expected}, []), name
        else:
            assert name.startswith("assignations first"), name
    for word in (SECRET, OF_TAGS):
        assert word in str(greater)
        assert word not in str(lesser)


def test_the_entry_in_force_is_the_latest_visible_one(world: World) -> None:
    history = world.ask(world.greater, questions.HISTORY)
    oracle = Oracle(
        {"history {}": questions.normal(history), **read(world, world.greater, [("models", questions.MODELS, {})])}
    )
    objects = {(n["model"], n["objectId"]) for n in oracle.all.values()}
    times = sorted({n["date"] for n in oracle.all.values()})[::4]
    for model, object_id in sorted(objects):
        for at in [*times, "2020-01-01T00:00:00+00:00", dt.datetime.now(dt.UTC).isoformat()]:
            result = world.ask(world.lesser, questions.AS_OF, model=model, objectId=object_id, at=at)
            if model == TAG:
                assert [e.extensions["code"] for e in result.errors] == ["BAD_FILTER"]
                continue
            visible = [n for n in oracle.nodes if (n["model"], n["objectId"]) == (model, object_id)]
            expected = max((n for n in visible if n["date"] <= at), key=oracle.number, default=None)
            oldest = min(visible, key=oracle.number, default=None)
            if expected is None and oldest is not None and oldest["action"] != "CREATE":
                # What is hidden is as good as pruned.
                [error] = result.errors
                assert error.extensions == {"code": "HISTORY_PRUNED", "oldest": oldest["date"]}
                continue
            assert result.errors is None
            assert result.data["historyAsOf"] == (None if expected is None else oracle.entry(expected))


def test_every_plan_is_the_greater_ones_filtered_or_refused(world: World) -> None:
    asked = list(reverting(world.entries(), assignations()))
    greater, lesser = read(world, world.greater, asked), read(world, world.lesser, asked)
    whole = read(world, world.greater, [("history {}", questions.HISTORY, {}), ("models", questions.MODELS, {})])
    oracle = Oracle(whole)
    ids = {f"to {key}": id_of(key) for key in world.entries()}
    outcomes: set[str] = set()
    for name, (data, _errors) in greater.items():
        report = next(iter(data.values()))
        if name in ids:
            undone = [oracle.all[ids[name]]]
        else:
            undone = [n for n in oracle.all.values() if n["assignationId"] == name.removeprefix("all of ")]
        expected = "NOT_FOUND" if report is None else oracle.report(report, undone, name not in ids)
        got, errors = lesser[name]
        if isinstance(expected, str):
            assert [error[2] for error in errors] == [{"code": expected}], name
            outcomes.add(expected)
        else:
            assert errors == [], name
            assert next(iter(got.values())) == expected, name
            outcomes.add(expected["status"])
    assert outcomes == {"NOT_FOUND", "FORBIDDEN", "PLANNED", "UNCHANGED", "CONFLICTED"}
    assert SECRET not in str(lesser)


def test_what_is_not_seen_changes_nothing(world: World) -> None:
    keys, ids = world.entries(), assignations()
    asked = list(reading(keys[::6], ids[::3], users()[:1]))
    plans = list(reverting(keys[::4], ids[::2]))
    before = read(world, world.lesser, [*asked, *plans])
    world.hide_more()
    assert len(world.entries()) > len(keys) + 3
    assert read(world, world.lesser, [*asked, *plans]) == before
    # Plans over hidden entries of visible objects are forbidden: see the next test.
    count = len(world.entries())
    world.hide_more_of_what_shows()
    assert len(world.entries()) > count + 3
    after = read(world, world.lesser, asked)
    assert after == {name: before[name] for name in after}


def test_the_two_exceptions_show_no_more_than_they_must(world: World) -> None:
    """A plan over a hidden change is forbidden, and a hidden row in the way is a conflict with code and fields."""
    [entry] = [k for k in world.entries() if k[0] == "ProjectHistory"][:1]
    assert world.ask(world.lesser, questions.TO, id=id_of(entry)).errors is None
    world.hide_more_of_what_shows()
    for query, id in ((questions.TO, id_of(entry)), (questions.ALL, "work")):
        [error] = world.ask(world.lesser, query, id=id).errors
        assert (error.message, error.extensions) == ("You may not undo all of this.", {"code": "FORBIDDEN"})


def test_the_trail_of_this_test_has_all_models(world: World) -> None:
    assert {tracked.type_name + "History" for tracked in tracked_models()} == {key[0] for key in world.entries()}
