"""The GraphQL page of the packages that bring none: a list of the same fields that koherent is asked for."""

from datetime import datetime
from typing import TYPE_CHECKING, cast

import strawberry
from strawberry.scalars import JSON

from benchmarks.packages import current

if TYPE_CHECKING:
    from benchmarks.packages.trail import ListedTrail


@strawberry.type
class Account:
    id: strawberry.ID
    username: str


@strawberry.type
class Change:
    field: str
    old: JSON | None
    new: JSON | None


@strawberry.type
class Entry:
    id: strawberry.ID
    action: str
    date: datetime
    model: str
    object_id: strawberry.ID
    user: Account | None
    changes: list[Change]


@strawberry.type
class Query:
    @strawberry.field
    def entries(self, first: int, object_id: int | None = None) -> list[Entry]:
        package = cast("ListedTrail", current())
        return package.newest(first) if object_id is None else package.newest_of(object_id, first)


schema = strawberry.Schema(query=Query)
