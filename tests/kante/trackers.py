"""What this project tracks besides."""

from koherent.request import RequestInfo


def root_task(info: RequestInfo) -> str | None:
    """The task at the root of the tree that the request's task belongs to."""
    return info.provenance.rtk if info.provenance is not None else None
