"""The system check that asks the database: ``manage.py check --database default``, and every ``migrate``."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.core.checks import CheckMessage, Tags, Warning, register
from django.db import connections

from koherent.models import Assignation
from koherent.registry import TrackedModel, tracked_on
from koherent.statements import LONGEST, quote
from koherent.verify import FOREIGN


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
            table = tracked.history_model._meta.db_table.strip('"')
            if not {(table, "position"), (table, "in_run")} <= there:
                continue
            count = _count_foreign(tracked, alias, (Assignation._meta.db_table, "position") in there)
            if count:
                messages.append(
                    Warning(
                        f"{count} history entries have positions of another cluster: the feed would send them again "
                        "later.",
                        hint="Run manage.py koherent_baseline --repair right after restoring a dump.",
                        obj=tracked.model,
                        id="koherent.W010",
                    )
                )
    return messages


def _count_foreign(tracked: TrackedModel, alias: str, runs: bool) -> int:
    """The entries that the feed would send, alone and of ``runs``, by the indexes that it reads. One statement."""
    history = quote(tracked.history_model._meta.db_table)
    counts, params = [f"(SELECT COUNT(*) FROM {history} WHERE NOT in_run AND {FOREIGN})"], list[str]()
    if runs:
        entries = f"SELECT 1 FROM {history} WHERE history_id BETWEEN r.first_id AND r.last_id AND in_run"
        counts.append(
            f"(SELECT COUNT(*) FROM (SELECT first_id, last_id, position FROM {quote(Assignation._meta.db_table)} "
            f"WHERE model = %s AND {FOREIGN}) r "
            f"CROSS JOIN LATERAL ({entries} AND position = r.position LIMIT {LONGEST}) e)"
        )
        params.append(tracked.label)
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SELECT {' + '.join(counts)}", params)
        return int(cursor.fetchone()[0])


def _columns(alias: str) -> set[tuple[str, str]]:
    """Tables with the columns of theirs that this check reads."""
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE column_name IN ('position', 'in_run') AND table_schema = ANY (current_schemas(false))"
        )
        return set(cursor.fetchall())
