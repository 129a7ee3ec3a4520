"""Policies of these tests; ``docs/security.md`` shows the first two as recipes, word by word."""

from collections.abc import Collection
from typing import Any

from koherent.policy import Policy, Viewer
from koherent.registry import TrackedModel


# recipe: owner
class OwnerPolicy(Policy):
    """Everybody sees the entries that they made themselves; superusers see all."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        if viewer.is_superuser:
            return queryset
        return queryset.filter(actor_id=str(viewer.user.pk))


# recipe: end


# recipe: tenant
class TenantPolicy(Policy):
    """An account sees the entries of its tenants, which a tracker (``KOHERENT["TRACK"]``) put into ``metadata``."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        if viewer.is_superuser:
            return queryset
        return queryset.filter(metadata__tenant__in=list(viewer.user.groups.values_list("name", flat=True)))

    def visible_metadata(self, viewer: Viewer, tracked: TrackedModel, keys: frozenset[str]) -> Collection[str]:
        return keys if viewer.is_superuser else keys & {"tenant", "ticket"}


# recipe: end


class Secrecy(Policy):
    """Hides from all but superusers what the application "secret" did, and who is not named in ``metadata``."""

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        return queryset if viewer.is_superuser else queryset.exclude(app="secret")

    def visible_metadata(self, viewer: Viewer, tracked: TrackedModel, keys: frozenset[str]) -> Collection[str]:
        return keys if viewer.is_superuser else keys & {"ticket"}


class Counting(Secrecy):
    """Counts its questions, by name."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name in ASKED:
            self.asked.append(name)
        return super().__getattribute__(name)


ASKED = frozenset(name for name in vars(Policy) if not name.startswith("_"))
