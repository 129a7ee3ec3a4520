"""Who may see and undo what: ``Policy`` decides, ``Viewer`` asks, ``Scope`` is the answer for one operation."""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any, Literal, TypeAlias

from django.contrib.auth import get_permission_codename
from django.core.signals import setting_changed
from django.db import DEFAULT_DB_ALIAS, models
from django.utils.module_loading import import_string

from koherent.conf import settings
from koherent.errors import Forbidden, Unauthenticated
from koherent.permissions import prepare
from koherent.registry import TrackedModel, for_model, tracked_on
from koherent.request import RequestInfo

Action: TypeAlias = Literal["+", "~", "-"]
Entries: TypeAlias = "models.QuerySet[Any, Any]"
AnyModel: TypeAlias = type[models.Model]

_VERBS = {"+": "add", "~": "change", "-": "delete"}


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """Who looks: an account, and the request that it came with. ``user`` may be lazy, so synchronous code only."""

    user: Any
    request: RequestInfo | None = None

    @property
    def is_active(self) -> bool:
        """True for an authenticated account that is not deactivated."""
        return bool(getattr(self.user, "is_authenticated", False) and getattr(self.user, "is_active", False))

    @property
    def is_superuser(self) -> bool:
        """True for an active superuser."""
        return self.is_active and bool(getattr(self.user, "is_superuser", False))

    def has_perm(self, action: str, model: type[models.Model]) -> bool:
        """Whether the account holds Django's permission ``action`` ("view", "add", ...) on ``model``."""
        if not self.is_active:
            return False
        prepare(self.user)
        codename = get_permission_codename(action, model._meta)
        return bool(self.user.has_perm(f"{model._meta.app_label}.{codename}"))


class Policy:
    """The default rules; name a subclass in ``KOHERENT["POLICY"]`` to change them. One instance serves all threads."""

    def viewable_models(self, viewer: Viewer, models: Sequence[TrackedModel]) -> Sequence[TrackedModel]:
        """Those of ``models`` whose history the viewer may read: Django's "view" permission on the history model."""
        return [tracked for tracked in models if viewer.has_perm("view", tracked.history_model)]

    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Entries) -> Entries:
        """``queryset`` (history rows) narrowed to what the viewer may read. Any filter will do, joins included."""
        return queryset

    def redacted_fields(self, viewer: Viewer, tracked: TrackedModel) -> frozenset[str]:
        """Names of the fields whose values the viewer may not read."""
        return frozenset() if viewer.is_superuser else tracked.redacted_fields

    def visible_metadata(self, viewer: Viewer, tracked: TrackedModel, keys: frozenset[str]) -> Collection[str]:
        """Those of ``keys``, the names that stand in some entries' ``metadata``, whose values the viewer may read."""
        return keys

    def may_name(self, viewer: Viewer, model: AnyModel) -> bool:
        """Whether labels may name objects of ``model``, which is not tracked: Django's "view" permission on it."""
        return viewer.has_perm("view", model)

    def may_revert(self, viewer: Viewer, tracked: TrackedModel, action: Action) -> bool:
        """Whether the viewer may create ("+"), change ("~") or delete ("-") objects by a revert."""
        return viewer.has_perm(_VERBS[action], tracked.model)

    def rights_key(self, viewer: Viewer) -> Hashable | None:
        """Viewers with an equal key see exactly the same, so one reading can serve them all; None: share nothing.

        The key of the default rules: the visible models, what is redacted in each, and which other objects they may
        name. A subclass that decides otherwise what is seen gives its own key, or shares nothing.
        """
        if not viewer.is_active:
            return None
        visible = self.viewable_models(viewer, tracked_on())
        others = {model for tracked in visible for model in tracked.targets if for_model(model) is None}
        return (
            frozenset((tracked.label, self.redacted_fields(viewer, tracked)) for tracked in visible),
            frozenset(model._meta.label_lower for model in others if self.may_name(viewer, model)),
        )

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        deciding = {name for name, value in vars(Policy).items() if callable(value) and name[0] != "_"} - _NOT_SEEN_BY
        if any(_depth(cls, name) < _depth(cls, "rights_key") for name in deciding):
            # The inherited key knows nothing of what this class decides: nobody shares by accident.
            cls.rights_key = _share_nothing  # type: ignore[method-assign]


# What has no say in what a viewer sees.
_NOT_SEEN_BY = frozenset({"rights_key", "may_revert"})


def _depth(policy: type[Policy], name: str) -> int:
    """How far up the policy's bases ``name`` is defined."""
    return next(place for place, base in enumerate(policy.__mro__) if name in vars(base))


def _share_nothing(self: Policy, viewer: Viewer) -> None:
    """The key of a policy that gives none."""


@cache
def _policy(path: str) -> Policy:
    made = import_string(path)()
    if not isinstance(made, Policy):
        raise TypeError(f"KOHERENT['POLICY'] = {path!r} is not a subclass of koherent.policy.Policy")
    return made


def get_policy() -> Policy:
    """The policy that ``KOHERENT["POLICY"]`` names."""
    return _policy(settings().policy)


def _forget(**_: Any) -> None:
    _policy.cache_clear()


setting_changed.connect(_forget, dispatch_uid="koherent.policy")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What one viewer sees during one operation: ``models``, by label, and within each some entries and fields."""

    viewer: Viewer
    policy: Policy
    models: tuple[TrackedModel, ...]
    _redacted: dict[TrackedModel, frozenset[str]] = field(default_factory=dict, compare=False, repr=False)
    _named: dict[AnyModel, bool] = field(default_factory=dict, compare=False, repr=False)

    def tracked(self, label: str) -> TrackedModel | None:
        """The visible model of a Django label in any case; None when it is unknown or not visible."""
        wanted = label.lower()
        return next((tracked for tracked in self.models if tracked.label == wanted), None)

    def entries(self, tracked: TrackedModel) -> Entries:
        """The visible history rows of a visible model, each once, unordered."""
        rows: Entries = tracked.history_model._default_manager.using(DEFAULT_DB_ALIAS).order_by()
        if tracked not in self.models:
            return rows.none()
        visible = self.policy.visible_entries(self.viewer, tracked, rows)
        query = visible.query
        if query.distinct or query.is_sliced or query.combinator or len(query.alias_map) > 1:
            # A join may repeat rows, and none of these can be filtered further or stand in a UNION.
            return rows.filter(pk__in=visible.order_by().values("pk") if not query.is_sliced else visible.values("pk"))
        return visible.order_by()

    def redacted(self, tracked: TrackedModel) -> frozenset[str]:
        """The fields of a model whose values the viewer does not see; asked once for each operation."""
        if tracked not in self._redacted:
            self._redacted[tracked] = self.policy.redacted_fields(self.viewer, tracked)
        return self._redacted[tracked]

    def metadata_keys(self, tracked: TrackedModel, keys: frozenset[str]) -> frozenset[str]:
        """Those of some entries' ``metadata`` keys that the viewer sees; asked once for all entries of a page."""
        return keys.intersection(self.policy.visible_metadata(self.viewer, tracked, keys)) if keys else keys

    def may_name(self, model: AnyModel) -> bool:
        """Whether labels may name objects of a model that is not tracked; asked once for each operation."""
        if model not in self._named:
            self._named[model] = self.policy.may_name(self.viewer, model)
        return self._named[model]

    @cached_property
    def sees_everything(self) -> bool:
        """Whether no model, row or field is hidden, so that it does not matter what a text was made of."""
        every = tracked_on()
        return not self.hides_rows and set(every) <= set(self.models) and not any(map(self.redacted, every))

    @property
    def hides_rows(self) -> bool:
        """Whether the policy decides row by row, so that a visible model may still hide some of its objects."""
        return type(self.policy).visible_entries is not Policy.visible_entries


def scope_for(viewer: Viewer) -> Scope:
    """What ``viewer`` sees. Raises ``Unauthenticated`` without an active account, ``Forbidden`` without any model."""
    if not viewer.is_active:
        raise Unauthenticated("Log in to read the history.")
    policy = get_policy()
    visible = tuple(sorted(policy.viewable_models(viewer, tracked_on()), key=lambda tracked: tracked.label))
    if not visible:
        raise Forbidden("You may not read any history.")
    return Scope(viewer=viewer, policy=policy, models=visible)
