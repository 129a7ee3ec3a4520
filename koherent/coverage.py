"""Which models of the project nobody records: the opt-in proof that the trail covers all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.db import models
from simple_history.models import HistoricalChanges, HistoricalRecords

from koherent import registry
from koherent.conf import settings

OWN_APP = "koherent"


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Rows that change without an entry: a model's, or the links of a many-to-many field.

    ``label`` is what an exemption names; ``remedy`` is what would make koherent record them.
    """

    model: type[models.Model]
    label: str
    name: str
    remedy: str


def gaps() -> list[Gap]:
    """All that is neither tracked nor exempt, by label; empty where ``REQUIRE_COVERAGE`` is not set."""
    conf = settings()
    if not conf.require_coverage:
        return []
    exempt = {label.lower() for label in conf.exempt}
    return [gap for gap in _untracked() if not exempt & {gap.label, gap.label.split(".")[0]}]


def useless_exemptions() -> list[tuple[str, str]]:
    """The labels of ``EXEMPT`` that exempt nothing, each with the reason."""
    conf = settings()
    untracked = {gap.label for gap in _untracked()}
    apps_with_gaps = {label.split(".")[0] for label in untracked}
    known = {model._meta.label_lower for model in apps.get_models(include_auto_created=True)}
    known |= {config.label for config in apps.get_app_configs()}
    useless: list[tuple[str, str]] = []
    for label in conf.exempt:
        name = label.lower()
        if name not in known:
            useless.append((label, "which is no model and no app"))
        elif name not in untracked | apps_with_gaps:
            useless.append((label, "which needs no exemption"))
    return useless


def _untracked() -> list[Gap]:
    histories = _history_models()
    found: list[Gap] = []
    for model in apps.get_models():
        meta = model._meta
        # A proxy has no table of its own; an unmanaged table is a view, or belongs to somebody else.
        if meta.app_label == OWN_APP or meta.proxy or not meta.managed or model in histories:
            continue
        tracked = registry.for_model(model)
        if tracked is not None:
            found += _links(tracked)
        elif model not in _recorded_through():
            remedy = "Give it a HistoryField"
            found.append(Gap(model=model, label=meta.label_lower, name=meta.label, remedy=remedy))
    return sorted(found, key=lambda gap: gap.label)


def _links(tracked: registry.TrackedModel) -> Iterator[Gap]:
    """Fields of a tracked model whose links live in a table that Django made, and are not recorded with it."""
    for field in tracked.model._meta.local_many_to_many:
        through: Any = field.remote_field.through
        if through._meta.auto_created and field.name not in tracked.names:
            yield Gap(
                model=tracked.model,
                label=through._meta.label_lower,
                name=f"{tracked.model._meta.label}.{field.name}",
                remedy="Add the field to HistoryField(m2m_fields=...)",
            )


def _recorded_through() -> set[type[models.Model]]:
    return {m2m.through for tracked in registry.tracked_models() for m2m in tracked.m2m}


def _history_models() -> set[type[models.Model]]:
    """The tables that django-simple-history made, koherent's and anybody else's."""
    links = set(HistoricalRecords.m2m_models.values())
    return {model for model in apps.get_models() if issubclass(model, HistoricalChanges)} | links
