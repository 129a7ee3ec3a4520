"""A team is warned before its history fills with passwords."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.checks.registry import registry as registered
from django.db import models

from koherent import registry
from koherent.checks_secrets import check_secrets, looks_secret
from koherent.registry import TrackedModel


def named(field: Any, name: str) -> Any:
    field.set_attributes_from_name(name)
    return field


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "old_passwords",
        "client_secret",
        "api_token",
        "refreshToken",
        "apiKey",
        "APIKey",
        "api_key",
        "private_key_pem",
        "otp",
        "credentials",
        "door_access_code",
    ],
)
def test_these_look_like_secrets(name: str) -> None:
    assert looks_secret(named(models.TextField(), name))
    assert looks_secret(named(models.BinaryField(), name))
    assert looks_secret(named(models.JSONField(), name))


@pytest.mark.parametrize(
    ("field", "name"),
    [
        (models.DateTimeField(), "password_changed_at"),
        (models.IntegerField(), "token_count"),
        (models.BooleanField(), "has_secret"),
        (models.CharField(choices=[("a", "A")]), "secret_kind"),
        (models.TextField(), "secretary"),
        (models.TextField(), "key"),
        (models.TextField(), "public_key"),
        (models.TextField(), "passport"),
        (models.CharField(primary_key=True), "token"),
        (models.ForeignKey("auth.User", models.CASCADE), "token"),
    ],
)
def test_these_do_not(field: Any, name: str) -> None:
    assert not looks_secret(named(field, name))


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, True),
        ({"excluded_fields": ["password"]}, False),
        ({"redacted_fields": ["password"]}, False),
        ({"redacted_fields": ["email"]}, True),
    ],
)
def test_a_password_that_is_neither_excluded_nor_redacted_is_a_warning(
    options: dict[str, Any], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    field: Any = SimpleNamespace(**{"excluded_fields": [], "redacted_fields": (), **options})
    monkeypatch.setattr(registry, "tracked_models", lambda: (TrackedModel(User, User, field),))
    messages = check_secrets(None)
    assert [message.id for message in messages] == (["koherent.W002"] if warned else [])
    for message in messages:
        assert "auth.user" in message.msg
        assert "'password'" in message.msg


def test_manage_py_check_runs_it() -> None:
    assert check_secrets in registered.registered_checks
