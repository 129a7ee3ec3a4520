"""The example's settings, with a layer that has room for a burst, so that every contender gets every message."""

import os
from typing import Any

from example_schema import settings as example

globals().update({name: value for name, value in vars(example).items() if name.isupper()})

_layer: dict[str, Any] = example.CHANNEL_LAYERS["default"]
CHANNEL_LAYERS = {"default": {**_layer, "CONFIG": {**_layer.get("CONFIG", {}), "capacity": 100_000}}}
# By Django's default every row that a subscriber reads by hand would cost a connection.
DATABASES = {"default": {**example.DATABASES["default"], "CONN_MAX_AGE": None}}
KOHERENT: dict[str, object] = {"SUBSCRIPTION_LIMIT": 10_000}
if policy := os.environ.get("BENCH_POLICY"):
    KOHERENT["POLICY"] = policy
