"""Assignations in the admin: a list, a page with all that one did across models, and its undo."""

from typing import TYPE_CHECKING, Any, TypeAlias

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from koherent import registry, timeline
from koherent.admin.access import may_revert, scope_of, sees_anything
from koherent.admin.reverting import RevertPage
from koherent.admin.showing import assignation_url, entry_rows
from koherent.errors import BadCursor
from koherent.models import Assignation
from koherent.policy import Scope
from koherent.revert import revert_assignation
from koherent.timeline import AssignationInfo, Filters

PAGE = 50

# Django's class takes a parameter in its stubs only.
if TYPE_CHECKING:
    Base: TypeAlias = admin.ModelAdmin[Assignation]
else:
    Base = admin.ModelAdmin


class AssignationAdmin(Base):
    """Read and undone, never edited; what is seen is as the policy says."""

    def get_urls(self) -> list[URLPattern]:
        """The list, the page of one, and its undo."""
        view = self.admin_site.admin_view
        return [
            path("", view(self.changelist_view), name="koherent_assignation_changelist"),
            path("<str:object_id>/undo/", view(self.revert_view), name="koherent_assignation_revert"),
            path("<str:object_id>/", view(self.assignation_view), name="koherent_assignation_change"),
        ]

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Whether the account may read any history."""
        return sees_anything(request)

    def has_view_permission(self, request: HttpRequest, obj: Assignation | None = None) -> bool:
        """Whether the account may read any history."""
        return sees_anything(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody adds any by hand."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Assignation | None = None) -> bool:
        """Nobody changes any."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Assignation | None = None) -> bool:
        """Pruning removes those without entries."""
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """The assignations with visible entries, newest first."""
        try:
            page = timeline.assignations(scope_of(request), first=PAGE, after=request.GET.get("after") or None)
        except BadCursor as error:
            raise Http404(error.message) from error
        context = {
            "title": _("Assignations"),
            "assignations": [self._summary(info) for info in page.items],
            "next_cursor": page.items[-1].cursor if page.has_next_page else None,
            **(extra_context or {}),
        }
        return self._render(request, "assignations", context)

    def assignation_view(self, request: HttpRequest, object_id: str) -> TemplateResponse:
        """Who did what in one assignation, across models."""
        scope = scope_of(request)
        info = self._info(scope, object_id)
        after = request.GET.get("after") or None
        try:
            page = timeline.page(scope, Filters(assignation_id=info.id), first=PAGE, after=after)
        except BadCursor as error:
            raise Http404(error.message) from error
        context = {
            "title": _("Assignation %s") % info.id,
            "info": self._summary(info),
            "rows": [{"row": row} for row in entry_rows(scope, self.admin_site, page.entries, ())],
            "next_cursor": page.entries[-1].cursor if page.has_next_page else None,
            "is_continued": after is not None,
            "revert_url": self._url(info.id, "revert") if self._may_undo(scope, info) else "",
            "reverts": None if info.reverts is None else (info.reverts, self._url(info.reverts)),
            "reverted_by": [(id, self._url(id)) for id in info.reverted_by],
        }
        return self._render(request, "assignation", context)

    def revert_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """What undoing it would do, to be confirmed."""
        scope = scope_of(request)
        info = self._info(scope, object_id)
        if not self._may_undo(scope, info):
            raise PermissionDenied
        page = RevertPage(
            site=self.admin_site,
            title=_("Undo assignation %s") % info.id,
            subject=_("everything that assignation %s did") % info.id,
            back_url=self._url(info.id),
            opts=self.opts,
            revert=lambda viewer, **options: revert_assignation(viewer, info.id, **options),
        )
        return page.respond(request)

    def _info(self, scope: Scope, object_id: str) -> AssignationInfo:
        info = timeline.assignation(scope, unquote(object_id))
        if info is None:
            raise Http404(_("No such assignation."))
        return info

    def _may_undo(self, scope: Scope, info: AssignationInfo) -> bool:
        models = [registry.by_label(label) for label in info.models]
        return all(tracked is not None and may_revert(scope, tracked) for tracked in models)

    def _summary(self, info: AssignationInfo) -> dict[str, Any]:
        models = [registry.by_label(label) for label in info.models]
        names = [str(tracked.model._meta.verbose_name_plural) for tracked in models if tracked is not None]
        return {"of": info, "url": self._url(info.id), "models": names}

    def _url(self, id: str, page: str = "change") -> str:
        return assignation_url(self.admin_site, id, page)

    def _render(self, request: HttpRequest, template: str, context: dict[str, Any]) -> TemplateResponse:
        request.current_app = self.admin_site.name
        every = {**self.admin_site.each_context(request), "opts": self.opts, **context}
        return TemplateResponse(request, f"koherent/admin/{template}.html", every)
