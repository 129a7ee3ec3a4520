"""Settings: what the documentation says is what the code does, and every mistake is named before the first request."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from django.core.checks import Error, Warning
from django.test import override_settings

from example_schema.models import Dataset, Tag
from koherent import checks, registry
from koherent.conf import Settings, settings

DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"
SPELLED: dict[Any, str] = {Sequence[str]: "list[str]", Mapping[str, str | None]: "dict[str, str | None]"}
COVERED = ["admin", "auth", "contenttypes", "sessions"]


def test_the_documentation_lists_every_key_with_its_type_and_default() -> None:
    row = re.compile(r"^\| `([A-Z_]+)` \| `([^`]+)` \| `([^`]*)` \| .+ \|$", re.MULTILINE)
    documented = [(key, kind.replace("\\", ""), default) for key, kind, default in row.findall(DOCUMENT.read_text())]
    hints = get_type_hints(Settings)
    in_force = Settings()
    assert documented == [
        (
            field.name.upper(),
            SPELLED.get(hints[field.name]) or hints[field.name].__name__,
            repr(getattr(in_force, field.name)).replace("'", '"'),
        )
        for field in fields(Settings)
    ]


def test_every_default_passes_its_own_check() -> None:
    defaults = {field.name.upper(): getattr(Settings(), field.name) for field in fields(Settings)}
    with override_settings(KOHERENT=defaults):
        assert checks.check_settings(None) == []


def test_settings_follow_the_project() -> None:
    with override_settings(KOHERENT={"PAGE_LIMIT": 5}):
        assert settings().page_limit == 5
    assert settings() == Settings()


@pytest.mark.parametrize(("key", "nearest"), [("PAGE_LIMT", "PAGE_LIMIT"), ("atomic_mutation", "ATOMIC_MUTATIONS")])
def test_an_unknown_key_is_an_error_that_names_the_nearest(key: str, nearest: str) -> None:
    with override_settings(KOHERENT={key: 5}):
        assert checks.check_settings(None) == [
            Error(f"KOHERENT[{key!r}] is not a setting.", hint=f"Did you mean {nearest!r}?", id="koherent.E001")
        ]


@pytest.mark.parametrize(
    ("key", "value", "wants"),
    [
        ("ATOMIC_MUTATIONS", "yes", "True or False"),
        ("GENERATE_ASSIGNATION_ID", 1, "True or False"),
        ("PAGE_LIMIT", 0, "a whole number, at least 1"),
        ("PAGE_LIMIT", True, "a whole number, at least 1"),
        ("REVERT_LIMIT", -1, "a whole number, at least 0"),
        ("FEED_QUEUE", 10.5, "a whole number, at least 1"),
        ("FEED_POLL_SECONDS", 0, "a number above 0"),
        ("FEED_LAYER", None, "a string"),
        ("EXEMPT", "auth", "a list or tuple of strings"),
        ("APP_HEADERS", ["X-App", 1], "a list or tuple of strings"),
        ("TRACK", {"ip": 1}, "a dictionary of names to dotted paths or None"),
        ("TRACK", ["ip"], "a dictionary of names to dotted paths or None"),
    ],
)
def test_a_value_of_another_type_is_an_error_that_says_what_is_wanted(key: str, value: Any, wants: str) -> None:
    with override_settings(KOHERENT={key: value}):
        assert checks.check_settings(None) == [
            Error(f"KOHERENT[{key!r}] is {value!r}; it wants {wants}.", id="koherent.E006")
        ]
        assert checks.check_coverage(None) == []


def test_the_settings_are_a_dictionary() -> None:
    with override_settings(KOHERENT=["TRACK"]):
        assert checks.check_settings(None) == [
            Error("KOHERENT is ['TRACK']; it wants a dictionary.", id="koherent.E006")
        ]


def test_a_dotted_path_that_leads_nowhere_is_an_error() -> None:
    given = {"POLICY": "koherent.nowhere.Policy", "TRACK": {"ip": "koherent.context.MAX_TEXT", "user": None}}
    with override_settings(KOHERENT=given):
        policy, tracker = checks.check_settings(None)
    assert policy.msg.startswith("KOHERENT['POLICY'] is 'koherent.nowhere.Policy', which cannot be imported: ")
    assert tracker.msg == "KOHERENT['TRACK']['ip'] is 'koherent.context.MAX_TEXT', which cannot be called."
    assert {policy.id, tracker.id} == {"koherent.E007"}


def test_a_policy_that_is_none_is_an_error() -> None:
    with override_settings(KOHERENT={"POLICY": "koherent.policy.Viewer"}):
        assert checks.check_settings(None) == [
            Error("KOHERENT['POLICY'] is 'koherent.policy.Viewer', which is no subclass of Policy.", id="koherent.E007")
        ]


def test_coverage_is_asked_for_only_on_demand() -> None:
    with override_settings(KOHERENT={}):
        assert checks.check_coverage(None) == []


def test_the_example_is_covered_when_djangos_own_apps_are_exempt() -> None:
    with override_settings(KOHERENT={"REQUIRE_COVERAGE": True, "EXEMPT": COVERED}):
        assert checks.check_coverage(None) == []


def test_a_model_that_is_neither_tracked_nor_exempt_is_an_error() -> None:
    with override_settings(KOHERENT={"REQUIRE_COVERAGE": True, "EXEMPT": ["Auth.User", *COVERED[2:], "admin"]}):
        found = checks.check_coverage(None)
    assert [(error.msg, error.hint, error.id) for error in found] == [
        (
            f"auth.{name} is not tracked.",
            f"Give it a HistoryField, or add 'auth.{name.lower()}' to KOHERENT['EXEMPT'].",
            "koherent.E008",
        )
        for name in ("Group", "Permission")
    ]


def test_links_of_a_tracked_model_that_are_not_recorded_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tracked = registry.for_model(Dataset)
    assert tracked is not None
    monkeypatch.setitem(tracked.__dict__, "m2m", ())
    monkeypatch.setitem(tracked.__dict__, "names", tracked.names - {"tags"})
    with override_settings(KOHERENT={"REQUIRE_COVERAGE": True, "EXEMPT": COVERED}):
        [error] = checks.check_coverage(None)
    assert (error.msg, error.hint, error.obj) == (
        "example_schema.Dataset.tags is not tracked.",
        "Add the field to HistoryField(m2m_fields=...), or add 'example_schema.dataset_tags' to KOHERENT['EXEMPT'].",
        Dataset,
    )


def test_an_exemption_that_exempts_nothing_is_a_warning() -> None:
    exempt = [*COVERED, "no.model", Tag._meta.label, "koherent"]
    with override_settings(KOHERENT={"EXEMPT": exempt}):
        assert checks.check_coverage(None) == [
            Warning(f"KOHERENT['EXEMPT'] names {label!r}, {why}.", hint="Remove it.", id="koherent.W001")
            for label, why in [
                ("no.model", "which is no model and no app"),
                ("example_schema.Tag", "which needs no exemption"),
                ("koherent", "which needs no exemption"),
            ]
        ]
