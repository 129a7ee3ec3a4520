"""The page that shows what a revert would do, and does exactly that once it is confirmed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import AdminSite
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from koherent.admin.access import attributed, scope_of, viewer_of
from koherent.admin.showing import assignation_url, step_rows
from koherent.claims import MAX_TEXT
from koherent.conf import settings
from koherent.errors import Forbidden, KoherentError, NotFound
from koherent.revert import Report, RevertPolicy, RevertStatus

POLICIES = (
    (RevertPolicy.ABORT.name, gettext_lazy("Write nothing if there is any conflict")),
    (RevertPolicy.SKIP_CONFLICTS.name, gettext_lazy("Leave out what conflicts")),
    (RevertPolicy.OVERWRITE.name, gettext_lazy("Overwrite later changes")),
)


class ConfirmForm(forms.Form):
    """What is confirmed: the plan that was shown, under its policy; and why."""

    plan = forms.CharField(widget=forms.HiddenInput)
    policy = forms.ChoiceField(choices=POLICIES, widget=forms.HiddenInput)
    reason = forms.CharField(
        required=False,
        max_length=MAX_TEXT,
        label=gettext_lazy("Reason"),
        widget=forms.TextInput(attrs={"class": "vTextField"}),
    )


@dataclass(frozen=True, kw_only=True)
class RevertPage:
    """One revert on one site. ``revert`` is called as ``revert(viewer, policy=, dry_run=, ...)`` and gives a report."""

    site: AdminSite
    title: str
    subject: str
    back_url: str
    opts: Any
    revert: Callable[..., Report]

    def respond(self, request: HttpRequest) -> HttpResponse:
        """The plan, or after a confirmed plan a redirect; what is refused is told there. Raises ``Http404``."""
        scope_of(request)
        try:
            return self._apply(request) if request.method == "POST" else self._show(request, _policy(request))
        except NotFound as error:
            raise Http404(error.message) from error
        except KoherentError as error:
            return self._render(request, {"error": error}, status=403 if isinstance(error, Forbidden) else 400)

    def _apply(self, request: HttpRequest) -> HttpResponse:
        form = ConfirmForm(request.POST)
        if not form.is_valid():
            return self._show(request, _policy(request), form)
        wanted = form.cleaned_data
        policy = RevertPolicy[wanted["policy"]]
        with attributed(request):
            report = self.revert(
                viewer_of(request), policy=policy, expected_plan=wanted["plan"], reason=wanted["reason"] or None
            )
        if report.status is RevertStatus.CONFLICTED:
            messages.warning(request, _("Nothing was written: meanwhile something changed. This is the plan now."))
            return self._show(request, policy)
        if report.assignation_id is None:
            messages.info(request, _("Nothing to do: everything is as wanted already."))
            return HttpResponseRedirect(self.back_url)
        text = _("Undone, as assignation %(id)s: %(count)d entries were written.")
        messages.success(request, text % {"id": report.assignation_id, "count": len(report.entry_keys)})
        return HttpResponseRedirect(assignation_url(self.site, report.assignation_id) or self.back_url)

    def _show(self, request: HttpRequest, policy: RevertPolicy, form: ConfirmForm | None = None) -> HttpResponse:
        report = self.revert(viewer_of(request), policy=policy, dry_run=True)
        start, size = _start(request), settings().page_limit
        steps = report.steps[start : start + size]
        confirm = form or ConfirmForm(initial={"plan": report.plan, "policy": policy.name})
        return self._render(
            request,
            {
                "report": report,
                "rows": step_rows(scope_of(request), self.site, steps),
                "first": start + 1,
                "last": start + len(steps),
                "next_start": start + size if start + size < len(report.steps) else None,
                "previous_start": max(0, start - size) if start else None,
                "policy": policy.name,
                "policies": POLICIES,
                "form": confirm if report.status is RevertStatus.PLANNED else None,
            },
        )

    def _render(self, request: HttpRequest, context: dict[str, Any], status: int = 200) -> HttpResponse:
        request.current_app = self.site.name
        about = {"title": self.title, "subject": self.subject, "back_url": self.back_url, "opts": self.opts}
        every = {**self.site.each_context(request), **about, **context}
        return TemplateResponse(request, "koherent/admin/revert.html", every, status=status)


def _policy(request: HttpRequest) -> RevertPolicy:
    name = str(request.POST.get("policy") or request.GET.get("policy"))
    return RevertPolicy[name] if name in RevertPolicy.__members__ else RevertPolicy.ABORT


def _start(request: HttpRequest) -> int:
    text = request.GET.get("start", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
