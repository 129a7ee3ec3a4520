"""Takes a person's name out of all history tables."""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.models import Q
from django.db.models.functions import Cast

from koherent import locks, runs
from koherent.context import current_audit, erasure_audit
from koherent.erasure.entries import write_entry
from koherent.errors import BadInput
from koherent.registry import TrackedModel, tracked_on
from koherent.timeline.cursors import Position
from koherent.timeline.search import KEY

BATCH = 5_000

#: What stands where a name was.
ERASED_NAME = "[erased]"

#: The key in the ``metadata`` of the erasure's entries that tells whose names went: the account's key.
ERASED_ACTOR = "koherent:erased-actor"

logger = logging.getLogger("koherent")


@dataclass(frozen=True, kw_only=True)
class ActorReport:
    """What the erasure of a person did: ``entries`` that no longer name them as actor, ``metadata``: entries of anybody
    whose metadata named them. ``erasures`` are the erasure's own entries, (label, history id)."""

    key: str
    entries: int
    metadata: int
    erasures: tuple[tuple[str, int], ...] = ()


def erase_actor(
    user: Any,
    *,
    traces: Iterable[str] = (),
    reason: str | None = None,
    dry_run: bool = False,
    using: str = DEFAULT_DB_ALIAS,
    progress: Callable[[int], None] = lambda _: None,
) -> ActorReport:
    """Replace a person's name in a database's history tables, and wherever a value in ``metadata`` is a name of theirs.

    ``user`` is an account, or the key of one that is gone. Names are the account's user name, e-mail address and full
    name as far as it is there, the names under which entries were written, and ``traces``; upper and lower case are
    the same. The account's key stays on the entries, so that they still belong together; ``history_user`` is cleared.
    The values of tracked objects are left alone: ``erase()`` those. In each table where a name is, the erasure is
    itself an entry, attributed to the context in force, about the newest object whose entries have it; its metadata
    tells the account's key. Commits chunk by chunk, so it can be interrupted and run again. Each table is looked at
    twice, and ``progress`` is called with 1 after each. Raises ``BadInput`` without a key.
    """
    key = user.pk if isinstance(user, models.Model) else user
    if key is None or not str(key):
        raise BadInput("erase_actor() needs an account, or the key of one.")
    erasure = _Actor(str(key), using, dry_run)
    names = erasure.names(user, traces)
    entries = metadata = 0
    with erasure_audit(reason, {ERASED_ACTOR: str(key)}):
        for tracked in tracked_on(using):
            entries += erasure.clear(tracked)
            progress(1)
        for tracked in tracked_on(using):
            metadata += erasure.replace(tracked, names)
            progress(1)
    if not dry_run:
        logger.info("erased the actor %s from %d entries, and from the metadata of %d", key, entries, metadata)
    return ActorReport(
        key=str(key),
        entries=entries,
        metadata=metadata,
        erasures=tuple((tracked.label, history_id) for tracked, history_id in erasure.own.items()),
    )


class _Actor:
    def __init__(self, key: str, using: str, dry_run: bool) -> None:
        self.key, self.using, self.dry_run = key, using, dry_run
        #: The entries of the person, as far as they know an actor.
        self.named = Q(actor_id=key)
        #: The erasure's own entry in each table.
        self.own: dict[TrackedModel, int] = {}
        accounts: Any = get_user_model()
        try:
            self.pk = accounts._meta.pk.to_python(key)
        except ValidationError:
            # A key of another kind than the accounts' of today: nothing refers to it.
            self.pk = None

    def _history(self, tracked: TrackedModel) -> Any:
        return tracked.history_model._base_manager.using(self.using)

    def names(self, user: Any, traces: Iterable[str]) -> frozenset[str]:
        """All that the person is called; the place holder is none of it."""
        found = set(traces)
        accounts: Any = get_user_model()
        account = user if isinstance(user, models.Model) else None
        if account is None and self.pk is not None:
            account = accounts._base_manager.filter(pk=self.pk).first()
        if account is not None:
            plain: Any = account
            found.add(str(plain.get_username()))
            found.add(str(getattr(plain, plain.get_email_field_name(), "") or ""))
            found.add(str(plain.get_full_name()) if hasattr(plain, "get_full_name") else "")
        for tracked in tracked_on(self.using):
            written = self._history(tracked).filter(runs.having(tracked, self.using, self.named)).order_by()
            found.update(written.values_list("actor_name", flat=True).distinct())
        return frozenset(name for name in found if name and name.strip() and name != ERASED_NAME)

    def clear(self, tracked: TrackedModel) -> int:
        """The person as actor of a model's entries."""
        left = ~Q(actor_name=ERASED_NAME) | Q(actor_name=None) | Q(history_user_id__isnull=False)
        rows = self._history(tracked).filter(left)
        # Rows from before koherent have no other name of the account.
        old = [] if self.pk is None else [Q(history_user_id=self.pk, actor_id__isnull=True)]
        every = rows.filter(runs.having(tracked, self.using, self.named, *old))
        if self.dry_run:
            return int(every.count())
        self._say(tracked, every.order_by("-pk").values_list(tracked.pk_attname, flat=True).first())
        # One after the other, each chunk from an index: ``having()`` would read all of them for each chunk.
        chunks = [self._alone(tracked, rows), *(self._chunks(rows.filter(of)) for of in old)]
        for first, last in runs.ranges(tracked, self.using, self.named):
            chunks.append(self._chunks(rows.filter(self.named, in_run=True, pk__gte=first, pk__lte=last)))
        cleared = 0
        for ids in chain.from_iterable(chunks):
            self._unname(tracked, ids)
            cleared += len(ids)
        return cleared

    def _unname(self, tracked: TrackedModel, ids: Sequence[int]) -> None:
        rows = self._history(tracked).filter(pk__in=ids)
        rows.update(actor_id=self.key, actor_name=ERASED_NAME, **{_user_field(tracked): None})

    def _say(self, tracked: TrackedModel, pk: Any) -> None:
        """Write the erasure's own entry, once in a table; whoever erases themselves is not named by it either."""
        if pk is None or tracked in self.own:
            return
        with transaction.atomic(using=self.using):
            self.own[tracked] = write_entry(tracked, self.using, pk)
            context = current_audit()
            if context.actor is not None and context.actor.key == self.key:
                self._unname(tracked, [self.own[tracked]])

    def replace(self, tracked: TrackedModel, names: frozenset[str]) -> int:
        """The person's names as values in metadata, of any entry."""
        if not names:
            return 0
        folded = frozenset(name.casefold() for name in names)
        mentions = Q()
        for written in {form for name in names for form in (name, name.lower(), name.upper(), name.title())}:
            # SQLite has the text as Python wrote it, PostgreSQL as it writes JSON itself.
            for text in {json.dumps(written), json.dumps(written, ensure_ascii=False)}:
                mentions |= Q(koherent_text__icontains=text)
        suspects = self._history(tracked).annotate(koherent_text=Cast("metadata", models.TextField())).filter(mentions)
        replaced = 0
        for ids in self._chunks(suspects):
            with transaction.atomic(using=self.using):
                if not self.dry_run:
                    # An erasure of values writes to metadata, too: what it marks there must not be written over.
                    locks.hold(connections[self.using], locks.erasing(tracked.label))
                columns = ("history_id", "metadata", tracked.pk_attname)
                rows = list(self._history(tracked).filter(pk__in=ids).only(*columns).order_by("pk"))
                changed = [row for row in rows if _replace_in(row, folded)]
                if changed and not self.dry_run:
                    self._say(tracked, getattr(changed[-1], tracked.pk_attname))
                    self._history(tracked).bulk_update(changed, ["metadata"], batch_size=500)
            replaced += len({row.pk for row in changed} - {self.own.get(tracked)})
        return replaced

    def _alone(self, tracked: TrackedModel, rows: Any) -> Iterator[list[int]]:
        """The person's entries that are in no run, in the order of their index."""
        rows = rows.filter(self.named, in_run=False).order_by(*KEY)
        page = rows
        while found := list(page.values_list(*KEY)[:BATCH]):
            yield [history_id for _, history_id in found]
            date, last = found[-1]
            page = rows.filter(Position(date, tracked.label, last).newer(tracked.label))

    def _chunks(self, rows: Any) -> Iterator[list[int]]:
        last = 0
        keys = rows.order_by("pk").values_list("pk", flat=True)
        while ids := list(keys.filter(pk__gt=last)[:BATCH]):
            yield ids
            last = ids[-1]


def _user_field(tracked: TrackedModel) -> str:
    return "history_user_id" if tracked.field.user_id_field is not None else "history_user"


def _replace_in(row: Any, names: frozenset[str]) -> bool:
    without = _without(row.metadata, names)
    changed = bool(without != row.metadata)
    row.metadata = without
    return changed


def _without(value: Any, names: frozenset[str]) -> Any:
    if isinstance(value, str):
        return ERASED_NAME if value.casefold() in names else value
    if isinstance(value, list):
        return [_without(inner, names) for inner in value]
    if isinstance(value, dict):
        return {key: _without(inner, names) for key, inner in value.items()}
    return value
