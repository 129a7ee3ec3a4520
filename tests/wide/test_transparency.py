"""Recording is not to be noticed: what a write returns, raises and signals is what it is without koherent."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import models, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete, pre_save

import koherent
from tests.wide.models import Folder
from tests.wide.test_paths import CELLS, refusal

pytestmark = pytest.mark.django_db(databases=["default", "other"])

SIGNALS = {
    "pre_save": pre_save,
    "post_save": post_save,
    "pre_delete": pre_delete,
    "post_delete": post_delete,
    "m2m_changed": m2m_changed,
}


@contextmanager
def heard() -> Iterator[list[tuple[Any, ...]]]:
    """What a listener hears of the models of this project: (signal, model, object, what it says about the write)."""
    log: list[tuple[Any, ...]] = []
    listeners: list[Any] = []
    for kind, signal in SIGNALS.items():

        def listen(
            sender: Any, instance: Any, kind: str = kind, action: str = "", created: bool | None = None, **_: Any
        ) -> None:
            if sender._meta.app_label == "wide":
                log.append((kind, sender._meta.label, str(instance), action, created))

        signal.connect(listen)
        listeners.append((signal, listen))
    try:
        yield log
    finally:
        for signal, listen in listeners:
            signal.disconnect(listen)


def plain(value: Any) -> Any:
    """A result without keys that the database hands out anew."""
    if isinstance(value, models.Model):
        return type(value), "" if type(value)._meta.auto_created else str(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


@pytest.mark.parametrize("name", CELLS)
def test_a_write_returns_and_signals_what_django_does(name: str) -> None:
    given, path = CELLS[name]
    seen = []
    for recording in (False, True):
        with transaction.atomic(), transaction.atomic(using="other"):
            case = given()
            result: Any = None
            with heard() as log, refusal(path):
                if recording:
                    result = path.write(case)
                else:
                    with koherent.pause():
                        result = path.write(case)
            # Where keys are random, so is the order of one statement's objects.
            seen.append((plain(result), sorted(log, key=repr) if "uuid" in name or "reverse" in name else log))
            transaction.set_rollback(True)
            transaction.set_rollback(True, using="other")
    assert seen[0] == seen[1]


def test_an_update_in_a_unit_of_work_sees_no_row_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """One statement, however many rows: what it does to some must not decide on the others."""
    monkeypatch.setattr("koherent.managers.BATCH", 1)
    with koherent.atomic():
        top = Folder.objects.create(name="old")
        inner = Folder.objects.create(name="old", parent=top)
        Folder.objects.create(name="inmost", parent=inner)
        matching = Folder.objects.filter(models.Q(parent=None) | models.Q(parent__name="old"))
        assert matching.update(name="new") == 3
    assert list(Folder.objects.values_list("name", flat=True)) == ["new"] * 3
    made = [("+", "old"), ("+", "old"), ("+", "inmost")]
    assert list(Folder.history.order_by("history_id").values_list("history_type", "name")) == [
        *made,
        *[("~", "new")] * 3,
    ]
