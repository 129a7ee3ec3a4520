"""Texts that only this project reads: what a cursor says of the whole database is not for the one who holds it.

A fresh nonce makes each sealed text another one, so that two of them do not tell whether anything happened between.
"""

import base64
import binascii
import hashlib
import hmac
import os
from functools import lru_cache

from django.conf import settings as django_settings
from django.utils.crypto import salted_hmac

NONCE, TAG = 12, 16
#: Texts are filled up to a multiple of this, so that their length says little.
BLOCK = 64


def seal(text: str) -> str:
    """The text, encrypted and signed with a key of ``SECRET_KEY``, in URL-safe characters."""
    encrypt, sign = _keys(django_settings.SECRET_KEY)
    plain = text.encode()
    plain += b" " * (-len(plain) % BLOCK)
    nonce = os.urandom(NONCE)
    body = nonce + _xor(plain, encrypt + nonce)
    return base64.urlsafe_b64encode(hmac.digest(sign, body, "sha256")[:TAG] + body).decode().rstrip("=")


def unseal(sealed: str) -> str:
    """The text, perhaps with blanks behind it. Raises ``ValueError`` for what neither key nor a fallback has sealed."""
    try:
        whole = base64.b64decode(sealed.encode("ascii") + b"=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (UnicodeError, binascii.Error) as error:
        raise ValueError("This was not sealed here.") from error
    tag, body = whole[:TAG], whole[TAG:]
    for secret in (django_settings.SECRET_KEY, *django_settings.SECRET_KEY_FALLBACKS):
        encrypt, sign = _keys(secret)
        if hmac.compare_digest(hmac.digest(sign, body, "sha256")[:TAG], tag):
            return _xor(body[NONCE:], encrypt + body[:NONCE]).decode()
    raise ValueError("This was not sealed here.")


@lru_cache(maxsize=8)
def _keys(secret: str | bytes) -> tuple[bytes, bytes]:
    encrypt, sign = (
        salted_hmac(f"koherent.feed.{use}", "", secret=secret, algorithm="sha256").digest()
        for use in ("encrypt", "sign")
    )
    return encrypt, sign


def _xor(data: bytes, seed: bytes) -> bytes:
    """Encrypts, and decrypts: SHAKE-256 of key and nonce is a stream as long as the text."""
    stream = hashlib.shake_256(seed).digest(len(data))
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")
