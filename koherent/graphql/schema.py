"""Strawberry's schema, plus shared results: one event is executed and encoded once for all who would get the same."""

from typing import TYPE_CHECKING

from graphql import version_info

if TYPE_CHECKING or version_info >= (3, 3):
    from koherent.graphql.core33 import CoreSchema
else:
    from koherent.graphql.core32 import CoreSchema


class Schema(CoreSchema):
    """Strawberry's schema; subscribers who ask the same with the same rights share one execution of each entry.

    Takes what ``strawberry.Schema`` takes. Schema extensions run for each subscription as ever, but for ``resolve()``,
    which belongs to the execution.
    """
