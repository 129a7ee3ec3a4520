"""Objects that were read together, so that what one of them is asked for is read for all of them at once.

A history that N objects of a list are asked for costs what one costs. Whatever brought the objects - a queryset, a
prefetch or ``select_related`` - marks them as peers; in asynchronous code, objects that nothing has marked become peers
when they are asked in the same turn of the event loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar, cast

import strawberry
from django.db.models import Model, Prefetch, QuerySet
from django.db.models.query import ModelIterable

from koherent import registry
from koherent.graphql.resolving import in_sync

T = TypeVar("T")

#: The name under which Django's ``prefetch_related`` finds ``PeersPrefetcher``.
LOOKUP = "koherent_peers"


class Peers:
    """The primary keys of objects that were read together, and what an operation has read for all of them."""

    def __init__(self) -> None:
        self.keys: list[Any] = []
        self._operation: Any = None
        self._results: dict[tuple[int, ...], Any] = {}

    def __reduce__(self) -> Any:
        # An object that is pickled, into a cache say, leaves its peers behind.
        return Peers, ()

    def add(self, instance: Model) -> None:
        """Make an object one of these."""
        self.keys.append(instance.pk)
        instance._state.koherent_peers = self  # type: ignore[attr-defined]

    @classmethod
    def of(cls, instance: Model) -> "Peers | None":
        """The peers of an object, if anything has marked it."""
        found: Peers | None = getattr(instance._state, "koherent_peers", None)
        return found

    def results(self, operation: Any) -> dict[tuple[int, ...], Any]:
        """What has been read, for this operation alone: another one may be somebody else's."""
        if self._operation is not operation:
            self._operation, self._results = operation, {}
        return self._results


class _PeersIterable(ModelIterable):  # type: ignore[type-arg]
    """Marks the objects of one query as peers."""

    def __iter__(self) -> Iterator[Any]:
        # ``iterator()`` is for those who do not want all objects in memory, not even their keys.
        peers = None if getattr(self, "chunked_fetch", False) else Peers()
        for instance in super().__iter__():
            if peers is not None:
                peers.add(instance)
            yield instance


def with_peers(queryset: Any) -> Any:
    """The queryset, whose objects will be peers; anything else is given back as it is."""
    if not isinstance(queryset, QuerySet):
        return queryset
    marked: Any = queryset
    if marked._result_cache is not None:
        mark(marked._result_cache)
    elif marked._iterable_class is ModelIterable:
        marked = marked._chain()
        marked._iterable_class = _PeersIterable
    return marked


def mark(instances: Iterable[Any]) -> None:
    """Make objects peers of each other."""
    peers = Peers()
    for instance in instances:
        if isinstance(instance, Model):
            peers.add(instance)


class PeersPrefetcher:
    """Stands on tracked models under ``LOOKUP``: a prefetch that reads nothing, but sees all objects of its level."""

    def __get__(self, instance: Any, owner: type[Any]) -> "PeersPrefetcher":
        return self

    def is_cached(self, instance: Model) -> bool:
        """Never: the objects of a new reading have new peers."""
        return False

    def get_prefetch_querysets(self, instances: Iterable[Model], querysets: Any = None) -> Any:
        """Django's protocol: nothing to fetch, nothing to match."""
        mark(instances)
        return [], _no_key, _no_key, True, LOOKUP, False


def _no_key(_: Any) -> None:
    return None


def peers_prefetch(info: Any) -> "Prefetch[str]":
    """The optimizer's hint: where an operation asks for histories, objects get peers by a prefetch."""
    for tracked in registry.tracked_models():
        if LOOKUP not in tracked.model.__dict__:
            setattr(tracked.model, LOOKUP, PeersPrefetcher())
    return Prefetch(LOOKUP)


#: Keys without peers, by operation and kind, that were asked in this turn of an event loop.
_waiting: dict[tuple[int, Any], tuple[Any, Peers]] = {}


def for_peers(
    info: strawberry.Info, kind: Any, key: Any, peers: Peers | None, read: Callable[[list[Any]], dict[Any, T]]
) -> T:
    """``read(keys)[key]``, where ``read`` is called once for all keys of ``peers``, ``key`` being one of them.

    While an event loop is running this returns an awaitable, which the executor awaits; then keys of one ``kind``
    without peers become peers when they are asked in the same turn of the loop. ``read`` is synchronous.
    """
    raw: Any = info._raw_info
    operation = raw.variable_values  # made anew for each execution
    asked = tuple(id(node) for node in raw.field_nodes)
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        if peers is None:
            return in_sync(lambda: read([key]))[key]
        results, keys = peers.results(operation), peers.keys
        if asked not in results:
            results[asked] = in_sync(lambda: read(_distinct(keys)))
        return cast("T", results[asked][key])
    if peers is None:
        peers = _in_this_turn(loop, operation, kind)
        peers.keys.append(key)
    return cast("T", _pick(peers, peers.results(operation), asked, key, read))


async def _pick(peers: Peers, results: Any, asked: tuple[int, ...], key: Any, read: Callable[..., Any]) -> Any:
    if asked not in results:
        results[asked] = asyncio.ensure_future(cast("Awaitable[Any]", in_sync(lambda: read(_distinct(peers.keys)))))
    return (await results[asked])[key]


def _in_this_turn(loop: asyncio.AbstractEventLoop, operation: Any, kind: Any) -> Peers:
    key = (id(operation), kind)
    known = _waiting.get(key)
    if known is not None and known[0] is operation:
        return known[1]
    peers = Peers()
    _waiting[key] = (operation, peers)
    # The reading starts in the next turn: who comes then has peers of its own.
    loop.call_soon(_waiting.pop, key, None)
    return peers


def _distinct(keys: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(keys))
