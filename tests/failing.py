"""Failures that tests bring about."""

from typing import Any

from django.db import DatabaseError


class FailAt:
    """An execute wrapper that lets ``number`` statements pass and refuses the next."""

    def __init__(self, number: int) -> None:
        self.left = number

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise DatabaseError("refused by the test")
        return execute(sql, params, many, context)
