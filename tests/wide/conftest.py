"""Who acts in the tests of this project."""

import pytest
from django.contrib.auth.models import User

pytest.register_assert_rewrite("tests.wide.trail")


@pytest.fixture
def ada(db: None) -> User:
    """The account that every watched write must be attributed to."""
    return User.objects.create_user("ada")
