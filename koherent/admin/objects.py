"""An object's history in the admin, and the way back to one of its entries."""

from typing import Any

from django.contrib.admin.utils import quote, unquote
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext as _
from simple_history.admin import SimpleHistoryAdmin

from koherent import registry, timeline
from koherent.admin.access import may_revert, scope_of
from koherent.admin.reverting import RevertPage
from koherent.admin.showing import Row, entry_rows
from koherent.errors import BadCursor, BadFilter
from koherent.policy import Scope
from koherent.registry import TrackedModel
from koherent.revert import revert_to
from koherent.timeline import Entry, Filters


class KoherentAdmin(SimpleHistoryAdmin):
    """``SimpleHistoryAdmin`` whose history page says who, with what, in which assignation and what exactly changed.

    Going back to an entry is a revert with a plan that is confirmed. What is seen and undone is as the policy says.
    ``history_list_display`` adds columns: names of tracked fields, of columns of your own bases, or of methods here
    that take a history row.
    """

    object_history_template = "koherent/admin/object_history.html"
    history_list_per_page = 50

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The object's entries, newest first; of a deleted object too."""
        request.current_app = self.admin_site.name
        scope, tracked = self._visible(request)
        key = unquote(object_id)
        after = request.GET.get("after") or None
        filters = Filters(models=[tracked.label], object_id=key)
        try:
            page = timeline.page(scope, filters, first=self.history_list_per_page, after=after)
        except (BadFilter, BadCursor) as error:
            raise Http404(error.message) from error
        live = self.get_object(request, object_id)
        if not page.entries and (live is None or not self.has_view_permission(request, live)):
            raise Http404(_("No such object."))
        label = page.entries[0].object_label if page.entries else tracked.plain_label(live)
        columns = self.get_history_list_display(request)
        context = {
            **self.admin_site.each_context(request),
            "title": _("History: %s") % label,
            "label": label,
            "rows": self._rows(scope, tracked, page.entries, columns, newest_first=after is None),
            "columns": [capfirst(column.replace("_", " ")) for column in columns],
            "next_cursor": page.entries[-1].cursor if page.has_next_page else None,
            "is_continued": after is not None,
            "module_name": capfirst(str(self.opts.verbose_name_plural)),
            "object": live,
            "opts": self.opts,
            **(extra_context or {}),
        }
        return self.render_history_view(request, self.object_history_template, context)  # type: ignore[no-any-return]

    def history_form_view(
        self, request: HttpRequest, object_id: str, version_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """What going back to an entry would do, to be confirmed."""
        request.current_app = self.admin_site.name
        scope, tracked = self._visible(request)
        number = int(version_id) if version_id.isascii() and version_id.isdigit() and len(version_id) < 19 else -1
        entry = timeline.get_entry(scope, tracked.label, number)
        if entry is None or entry.object_id != unquote(object_id):
            raise Http404(_("No such entry."))
        if not may_revert(scope, tracked):
            raise PermissionDenied
        meta = self.opts
        page = RevertPage(
            site=self.admin_site,
            title=_("Go back: %s") % entry.object_label,
            subject=_("%(object)s as it was on %(date)s")
            % {"object": entry.object_label, "date": entry.date.isoformat(sep=" ", timespec="seconds")},
            back_url=reverse(
                f"{self.admin_site.name}:{meta.app_label}_{meta.model_name}_history", args=[quote(entry.object_id)]
            ),
            opts=meta,
            revert=lambda viewer, **options: revert_to(viewer, tracked.label, number, **options),
        )
        return page.respond(request)

    def _visible(self, request: HttpRequest) -> tuple[Scope, TrackedModel]:
        scope = scope_of(request)
        tracked = registry.for_model(self.model)
        if tracked is None or tracked not in scope.models:
            raise PermissionDenied
        return scope, tracked

    def _rows(
        self, scope: Scope, tracked: TrackedModel, entries: list[Entry], columns: Any, *, newest_first: bool
    ) -> list[dict[str, Any]]:
        rows = entry_rows(scope, self.admin_site, entries, [tracked] if may_revert(scope, tracked) else [])
        shown = []
        for place, row in enumerate(rows):
            # Going back to the newest entry is going nowhere.
            revert_url = "" if newest_first and place == 0 else row.revert_url
            shown.append({"row": row, "revert_url": revert_url, "extra": [self._extra(row, name) for name in columns]})
        return shown

    def _extra(self, row: Row, name: str) -> Any:
        entry = row.of
        if not isinstance(entry, Entry):
            raise TypeError("only entries have further columns")
        if name in entry.tracked.names:
            return entry.snapshot.get(name)
        method = getattr(self, name, None)
        return method(entry.row) if callable(method) else getattr(entry.row, name)
