"""Whether a client may name the assignation that it names, where a setting asks."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from typing import Any

from django.db import router
from django.db.models import Q

from koherent.conf import settings
from koherent.errors import BadAssignationId

logger = logging.getLogger("koherent")


class Claim:
    """An assignation id in a client's words, for ``ASSIGNATION_AUTHENTICATED`` and ``ASSIGNATION_OWN`` to let pass.

    Who the client is may take a query, as may whose the assignation is: the decision waits for synchronous code, and
    stands for as long as the request has the same user. ``instead`` is the id that counts where the claim does not.
    """

    def __init__(self, id: str, find_user: Callable[[], Any], instead: str | None) -> None:
        self.id, self.instead = id, instead
        self._find_user = find_user
        self._decided: tuple[Any, bool] | None = None

    def settled(self) -> str | None:
        """The id that counts. While an event loop is running, None until it is known."""
        user = self._find_user()
        if self._decided is not None and self._decided[0] is user:
            return self.id if self._decided[1] else self.instead
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            passes = self._passes(user)
            self._decided = user, passes
            return self.id if passes else self.instead
        return None

    def _passes(self, user: Any) -> bool:
        key = str(user.pk) if user is not None and getattr(user, "is_authenticated", False) else None
        if settings().assignation_authenticated and key is None:
            logger.warning("the assignation id %r was not taken: its sender is not logged in", self.id)
            return False
        if settings().assignation_own and not _new_or_own(self.id, key):
            logger.warning("the assignation id %r was not taken: it is another's", self.id)
            return False
        return True


def claim_of(id: str, find_user: Callable[[], Any], instead: str | None) -> Claim | None:
    """The claim to settle, None where every client's word counts. Raises ``BadAssignationId`` for a wrong form."""
    conf = settings()
    if conf.assignation_own and not is_uuid(id):
        raise BadAssignationId("An assignation id is a UUID here, such as 6fa459ea-ee8a-4ca4-894e-db77e160355e.")
    return Claim(id, find_user, instead) if conf.assignation_own or conf.assignation_authenticated else None


def is_uuid(text: str) -> bool:
    """Whether it is a UUID as it is usually written: other spellings of the same one would be other ids."""
    try:
        return str(uuid.UUID(text)) == text
    except ValueError:
        return False


def _new_or_own(id: str, key: str | None) -> bool:
    """Whether nobody has used an assignation id, or only the account of this key."""
    from koherent import runs
    from koherent.models import Assignation
    from koherent.registry import tracked_models

    if not Assignation.objects.filter(assignation_id=id).exists():
        return True
    if key is None:
        return False
    entries, own = Q(assignation_id=id), Q(actor_id=key)
    places = [(tracked, router.db_for_write(tracked.model)) for tracked in tracked_models()]
    if any(runs.exists(*place, entries & ~own) for place in places):
        return False
    return any(runs.exists(*place, entries & own) for place in places)
