"""The import path of the project's first document; the class lives in ``koherent.graphql``."""

from koherent.graphql.extension import KoherentExtension

__all__ = ["KoherentExtension"]
