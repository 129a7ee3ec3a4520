"""All cases by name."""

from typing import Any

from benchmarks import writes

CASES: dict[str, Any] = {**writes.CASES}
SIZES: dict[str, int] = {**writes.SIZES}
