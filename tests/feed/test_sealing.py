"""A feed cursor tells its holder nothing, and nobody makes one."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from example_schema.models import Tag
from koherent.errors import BadCursor
from koherent.feed.cursor import Position, current_position, parse
from koherent.feed.sealing import BLOCK, seal, unseal


@given(st.text())
def test_what_is_sealed_comes_back(text: str) -> None:
    if not text.endswith(" "):
        assert unseal(seal(text)).rstrip(" ") == text


@given(st.text(max_size=BLOCK // 4), st.text(max_size=BLOCK // 4))
def test_short_texts_look_alike(one: str, other: str) -> None:
    if one.encode() and other.encode():
        assert len(seal(one)) == len(seal(other))
    assert seal(one) != seal(one)


@given(st.text())
def test_what_was_not_sealed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not sealed"):
        unseal(text)


def test_every_byte_counts() -> None:
    whole = base64.urlsafe_b64decode(seal("x" * 32) + "==")
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1
        with pytest.raises(ValueError, match="not sealed"):
            unseal(base64.urlsafe_b64encode(bytes(changed)).decode().rstrip("="))


def test_a_new_key_reads_what_an_old_one_sealed(settings: Any) -> None:
    sealed, old = seal("text"), settings.SECRET_KEY
    settings.SECRET_KEY = "another"
    with pytest.raises(ValueError, match="not sealed"):
        unseal(sealed)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert unseal(sealed).rstrip() == "text"


def alone(position: Position) -> Position:
    """The position on a server that runs nothing else: each transaction that is running makes a cursor longer."""
    if position.snapshot is None:
        return position
    return replace(position, snapshot=replace(position.snapshot, running=frozenset()))


@pytest.mark.django_db(transaction=True)
def test_a_cursor_does_not_show_what_is_in_it(settings: Any) -> None:
    before = alone(current_position())
    Tag.objects.create(name="tag")
    after = alone(current_position())
    assert before != after
    assert b"example_schema" not in base64.urlsafe_b64decode(after.cursor + "=" * (-len(after.cursor) % 4))
    assert len(before.cursor) == len(after.cursor)
    assert parse(after.cursor) == after
    settings.SECRET_KEY = "another"
    with pytest.raises(BadCursor):
        parse(after.cursor)
