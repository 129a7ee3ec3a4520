"""What adopted history rows can still be told about: the actors whose accounts are there."""

from typing import Any

from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, transaction
from django.db.models import Case, CharField, Value, When

from koherent.claims import MAX_TEXT
from koherent.registry import TrackedModel
from koherent.verify import CHUNK, Advance

#: So many accounts in one statement.
ACCOUNTS = 200


def adopt_actors(
    tracked: TrackedModel, *, using: str = DEFAULT_DB_ALIAS, chunk: int = CHUNK, advance: Advance = lambda _: None
) -> int:
    """Copy key and name of each ``history_user`` who still exists to the actor of that entry; returns how many.

    Only entries without an actor are touched, ``chunk`` ids in a transaction: run again, it does what is missing.
    """
    history: Any = tracked.history_model._base_manager.using(using)
    accounts: Any = get_user_model()._base_manager
    rows = history.order_by("history_id").values_list("history_id", "history_user_id", "actor_id")
    written, last = 0, -1
    while page := list(rows.filter(history_id__gt=last)[:chunk]):
        last = page[-1][0]
        wanted = sorted({user for _, user, actor in page if user is not None and actor is None}, key=str)
        for start in range(0, len(wanted), ACCOUNTS):
            found = list(accounts.filter(pk__in=wanted[start : start + ACCOUNTS]))
            if found:
                entries = history.filter(history_id__gte=page[0][0], history_id__lte=last, actor_id=None)
                written += _name(entries.filter(history_user_id__in=[user.pk for user in found]), found, using)
        advance(len(page))
    return written


def _name(entries: Any, accounts: list[Any], using: str) -> int:
    def by_account(texts: list[str]) -> Case:
        whens = [When(history_user_id=a.pk, then=Value(t)) for a, t in zip(accounts, texts, strict=True)]
        return Case(*whens, output_field=CharField())

    keys, names = [str(a.pk) for a in accounts], [str(a.get_username())[:MAX_TEXT] for a in accounts]
    with transaction.atomic(using=using):
        # A run says for its entries that they have no actor.
        return int(entries.update(actor_id=by_account(keys), actor_name=by_account(names), in_run=False))
