"""A real Celery worker, in a process of its own, on Redis: its tasks act for whoever sent them."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import User
from django.db import connection

import koherent
from example_schema.models import Tag
from tests import celery_project

REDIS = os.environ.get("EXAMPLE_REDIS", "redis://127.0.0.1:6379/0")
WAIT = 45.0
POOLS = [("prefork", 2), ("threads", 8)]

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module", params=POOLS, ids=[pool for pool, _ in POOLS])
def queue(request: Any, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The name of a queue that a worker of its own serves."""
    pool, concurrency = request.param
    name = f"koherent-test-{uuid.uuid4()}"
    environment = {
        **os.environ,
        "PGDATABASE": str(connection.settings_dict["NAME"]),
        "EXAMPLE_BROKER": REDIS,
        "EXAMPLE_QUEUE": name,
    }
    command = [sys.executable, "-m", "celery", "-A", "tests.celery_project", "worker", "-Q", name, "--pool", pool]
    command += ["--concurrency", str(concurrency), "--hostname", name, "--loglevel", "INFO"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    log = tmp_path_factory.mktemp(pool) / "worker.log"
    with log.open("w") as output:
        worker = subprocess.Popen(
            command, env=environment, cwd=Path(__file__).parent.parent.parent, stdout=output, stderr=output
        )
    try:
        wait_for(lambda: f"{name} ready." in log.read_text(), lambda: worker.poll() is None, log)
        yield name
    finally:
        worker.send_signal(signal.SIGTERM)
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait(5)
        with redis.Redis.from_url(REDIS) as server:
            for key in server.scan_iter(f"{name}:*"):
                server.delete(key)


def wait_for(done: Any, alive: Any, log: Path) -> None:
    end = time.monotonic() + WAIT
    while not done():
        assert alive(), log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.05)


def send(queue: str, task: Any, *args: Any, **options: Any) -> None:
    transport = {"global_keyprefix": f"{queue}:"}
    with celery_project.app.connection_for_write(REDIS, transport_options=transport) as broker:
        task.apply_async(args, connection=broker, queue=queue, **options)


def entries(count: int) -> list[tuple[Any, ...]]:
    """All entries as (name, actor, app, assignation, reason, metadata), once there are ``count``."""
    history: Any = Tag.history
    end = time.monotonic() + WAIT
    while history.count() < count:
        assert time.monotonic() < end, list(history.values_list("name", "actor_name"))
        time.sleep(0.05)
    columns = ("name", "actor_name", "app", "assignation_id", "history_change_reason", "metadata")
    return sorted(history.values_list(*columns))


def test_many_tasks_of_many_senders_at_once_each_act_for_their_own(queue: str) -> None:
    users = [User.objects.create_user(f"user {number}") for number in range(5)]
    expected: list[tuple[Any, ...]] = []
    for number in range(100):
        user = users[number % 5]
        with koherent.audit(user=user, app=f"app {number % 7}", assignation_id=f"task {number}", reason="r", n=number):
            send(queue, celery_project.create_tag, f"tag {number}")
        expected.append((f"tag {number}", user.username, f"app {number % 7}", f"task {number}", "r", {"n": number}))
    send(queue, celery_project.create_tag, "nobody's")
    expected.append(("nobody's", None, None, None, None, {}))
    assert entries(len(expected)) == sorted(expected)


def test_retries_and_nested_tasks_carry_it_on_and_a_failure_leaves_nothing(queue: str) -> None:
    ada, gone = User.objects.create_user("ada"), User.objects.create_user("gone")
    with koherent.audit(user=ada, app="lab", assignation_id="task-1"):
        send(queue, celery_project.fail, "failed")
        send(queue, celery_project.create_at_second_try, "retried")
        send(queue, celery_project.create_later, "nested")
    entries(5)
    with koherent.audit(user=gone, app="lab"):
        send(queue, celery_project.create_tag, "late", countdown=1)
    gone.delete()
    send(queue, celery_project.create_tag, "nobody's")
    names = ("failed", "nested, before", "nested, here", "retried, try 0", "retried, try 1")
    assert entries(7) == sorted(
        [
            *((name, "ada", "lab", "task-1", None, {}) for name in names),
            ("late", "gone", "lab", None, None, {}),
            ("nobody's", None, None, None, None, {}),
        ]
    )
