"""Attribution of what plain Django views change: REST views, forms, the admin."""

from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest, HttpResponseBase, JsonResponse

from koherent.context import request_audit
from koherent.errors import KoherentError
from koherent.request import RequestInfo, known


class AuditMiddleware:
    """Puts every request's user, app, assignation and reason in force, in sync and async stacks.

    A header that cannot be stored is answered with status 400, in the shape of a GraphQL error so that GraphQL clients
    read it too; the view does not run.
    Place it behind the authentication middleware.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        """The response, or in an async stack a coroutine of it."""
        return self._async(request) if self.is_async else self._sync(request)

    def _sync(self, request: HttpRequest) -> HttpResponseBase:
        try:
            audit = request_audit(request_info(request))
        except KoherentError as error:
            return _refusal(error)
        with audit:
            response: HttpResponseBase = self.get_response(request)
        return response

    async def _async(self, request: HttpRequest) -> HttpResponseBase:
        try:
            audit = request_audit(request_info(request))
        except KoherentError as error:
            return _refusal(error)
        with audit:
            response: HttpResponseBase = await self.get_response(request)
        return response


def request_info(request: HttpRequest) -> RequestInfo:
    """What a Django request tells; its user stays lazy."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    return RequestInfo(
        user=getattr(request, "user", None),
        client=known(getattr(request, "client", None), "client_id"),
        provenance=known(getattr(request, "provenance", None), "tsk"),
        headers=headers,
        request=request,
        scope=getattr(request, "scope", {}),
        find_user=lambda: getattr(request, "user", None),
    )


def _refusal(error: KoherentError) -> JsonResponse:
    return JsonResponse({"errors": [{"message": error.message, "extensions": error.extensions}]}, status=400)
