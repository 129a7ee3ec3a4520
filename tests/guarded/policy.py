"""The recipe of ``docs/security.md`` for permissions on single objects."""

from collections.abc import Sequence
from typing import Any

from guardian.shortcuts import get_objects_for_user

from koherent.policy import Action, Policy, Viewer
from koherent.registry import TrackedModel


# recipe: guardian
class GuardianPolicy(Policy):
    """An account sees the history of the objects that it may view; of an object that is gone, nothing."""

    def viewable_models(self, viewer: Viewer, models: Sequence[TrackedModel]) -> Sequence[TrackedModel]:
        return models  # the objects decide

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        objects = get_objects_for_user(viewer.user, f"view_{tracked.model._meta.model_name}", tracked.model)
        return queryset.filter(**{f"{tracked.pk_attname}__in": objects.values("pk")})

    def may_revert(self, viewer: Viewer, tracked: TrackedModel, action: Action) -> bool:
        return viewer.is_superuser


# recipe: end
