"""Who sees what: accounts, permissions on history models, redaction, and a policy of one's own."""

from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser, Permission

from koherent.errors import Forbidden, Unauthenticated
from koherent.policy import Policy, Viewer, get_policy, scope_for
from koherent.registry import TrackedModel, by_label, tracked_models

pytestmark = pytest.mark.django_db


class TagsOnly(Policy):
    def viewable_models(self, viewer: Viewer, models: Any) -> Any:
        return [tracked for tracked in models if tracked.type_name == "Tag"]


@pytest.fixture
def ada() -> Any:
    return get_user_model().objects.create_user("ada")


def allow(account: Any, *codenames: str) -> Any:
    account.user_permissions.add(*Permission.objects.filter(codename__in=codenames))
    return get_user_model().objects.get(pk=account.pk)


def dataset() -> TrackedModel:
    tracked = by_label("example_schema.dataset")
    assert tracked is not None
    return tracked


@pytest.mark.parametrize("account", [None, AnonymousUser()])
def test_nobody_is_unauthenticated(account: Any) -> None:
    with pytest.raises(Unauthenticated):
        scope_for(Viewer(user=account))


def test_an_inactive_superuser_is_unauthenticated() -> None:
    account = get_user_model().objects.create_superuser("root", is_active=False)
    with pytest.raises(Unauthenticated):
        scope_for(Viewer(user=account))
    assert Policy().redacted_fields(Viewer(user=account), dataset()) == {"access_notes"}


def test_an_account_without_any_permission_is_forbidden(ada: Any) -> None:
    with pytest.raises(Forbidden):
        scope_for(Viewer(user=ada))


def test_the_view_permission_counts_on_the_history_model(ada: Any) -> None:
    viewer = Viewer(user=allow(ada, "view_dataset", "view_historicaltag"))
    scope = scope_for(viewer)
    assert [tracked.label for tracked in scope.models] == ["example_schema.tag"]
    assert scope.tracked("Example_Schema.Tag") is scope.models[0]
    assert scope.tracked("example_schema.dataset") is None
    assert not scope.entries(dataset()).exists()


def test_only_superusers_see_redacted_fields(ada: Any) -> None:
    reader = scope_for(Viewer(user=allow(ada, "view_historicaldataset")))
    assert reader.redacted(dataset()) == {"access_notes"}
    root = scope_for(Viewer(user=get_user_model().objects.create_superuser("root")))
    assert root.redacted(dataset()) == frozenset()
    assert root.models == tracked_models()


def test_a_revert_needs_the_permission_of_its_action(ada: Any) -> None:
    viewer = Viewer(user=allow(ada, "add_dataset", "delete_dataset", "change_tag"))
    policy = Policy()
    assert [policy.may_revert(viewer, dataset(), action) for action in ("+", "~", "-")] == [True, False, True]
    assert not policy.may_revert(Viewer(user=None), dataset(), "+")


def test_the_setting_names_the_policy(ada: Any, settings: Any) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.TagsOnly"}
    assert isinstance(get_policy(), TagsOnly)
    assert [tracked.type_name for tracked in scope_for(Viewer(user=ada)).models] == ["Tag"]
    settings.KOHERENT = {"POLICY": "koherent.policy.Viewer"}
    with pytest.raises(TypeError):
        get_policy()
    settings.KOHERENT = {}
    assert type(get_policy()) is Policy
