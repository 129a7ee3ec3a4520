"""Wiping what history must not keep: values of an object, names of a person. The fact of each change stays."""

from koherent.erasure.actors import ERASED_NAME, ActorReport, erase_actor
from koherent.erasure.objects import ErasureReport, erase

__all__ = ["ERASED_NAME", "ActorReport", "ErasureReport", "erase", "erase_actor"]
