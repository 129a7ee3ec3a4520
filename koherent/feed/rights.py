"""What subscribers may read now: found for all of them at once, shared by those whose rights are equal."""

from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import DatabaseError, InterfaceError

from koherent.errors import Forbidden, Unauthenticated
from koherent.feed.accounts import Account, AccountKey, account_key, read_accounts
from koherent.feed.sessions import OpenSession, read_sessions, session_of
from koherent.policy import Policy, Scope, Viewer, get_policy, scope_for
from koherent.registry import TrackedModel, for_model
from koherent.timeline import EVERYTHING, Filters, Wanted
from koherent.timeline.filters import moment, object_key


@dataclass(frozen=True, eq=False, kw_only=True)
class Terms:
    """Who reads what, as agreed when the stream began: ``labels`` are the models that the reader must keep.

    ``wanted`` are the parts of entries that it needs; ``language`` is the language of their labels, None for the
    project's.
    """

    viewer: Viewer
    filters: Filters
    labels: frozenset[str]
    account: AccountKey | None
    session: OpenSession | None
    wanted: Wanted
    language: str | None

    @property
    def chosen(self) -> bool:
        """Whether the reader named its models; else it also gets those that become visible later."""
        return self.filters.models is not None


@dataclass(eq=False)
class Rights:
    """What subscribers of equal rights may read. ``keys``: None shares nothing."""

    scope: Scope
    policy_key: Hashable | None
    by_default: bool
    _keys: dict[TrackedModel, Hashable | None] = field(default_factory=dict)

    def key(self, tracked: TrackedModel) -> Hashable | None:
        """Readers of equal keys see the model's entries alike, whatever else they may see; None: share with nobody."""
        if not self.by_default:
            return self.policy_key
        if tracked not in self._keys:
            # An entry shows names of what its foreign keys point to, and nothing else of other models.
            scope = self.scope
            targets = {model: for_model(model) for model in tracked.targets}
            seen = [each for each in scope.models if each is tracked or each in targets.values()]
            others = [model for model, found in targets.items() if found is None and scope.may_name(model)]
            self._keys[tracked] = (
                frozenset((each.label, scope.redacted(each)) for each in seen),
                frozenset(others),
                scope.sees_everything,
            )
        return self._keys[tracked]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What a new subscriber asks for; see ``Terms``."""

    viewer: Viewer
    filters: Filters
    wanted: Wanted = EVERYTHING
    language: str | None = None


def agree(wishes: Sequence[Wish]) -> list[Terms | Exception]:
    """The terms of new subscribers, looked up together, or ``Unauthenticated``, ``Forbidden``, ``BadFilter``."""
    proposed = [_separately(_propose, wish) for wish in wishes]
    answers = examine([terms for terms in proposed if isinstance(terms, Terms)])
    return [_separately(_conclude, terms, answers[terms]) if isinstance(terms, Terms) else terms for terms in proposed]


def _separately(function: Callable[..., Terms], *args: Any) -> Terms | Exception:
    """What the function returns or raises, for one of several subscribers; failures of the database are everybody's."""
    try:
        return function(*args)
    except (DatabaseError, InterfaceError):
        raise
    # One subscriber's mistakes are not the others'.
    except Exception as error:  # noqa: BLE001
        return error


def _propose(wish: Wish) -> Terms:
    viewer = wish.viewer
    account = account_key(viewer.user)
    session = None if account is None else session_of(viewer.request, viewer.user._meta.pk.value_to_string(viewer.user))
    return Terms(
        viewer=viewer,
        filters=wish.filters,
        labels=frozenset(),
        account=account,
        session=session,
        wanted=wish.wanted,
        language=wish.language,
    )


def _conclude(terms: Terms, answer: Rights | Exception) -> Terms:
    filters = terms.filters
    chosen = [selected.tracked for selected in filters.resolve(granted(answer).scope)]
    plain = replace(
        filters,
        since=None if filters.since is None else moment(filters.since, "since"),
        until=None if filters.until is None else moment(filters.until, "until"),
        object_id=None if filters.object_id is None else str(object_key(chosen[0], filters.object_id)),
    )
    return replace(terms, filters=plain, labels=frozenset(tracked.label for tracked in chosen))


def granted(answer: Rights | Exception) -> Rights:
    """The rights, or raises why there are none."""
    if isinstance(answer, Exception):
        raise answer
    return answer


def examine(everybody: Collection[Terms]) -> dict[Terms, Rights | Exception]:
    """What each may read now, or the error that ends its stream.

    Accounts, permissions and sessions are read for all together: a handful of statements, however many they are.
    """
    accounts = read_accounts(terms.account for terms in everybody if terms.account is not None)
    sessions = read_sessions(terms.session for terms in everybody if terms.session is not None)
    policy = get_policy()
    by_default = type(policy).rights_key is Policy.rights_key
    known: dict[Hashable, Rights] = {}
    answers: dict[Terms, Rights | Exception] = {}
    for terms in everybody:
        try:
            answers[terms] = _examine(terms, accounts, sessions, policy if by_default else None, known)
        except (DatabaseError, InterfaceError):
            raise
        # A policy that fails for one viewer must not end the streams of the others.
        except Exception as error:  # noqa: BLE001
            answers[terms] = error
    return answers


def _examine(
    terms: Terms,
    accounts: dict[AccountKey, Account],
    sessions: dict[OpenSession, Any],
    default: Policy | None,
    known: dict[Hashable, Rights],
) -> Rights:
    """One viewer's rights; ``known`` are those found so far, by what they follow from."""
    viewer, same = terms.viewer, None
    if terms.account is not None:
        account = accounts.get(terms.account)
        if account is None:
            raise Unauthenticated("The account is gone.")
        viewer, same = replace(viewer, user=account.user), account.rights
    if terms.session is not None and (
        terms.session not in sessions or not terms.session.holds(sessions[terms.session], viewer.user)
    ):
        raise Unauthenticated("The session has ended.")
    # The default rules look at the account's permissions alone.
    rights = None if default is None or same is None else known.get(same)
    if rights is None:
        scope = scope_for(viewer)
        key = None if default is not None else scope.policy.rights_key(viewer)
        rights = Rights(scope, key, by_default=default is not None)
        if default is not None and same is not None:
            known[same] = rights
    if not terms.labels <= {tracked.label for tracked in rights.scope.models}:
        raise Forbidden("You may no longer read all that this subscription is about.")
    return rights
