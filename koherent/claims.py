"""What a request says about who acts, with what and in which context, and what the configured trackers add."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

from django.utils.module_loading import import_string

from koherent.errors import BadAssignationId, BadHeader, BadInput
from koherent.request import RequestInfo

MAX_TEXT = 255
logger = logging.getLogger("koherent")
# As JSON writes the character; a backslash in front of the backslash makes it plain text.
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


def check_assignation_id(value: object) -> str:
    """The id as text; raises ``BadAssignationId`` when it is empty, over 255 characters or has control characters."""
    text = str(value)
    if not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
        raise BadAssignationId("An assignation id has 1 to 255 printable characters.")
    return text


def check_text(name: str, value: object) -> str:
    """The value as text; raises ``BadHeader`` when it is over 255 characters or has control characters."""
    text = str(value)
    if len(text) > MAX_TEXT or not text.isprintable():
        raise BadHeader(f"{name} has at most 255 printable characters.", header=name)
    return text


def check_metadata(name: str, value: object) -> object:
    """The value; raises ``BadInput`` when ``metadata`` could not hold it on every database."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError) as error:
        raise BadInput(f"{name} cannot be written as JSON: {error}", argument=name) from error
    if _NUL.search(text):
        raise BadInput(f"{name} has a NUL character, which PostgreSQL's JSON does not hold.", argument=name)
    return value


def claim(info: RequestInfo, name: str, headers: Sequence[str]) -> str | None:
    """What the client says of ``name``: its operation first, then the request's headers, then its connection."""
    if info.extensions.get(name) is not None:
        return _text(name, info.extensions[name])
    wanted = [header.lower() for header in headers]
    params = {key.lower(): value for key, value in info.connection_params.items() if value is not None}
    for source, keys in ((info.headers, wanted), (params, [name.lower(), *wanted])):
        for key in keys:
            if key in source:
                return _text(name, source[key])
    return None


def _text(name: str, value: object) -> str:
    """JSON brings values of any type: only texts, and numbers for them, are claims."""
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    wrong = f"{name} is a text."
    raise BadAssignationId(wrong) if name == "assignationId" else BadHeader(wrong, header=name)


def track(name: str, path: str, info: RequestInfo, check: Callable[[str, Any], Any]) -> Any:
    """What a configured tracker says, checked by ``check(name, value)``; None when it fails, which is logged."""
    try:
        value = import_string(path)(info)
        return None if value is None else check(name, value)
    # A tracker is the team's own code: whatever it raises must not cost the change that it describes.
    except Exception:
        logger.exception("tracker %s (%s) failed; the change is recorded without it", name, path)
        return None
