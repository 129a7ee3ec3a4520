"""koherent 4.1.1 from PyPI: another package under the same import name, in an environment of its own."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any

import strawberry
from django.db import models, transaction

from benchmarks.packages.simple_history import SimpleHistory
from benchmarks.seeding import Slice

NAMES = ["samples", "readings", "plates", "images", "protocols"]


@cache
def own_schema() -> Any:
    """Lists of its provenance entries, as a team would offer them."""
    import strawberry_django
    from koherent.strawberry.types import ProvenanceEntry
    from strawberry_django.optimizer import DjangoOptimizerExtension

    from benchmarks.lab.models import MODELS

    def newest(model: Any) -> Any:
        def resolve(first: int, object_id: int | None = None) -> Any:
            rows = model.history.all() if object_id is None else model.history.filter(id=object_id)
            return rows.order_by("-history_date")[:first]

        return strawberry_django.field(resolver=resolve)

    body: dict[str, Any] = {name: newest(model) for name, model in zip(NAMES, MODELS, strict=True)}
    body["__annotations__"] = dict.fromkeys(NAMES, list[ProvenanceEntry])
    query = strawberry.type(type("Query", (), body))
    return strawberry.Schema(query=query, extensions=[DjangoOptimizerExtension])


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

    def seed_shared(self, entries: int) -> None:
        """A task for each unit of work."""
        from benchmarks import seeding
        from koherent.models import Task

        columns = {
            "id": "(n + 1)",
            **dict.fromkeys(["task_id", "root_task_id", "token_id", "args_hash"], "'task-' || n"),
            **dict.fromkeys(["assigner_sub", "caller_sub", "agent_sub", "agent_client_id"], "'ada'"),
            "issuer": "'bench'",
            "args_hash_algorithm": "'sha256'",
            "organization_id": str(self.organization.pk),
            "created_at": seeding.moment("(n * 50)"),
        }
        seeding.insert(Task, max(entries // 5, seeding.VERSIONS) // 10 + seeding.LONG // 10, columns)

    def seed_correlation(self, part: Slice) -> dict[str, str]:
        """Task, client and the relation to the object."""
        return {"task_id": f"({part.unit} + 1)", "client_id": str(self.client.pk), "history_relation_id": part.pk}

    def page(self, reader: Any, first: int, object_id: int | None = None) -> list[Any]:
        """Its own type on a list of each model's rows: it has no page over all models."""
        from asgiref.sync import async_to_sync
        from kante.context import HttpContext, UniversalRequest
        from strawberry.http.temporal_response import TemporalResponse

        request = UniversalRequest(_extensions={}, _user=self.user)
        context = HttpContext(request=request, response=TemporalResponse(), headers={})
        fields = "{ id kind date user { id preferredUsername } effectiveChanges { field oldValue newValue } }"
        lists = NAMES[:1] if object_id is not None else NAMES
        arguments = f"first: {first // len(lists)}" + ("" if object_id is None else f", objectId: {object_id}")
        query = "{ " + " ".join(f"{name}({arguments}) {fields}" for name in lists) + " }"
        result = async_to_sync(own_schema().execute)(query, context_value=context)
        if result.errors:
            raise result.errors[0]
        entries = [entry for found in result.data.values() for entry in found]
        for entry in entries:
            entry["changes"] = entry.pop("effectiveChanges")
        return entries

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
