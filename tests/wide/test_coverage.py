"""The opt-in proof of coverage, over models of every kind."""

from django.test import override_settings

from koherent import coverage

EXEMPT = ["admin", "auth", "contenttypes", "sessions"]


def test_only_what_nobody_records_is_a_gap() -> None:
    """History tables, proxies, children and through models of tracked links are none; others' history is no trail."""
    with override_settings(KOHERENT={"REQUIRE_COVERAGE": True, "EXEMPT": EXEMPT}):
        gaps = [gap.label for gap in coverage.gaps()]
    assert gaps == ["wide.based_untracked", "wide.neighbour", "wide.operator", "wide.slip", "wide.sticker"]
    with override_settings(KOHERENT={"REQUIRE_COVERAGE": True, "EXEMPT": [*EXEMPT, "wide"]}):
        assert coverage.gaps() == []
