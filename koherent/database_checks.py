"""The system check that asks the database: ``manage.py check --database default``, and every ``migrate``."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connections

from koherent.models import Assignation
from koherent.registry import tracked_on
from koherent.runs import has_runs
from koherent.verify import foreign_positions


@register(Tags.database)
def check_positions(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **_: Any
) -> list[CheckMessage]:
    """No entry has a position that this PostgreSQL cluster has not reached: it came here by dump and restore.

    A table that is not there yet, or has no position yet, is passed over: this runs before migrations do.
    """
    messages: list[CheckMessage] = []
    for alias in databases or ():
        if connections[alias].vendor != "postgresql":
            continue
        there = _columns(alias)
        for tracked in tracked_on(alias):
            read = [(tracked.history_model._meta.db_table.strip('"'), name) for name in ("position", "in_run")]
            if has_runs(connections[alias]):
                read.append((Assignation._meta.db_table, "position"))
            if not there.issuperset(read):
                continue
            for finding in foreign_positions(tracked, alias):
                messages.append(
                    Warning(
                        f"{finding.count} history entries have positions of another cluster: the feed would send "
                        "them again later.",
                        hint="Run manage.py koherent_baseline --repair right after restoring a dump.",
                        obj=tracked.model,
                        id="koherent.W010",
                    )
                )
    return messages


def _columns(alias: str) -> set[tuple[str, str]]:
    """Tables with the columns of theirs that this check reads."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE column_name IN ('position', 'in_run') AND table_schema = ANY (current_schemas(false))"
        )
        return set(cursor.fetchall())
