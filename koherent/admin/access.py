"""Who asks: the policy decides what a page of the admin shows, and Django's history permissions have no say."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from koherent.context import audit, current_audit
from koherent.errors import Forbidden, Unauthenticated
from koherent.policy import Scope, Viewer, scope_for
from koherent.registry import TrackedModel


def viewer_of(request: HttpRequest) -> Viewer:
    """The account of a request, with the request as ``AuditMiddleware`` knows it."""
    return Viewer(user=request.user, request=current_audit().request)


def scope_of(request: HttpRequest) -> Scope:
    """What the account sees. Raises ``PermissionDenied`` when that is nothing."""
    try:
        return scope_for(viewer_of(request))
    except (Forbidden, Unauthenticated) as error:
        raise PermissionDenied(error.message) from error


def sees_anything(request: HttpRequest) -> bool:
    """Whether the account may read any history."""
    try:
        scope_for(viewer_of(request))
    except (Forbidden, Unauthenticated):
        return False
    return True


def may_revert(scope: Scope, tracked: TrackedModel) -> bool:
    """Whether a link to a revert makes sense; the revert itself asks about each of its steps."""
    return any(scope.policy.may_revert(scope.viewer, tracked, action) for action in ("+", "~", "-"))


def attributed(request: HttpRequest) -> AbstractContextManager[Any]:
    """What is written inside is the account's, also in a project without ``AuditMiddleware``."""
    return nullcontext() if current_audit().request is not None else audit(user=request.user)
