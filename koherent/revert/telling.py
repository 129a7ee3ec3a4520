"""Django's save and delete signals for what a revert writes, when anybody but koherent listens."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from asgiref.sync import async_to_sync
from django.db import DEFAULT_DB_ALIAS
from django.db.models.signals import ModelSignal, post_delete, post_save, pre_delete, pre_save

from koherent.registry import TrackedModel
from koherent.revert.live import instances
from koherent.revert.steps import Planned
from koherent.revert.values import Model

Receiver = Callable[..., Any]


class Telling:
    """Sends the signals of the steps: ``before()`` anything is written, and ``after()`` all is recorded.

    Handlers get objects with the values that are written; a value that they set on them is not. What they save
    themselves is recorded as part of the revert.
    """

    def __init__(self, steps: Sequence[Planned]) -> None:
        self._steps: dict[TrackedModel, list[Planned]] = {}
        for step in steps:
            self._steps.setdefault(step.tracked, []).append(step)
        # Objects that are gone cannot be read again.
        self._gone: dict[TrackedModel, list[Any]] = {}

    def is_heard_before(self) -> bool:
        """Whether ``before()`` has anybody to tell, who may write."""
        return any(_others(signal, tracked.model) for tracked in self._steps for signal in (pre_delete, pre_save))

    def before(self) -> None:
        """``pre_delete`` and ``pre_save``."""
        for tracked, steps in self._steps.items():
            going = [step for step in steps if step.action == "-"]
            listeners = _others(pre_delete, tracked.model)
            keep = bool(_others(post_delete, tracked.model))
            if going and (listeners or keep):
                for _step, instance in instances(tracked, going):
                    _send(listeners, pre_delete, tracked.model, instance=instance, origin=instance)
                    if keep:
                        self._gone.setdefault(tracked, []).append(instance)
            for step, instance in self._saved(tracked, pre_save):
                _send(_others(pre_save, tracked.model), pre_save, tracked.model, instance=instance, **_saving(step))

    def after(self) -> None:
        """``post_delete`` and ``post_save``."""
        for tracked, gone in self._gone.items():
            for instance in gone:
                _send(
                    _others(post_delete, tracked.model), post_delete, tracked.model, instance=instance, origin=instance
                )
        for tracked in self._steps:
            listeners = _others(post_save, tracked.model)
            for step, instance in self._saved(tracked, post_save):
                created = step.action == "+"
                _send(listeners, post_save, tracked.model, instance=instance, created=created, **_saving(step))

    def _saved(self, tracked: TrackedModel, signal: ModelSignal) -> Iterator[tuple[Planned, Any]]:
        if _others(signal, tracked.model):
            yield from instances(tracked, [step for step in self._steps[tracked] if step.action != "-"])


def _saving(step: Planned) -> dict[str, Any]:
    return {"raw": False, "update_fields": step.columns.names if step.action == "~" else None}


def _others(signal: ModelSignal, sender: Model) -> list[tuple[bool, Receiver]]:
    """Who listens besides koherent: whether it is asynchronous, and the receiver."""
    found: Any = signal._live_receivers(sender)  # has_listeners() counts our own
    synchronous, asynchronous = found
    listeners = [(False, receiver) for receiver in synchronous] + [(True, receiver) for receiver in asynchronous]
    return [(waits, receiver) for waits, receiver in listeners if not _is_own(receiver)]


def _is_own(receiver: Any) -> bool:
    function = receiver.func if isinstance(receiver, partial) else receiver
    return str(getattr(function, "__module__", "")).partition(".")[0] == "koherent"


def _send(listeners: Sequence[tuple[bool, Receiver]], signal: ModelSignal, sender: Model, **named: Any) -> None:
    for asynchronous, receiver in listeners:
        call: Receiver = async_to_sync(receiver) if asynchronous else receiver
        call(signal=signal, sender=sender, using=DEFAULT_DB_ALIAS, **named)
