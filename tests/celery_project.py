"""A project's Celery module, for the tests: ``celery -A tests.celery_project worker``."""

import os
from typing import Any

import django
from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_schema.settings")
django.setup()

import koherent.celery  # noqa: E402  # needs Django's apps

QUEUE = os.environ.get("EXAMPLE_QUEUE", "koherent")
app = Celery("tests", broker=os.environ.get("EXAMPLE_BROKER", "memory://"))
app.conf.update(
    task_default_queue=QUEUE,
    # All that Redis keeps for the queue can be found by its name, and removed.
    broker_transport_options={"global_keyprefix": f"{QUEUE}:"},
    task_ignore_result=True,
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)


@app.task
def create_tag(name: str) -> None:
    from example_schema.models import Tag

    Tag.objects.create(name=name)


@app.task
def create_later(name: str) -> None:
    """A task that sends another one."""
    create_tag.delay(f"{name}, before")
    create_tag(f"{name}, here")


@app.task(bind=True, max_retries=2)
def create_at_second_try(self: Any, name: str) -> None:
    create_tag(f"{name}, try {self.request.retries}")
    if self.request.retries == 0:
        raise self.retry(countdown=0)


@app.task
def rename_app(name: str) -> None:
    """A task that says more of itself."""
    with koherent.audit(app="task"):
        create_tag(f"{name}, renamed")
    create_tag(f"{name}, after")


@app.task
def fail(name: str) -> None:
    create_tag(name)
    raise RuntimeError("after the change")
