"""For the tests of teams: what did this code leave in the trail?

``assert_recorded()`` and ``assert_nothing_recorded()`` work with any test runner; the pytest fixture ``audit_trail`` is
in ``koherent.testing.plugin``.
"""

from koherent.testing.assertions import assert_nothing_recorded, assert_recorded
from koherent.testing.trail import AuditTrail

__all__ = ["AuditTrail", "assert_nothing_recorded", "assert_recorded"]
