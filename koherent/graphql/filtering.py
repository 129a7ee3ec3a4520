"""``HistoryFilterMixin``: a team's own models, filtered by their history."""

import strawberry
import strawberry_django
from django.db import DEFAULT_DB_ALIAS
from django.db.models import Exists, OuterRef, Q
from strawberry_django.utils.typing import get_django_definition

from koherent import registry
from koherent.errors import KoherentError
from koherent.graphql.errors import coded
from koherent.graphql.inputs import HistoryFilter
from koherent.graphql.requests import viewer_of
from koherent.policy import scope_for
from koherent.registry import TrackedModel
from koherent.runs import having
from koherent.timeline.filters import Filters, Selected


def _condition(tracked: TrackedModel, filters: Filters, selected: Selected) -> Q:
    """What the entries have to be; where that names few of them, so that a database may begin with the entries."""
    rare = filters.users is not None or filters.apps is not None or filters.assignation_id is not None
    if rare and not selected.of_object:
        return having(tracked, DEFAULT_DB_ALIAS, selected.whole)
    return selected.whole


@strawberry.input(description="Filters objects by their history.")
class HistoryFilterMixin:
    """A base for a ``strawberry_django.filter_type`` of a tracked model; adds ``history: HistoryFilter``.

    An object matches when it has an entry that the caller may see and that matches all of the filter. It comes once,
    however many entries match. Who may not read any history gets the coded error.
    """

    @strawberry_django.filter_field(description="Only objects with an entry in their history like this.")
    def history(self, info: strawberry.Info, value: HistoryFilter, prefix: str) -> Q:
        """``EXISTS``, so that nothing is joined and no object comes twice."""
        model = get_django_definition(type(self), strict=True).model
        tracked = registry.for_model(model)
        if tracked is None:
            raise TypeError(
                f"HistoryFilterMixin is for filters of tracked models; {model.__name__} has no HistoryField."
            )
        try:
            scope = scope_for(viewer_of(info))
            filters = value.to_filters()
            selected = [some for some in filters.resolve(scope) if some.tracked is tracked]
        except KoherentError as error:
            raise coded(error) from error
        rows = scope.entries(tracked)
        rows = rows.filter(_condition(tracked, filters, selected[0])) if selected else rows.none()
        return Q(Exists(rows.filter(**{tracked.pk_attname: OuterRef(f"{prefix}pk")})))
