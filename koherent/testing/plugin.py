"""The fixture: ``pytest_plugins = ["koherent.testing.plugin"]`` in your top ``conftest.py``. Needs pytest-django."""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from koherent.testing.trail import AuditTrail


@pytest.fixture
def audit_trail(db: None) -> "AuditTrail":
    """What is recorded from here on: the entries, and assertions about them."""
    # pytest loads its plugins before Django is set up.
    from koherent.testing.trail import AuditTrail

    return AuditTrail()
