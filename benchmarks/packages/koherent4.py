"""koherent 4.1.1 from PyPI: another package under the same import name, in an environment of its own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from django.db import models, transaction

from benchmarks.packages.simple_history import SimpleHistory


class Koherent4(SimpleHistory):
    """django-simple-history with columns of its own; attributed through the variables that its extension sets."""

    apps = ("simple_history", "strawberry_django", "authentikate", "koherent")
    settings = {
        "AUTH_USER_MODEL": "authentikate.User",
        "AUTHENTIKATE": {"ISSUERS": [], "AUDIENCE": "*", "STATIC_TOKENS": {}},
    }
    distributions = ("django", "koherent", "kante", "authentikate", "django-simple-history", "strawberry-graphql")

    named = {"history_user__isnull": False, "task__isnull": False}

    def field(self, related_name: str) -> Any:
        """Its provenance field."""
        from koherent.fields import ProvenanceField

        return ProvenanceField(history_id_field=models.BigAutoField(primary_key=True))

    def change(self, queryset: Any, **values: Any) -> None:
        """Its bulk rows name no task, so each is saved."""
        with transaction.atomic():
            for instance in queryset:
                for name, value in values.items():
                    setattr(instance, name, value)
                instance.save()

    def correlated(self, correlation_id: str) -> dict[str, Any]:
        """The filter for a task."""
        return {"task__task_id": correlation_id}

    def setup(self) -> None:
        """An account, a client and an organization, as a token would have made them."""
        from authentikate.models import Client, Organization

        super().setup()
        self.user.sub = "ada"
        self.user.save()
        self.client = Client.objects.create(client_id="bench", name="bench")
        self.organization = Organization.objects.create(slug="lab")

    @contextmanager
    def attributed(self) -> Iterator[str]:
        """A user, a client, an organization and a task of its own."""
        from authentikate.vars import client_var, organization_var, user_var
        from koherent.vars import current_provenance, current_task

        task = uuid.uuid4().hex
        provenance = SimpleNamespace(
            tsk=task,
            ptk=None,
            rtk=task,
            rcb="ada",
            sub="ada",
            act=SimpleNamespace(sub="agent", cid="bench"),
            iss="bench",
            jti=task,
            ahs="0" * 64,
            aha="sha256-canonical-v1",
        )
        values: list[tuple[Any, Any]] = [
            (user_var, self.user),
            (client_var, self.client),
            (organization_var, self.organization),
            (current_provenance, provenance),
            (current_task, None),
        ]
        tokens = [(variable, variable.set(value)) for variable, value in values]
        try:
            yield task
        finally:
            for variable, token in reversed(tokens):
                variable.reset(token)
