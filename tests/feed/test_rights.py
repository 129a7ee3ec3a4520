"""Rights are looked up for all subscribers together, and a stream ends as soon as its own are gone."""

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from example_schema.models import Dataset, Project, Tag
from koherent.errors import BadFilter, Forbidden, KoherentError, Unauthenticated
from koherent.feed import FeedItem, subscribe
from koherent.feed import hub as hubs
from koherent.feed import stream as streams
from koherent.feed.rights import Terms, Wish, agree, examine, granted
from koherent.policy import Policy, Viewer, get_policy
from koherent.registry import TrackedModel, for_model
from koherent.request import RequestInfo
from koherent.timeline import Filters
from tests.feed.conftest import do, entries, following, names

pytestmark = pytest.mark.django_db(transaction=True)

VIEWS = ("view_historicalproject", "view_historicaltag", "view_historicaldataset")


def reader(name: str, *codenames: str, group: Group | None = None) -> User:
    user = User.objects.create_user(name)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    if group is not None:
        user.groups.add(group)
    return user


def terms_of(users: Sequence[User]) -> list[Terms]:
    agreed = agree([Wish(viewer=Viewer(user=user), filters=Filters()) for user in users])
    failed = [answer for answer in agreed if isinstance(answer, Exception)]
    if failed:
        raise failed[0]
    return [answer for answer in agreed if isinstance(answer, Terms)]


def statements(function: Callable[[], object]) -> int:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        function()
    return len(queries)


def test_the_rights_of_many_accounts_cost_as_many_statements_as_those_of_two(django_user_model: type[User]) -> None:
    group = Group.objects.create(name="readers")
    group.permissions.set(Permission.objects.filter(codename="view_historicaldataset"))
    users = [reader(f"reader {number}", VIEWS[number % 2], group=group) for number in range(40)]
    everybody = terms_of(users)
    assert statements(lambda: examine(everybody[:2])) == statements(lambda: examine(everybody)) == 4
    answers = examine(everybody)
    labels = [[tracked.label for tracked in granted(answers[terms]).scope.models] for terms in everybody[:2]]
    assert labels == [
        ["example_schema.dataset", "example_schema.project"],
        ["example_schema.dataset", "example_schema.tag"],
    ]


async def test_who_comes_at_the_same_time_is_let_in_together(root: Viewer) -> None:
    """One of them may not, and one asks for what there is not: that is nothing to the others."""
    stranger = await do(User.objects.create_user, "stranger")
    users = [*(await do(lambda: [reader(f"reader {number}", *VIEWS) for number in range(20)])), stranger]
    first = subscribe(root)
    await following(first)
    hub = hubs.hub()
    queries = await hub.call(lambda: CaptureQueriesContext(connections["default"]))
    await hub.call(queries.__enter__)
    come = [subscribe(Viewer(user=user)) for user in users]
    come.append(subscribe(root, Filters(models=["no.model"])))
    found = await asyncio.gather(*(following(stream) for stream in come), return_exceptions=True)
    await hub.call(queries.__exit__, None, None, None)
    assert [type(each) for each in found] == [FeedItem] * 20 + [Forbidden, BadFilter]
    permissions = [query for query in queries.captured_queries if "auth_user_groups" in query["sql"]]
    assert 1 <= len(permissions) <= 2
    for stream in [first, *come]:
        await stream.aclose()


class Generous(ModelBackend):
    """A backend of a project's own, which Django's tables know nothing of."""

    def has_perm(self, user_obj: Any, perm: str, obj: Any = None) -> bool:
        return perm == "example_schema.view_historicaltag" and user_obj.username == "guest"


def test_a_backend_of_the_projects_own_is_asked(settings: Any) -> None:
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Generous"]
    guest, other = reader("guest"), reader("other", *VIEWS)
    [terms] = terms_of([guest])
    assert [tracked.label for tracked in granted(examine([terms])[terms]).scope.models] == ["example_schema.tag"]
    with pytest.raises(Forbidden):
        terms_of([other])


def test_equal_rights_share_and_different_ones_do_not() -> None:
    root = User.objects.create_superuser("root")
    same = [reader("one", *VIEWS), reader("two", *VIEWS)]
    fewer = reader("three", *VIEWS[:2])
    dataset, tag = for_model(Dataset), for_model(Tag)
    assert dataset is not None
    assert tag is not None
    everybody = terms_of([*same, fewer, root])
    first, second, third, superuser = (granted(answer) for answer in examine(everybody).values())
    assert first.key(dataset) == second.key(dataset) is not None
    # A dataset's entries name its project, so they look different without the right to see that.
    without_project = terms_of([reader("four", "view_historicaldataset")])
    assert granted(examine(without_project)[without_project[0]]).key(dataset) != first.key(dataset)
    # A tag's entries name nothing else: who sees tags sees them alike, whatever else each may see.
    assert third.key(tag) == first.key(tag)
    # Only superusers see redacted fields.
    assert superuser.key(dataset) != first.key(dataset)
    policy = get_policy()
    assert policy.rights_key(Viewer(user=same[0])) == policy.rights_key(Viewer(user=same[1]))
    assert policy.rights_key(Viewer(user=root)) != policy.rights_key(Viewer(user=same[0]))
    assert policy.rights_key(Viewer(user=None)) is None


class OwnModels(Policy):
    def viewable_models(self, viewer: Viewer, models: Sequence[TrackedModel]) -> Sequence[TrackedModel]:
        return models


class OwnRows(Policy):
    def visible_entries(self, viewer: Viewer, tracked: TrackedModel, queryset: Any) -> Any:
        return queryset


class OwnFields(Policy):
    def redacted_fields(self, viewer: Viewer, tracked: TrackedModel) -> frozenset[str]:
        return frozenset()


class OwnKey(OwnRows):
    def rights_key(self, viewer: Viewer) -> str:
        return "all alike"


class DecidesAgain(OwnKey):
    def redacted_fields(self, viewer: Viewer, tracked: TrackedModel) -> frozenset[str]:
        return frozenset({"name"})


class OnlyReverts(Policy):
    def may_revert(self, viewer: Viewer, tracked: TrackedModel, action: str) -> bool:
        return False


class OnlyReads:
    def viewable_models(self, viewer: Viewer, models: Sequence[TrackedModel]) -> Sequence[TrackedModel]:
        return models


class Mixed(OnlyReads, Policy):
    pass


@pytest.mark.parametrize("policy", [OwnModels, OwnRows, OwnFields, DecidesAgain, Mixed])
def test_a_policy_that_decides_otherwise_shares_nothing_by_accident(policy: type[Policy]) -> None:
    assert policy().rights_key(Viewer(user=User.objects.create_superuser("root"))) is None


def test_a_policy_shares_by_its_own_key_and_by_the_default_rules() -> None:
    root = Viewer(user=User.objects.create_superuser("root"))
    assert OwnKey().rights_key(root) == "all alike"
    assert OnlyReverts().rights_key(root) == Policy().rights_key(root) is not None


class Failing(Policy):
    def viewable_models(self, viewer: Viewer, models: Sequence[TrackedModel]) -> Sequence[TrackedModel]:
        if viewer.user.first_name == "unlucky":
            raise LookupError("a mistake in the policy")
        return models


async def test_a_policy_that_fails_for_one_viewer_ends_its_stream_alone(root: Viewer, settings: Any) -> None:
    settings.KOHERENT = {"POLICY": f"{__name__}.Failing"}
    unlucky = await do(User.objects.create_user, "unlucky")
    one, other = subscribe(Viewer(user=unlucky)), subscribe(root)
    await following(one)
    await following(other)
    await do(lambda: User.objects.filter(pk=unlucky.pk).update(first_name="unlucky"))
    await do(lambda: Tag.objects.create(name="seen"))
    with pytest.raises(LookupError):
        await following(one)
    assert names(await entries(other, 1)) == ["seen"]
    await other.aclose()


def logged_in(user: User) -> Viewer:
    """A viewer whose request is logged in by a session in the database."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return Viewer(user=user, request=RequestInfo(user=user, scope={"session": session}))


def expire(user: User) -> None:
    Session.objects.update(expire_date=timezone.now() - dt.timedelta(seconds=1))


def log_out(user: User) -> None:
    Session.objects.all()._raw_delete("default")


def change_password(user: User) -> None:
    changed = User(pk=user.pk)
    changed.set_password("another")
    User.objects.filter(pk=user.pk).update(password=changed.password)


@pytest.mark.parametrize("end", [expire, log_out, change_password])
async def test_a_session_that_ends_takes_its_stream_along(root: Viewer, end: Callable[[User], None]) -> None:
    stream = subscribe(await do(logged_in, root.user))
    await following(stream)
    await do(lambda: Tag.objects.create(name="seen"))
    [seen] = await entries(stream, 1)
    await do(end, root.user)
    await do(lambda: Tag.objects.create(name="not seen"))
    with pytest.raises(Unauthenticated) as caught:
        await following(stream)
    assert caught.value.extensions == {"code": "UNAUTHENTICATED", "cursor": seen.cursor}


async def test_another_session_of_the_account_goes_on(root: Viewer) -> None:
    gone, kept = await do(logged_in, root.user), await do(logged_in, root.user)
    one, other = subscribe(gone), subscribe(kept)
    await following(one)
    await following(other)
    assert gone.request is not None
    await do(gone.request.scope["session"].flush)
    with pytest.raises(Unauthenticated):
        await following(one)
    await do(lambda: Tag.objects.create(name="seen"))
    assert names(await entries(other, 1)) == ["seen"]
    await other.aclose()


def deactivate(user: User) -> None:
    user.is_active = False
    user.save()


def leave_group(user: User) -> None:
    user.groups.clear()


def empty_group(user: User) -> None:
    Group.objects.get().permissions.clear()


def delete_group(user: User) -> None:
    Group.objects.get().delete()


@pytest.mark.parametrize(
    ("lose", "error"),
    [
        (deactivate, Unauthenticated),
        (User.delete, Unauthenticated),
        (leave_group, Forbidden),
        (empty_group, Forbidden),
        (delete_group, Forbidden),
    ],
)
async def test_an_idle_stream_ends_at_once(
    root: Viewer,
    settings: Any,
    monkeypatch: pytest.MonkeyPatch,
    lose: Callable[[User], Any],
    error: type[KoherentError],
) -> None:
    """Neither an entry, nor a poll, nor a checkpoint comes: only the change of rights itself rings."""
    settings.KOHERENT = {"FEED_POLL_SECONDS": 600.0}
    monkeypatch.setattr(streams, "CHECKPOINT_SECONDS", 600.0)

    def member() -> User:
        group = Group.objects.create(name="readers")
        group.permissions.set(Permission.objects.filter(codename__in=VIEWS))
        return reader("member", group=group)

    user = await do(member)
    stream, other = subscribe(Viewer(user=user)), subscribe(root)
    first = await following(stream)
    await following(other)
    await do(lose, user)
    with pytest.raises(error) as caught:
        await following(stream)
    assert caught.value.extensions["cursor"] == first.cursor
    await do(lambda: Tag.objects.create(name="seen"))
    assert names(await entries(other, 1)) == ["seen"]
    await other.aclose()


async def test_a_commit_does_not_unsay_that_rights_have_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Threads that poke at once may come between what the other one reads and what it writes."""
    said = {"rights": False}
    between: list[Callable[[], None]] = []

    def read(_: hubs.Hub) -> bool:
        found = said["rights"]
        for interrupt in between:
            between.clear()
            interrupt()
        return found

    def write(_: hubs.Hub, value: bool) -> None:
        said["rights"] = value

    monkeypatch.setattr(hubs.Hub, "_recheck", property(read, write), raising=False)
    hub = hubs.hub()
    between.append(lambda: hub.poke(True))
    hub.poke()
    for rights in between:
        rights()
    assert said["rights"]
    subscription = await hub.join()
    await hub.leave(subscription)


async def test_accounts_that_are_saved_all_the_time_do_not_keep_the_hub_busy(
    root: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many saves in a row are few look-ups, and the last one still counts."""
    looked_up: list[int] = []

    def counted(everybody: Any) -> Any:
        looked_up.append(len(everybody))
        return examine(everybody)

    stream = subscribe(root)
    first = await following(stream)
    monkeypatch.setattr("koherent.feed.batch.examine", counted)
    monkeypatch.setattr(hubs, "RECHECK_SECONDS", 2.0)
    began = time.monotonic()
    for number in range(20):
        root.user.first_name = f"name {number}"
        await do(root.user.save)
    await do(deactivate, root.user)
    with pytest.raises(Unauthenticated) as caught:
        await following(stream)
    assert caught.value.extensions["cursor"] == first.cursor
    assert len(looked_up) <= 2 + (time.monotonic() - began) / 2.0


async def until(condition: Callable[[], object]) -> None:
    """Let the hub work until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("taken", [0, 1])
async def test_what_waits_for_a_slow_subscriber_is_not_delivered_any_more(root: Viewer, taken: int) -> None:
    """Entries of one batch, prepared and queued, of which it has taken none or some when its account is lost."""

    def write() -> None:
        with transaction.atomic():
            for number in range(3):
                Tag.objects.create(name=f"tag {number}")

    stream = subscribe(root)
    await following(stream)
    [subscription] = hubs.hub()._subscriptions
    await do(write)
    await until(lambda: subscription._batches)
    assert len(await entries(stream, taken)) == taken
    await do(deactivate, root.user)
    await until(lambda: subscription.rights_since)
    with pytest.raises(Unauthenticated):
        await following(stream)


async def test_rights_that_were_looked_up_long_ago_are_looked_up_again(
    root: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = subscribe(root)
    await following(stream)
    [subscription] = hubs.hub()._subscriptions
    await do(lambda: Tag.objects.create(name="prepared"))
    await until(lambda: subscription._batches)
    await do(lambda: User.objects.filter(pk=root.user.pk).update(is_active=False))
    monkeypatch.setattr("koherent.feed.batch.RIGHTS_SECONDS", 0.0)
    with pytest.raises(Unauthenticated):
        await following(stream)


async def test_a_checkpoint_never_lies_beyond_what_waits_for_the_subscriber(
    root: Viewer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry is queued while the rights for an idle stream's checkpoint are looked up."""
    monkeypatch.setattr(streams, "CHECKPOINT_SECONDS", 0.2)
    authorise = streams._Stream._authorise

    async def slowly(self: Any, *args: Any) -> None:
        await authorise(self, *args)
        if not self.subscription._batches and not written.is_set():
            await do(lambda: Tag.objects.create(name="meanwhile"))
            async with asyncio.timeout(20):
                while not self.subscription._batches:
                    await asyncio.sleep(0.01)
            written.set()

    written = asyncio.Event()
    monkeypatch.setattr(streams._Stream, "_authorise", slowly)
    async with contextlib.aclosing(subscribe(root)) as stream:
        await following(stream)
        checkpoint = await following(stream)
        assert checkpoint.entry is None
        assert written.is_set()
    async with asyncio.timeout(20), contextlib.aclosing(subscribe(root, after=checkpoint.cursor)) as resumed:
        assert names(await entries(resumed, 1)) == ["meanwhile"]


async def test_reading_for_many_subscribers_costs_what_one_costs(root: Viewer, settings: Any) -> None:
    """Statements in the hub's thread for one batch, at one subscriber and at many, of one account and of several."""
    # On a slow machine a poll would read in between.
    settings.KOHERENT = {"FEED_POLL_SECONDS": 600.0}
    users = await do(lambda: [reader(f"reader {number}", *VIEWS) for number in range(10)])
    counts: list[int] = []
    for several in ([root.user], [root.user] * 30, [users[0]], [users[number % 10] for number in range(30)]):
        streams_ = [subscribe(Viewer(user=user)) for user in several]
        for stream in streams_:
            await following(stream)
        hub = hubs.hub()
        queries = await hub.call(lambda: CaptureQueriesContext(connections["default"]))
        await hub.call(queries.__enter__)
        await do(lambda: Project.objects.create(name=f"read by {len(counts)}"))
        items: list[FeedItem] = [(await entries(stream, 1))[0] for stream in streams_]
        await hub.call(queries.__exit__, None, None, None)
        counts.append(len([q for q in queries.captured_queries if "sqlite_sequence" not in q["sql"]]))
        assert {item.cursor for item in items} == {items[0].cursor}
        for stream in streams_:
            await stream.aclose()
    assert counts[0] == counts[1] > 0
    assert counts[2] == counts[3] > 0
