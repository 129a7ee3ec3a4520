"""What a tracker or a policy may look at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class RequestInfo:
    """One request or GraphQL operation.

    ``user`` may be lazy: touching it may query, so do so in synchronous code only. Header names are lower case.
    ``client`` is the authenticated client application, where the request has one: an object with ``client_id``.
    """

    user: Any = None
    client: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    connection_params: Mapping[str, Any] = field(default_factory=dict)
    extensions: Mapping[str, Any] = field(default_factory=dict)
    operation_name: str | None = None
