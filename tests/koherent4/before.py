"""Run where koherent 4.1.1 is installed: its project, and two entries, one of them with client, task and account."""

import django
from django.core.management import call_command

django.setup()
call_command("makemigrations", "lab", verbosity=0)
call_command("migrate", verbosity=0)

from authentikate.models import Client, Organization, User  # noqa: E402  # needs the settings
from lab.models import Sample  # noqa: E402

from koherent.models import Task  # noqa: E402

user = User.objects.create_user("ada")
client = Client.objects.create(iss="https://lok.example", client_id="microscope")
claims = ("assigner_sub", "caller_sub", "agent_sub", "agent_client_id", "issuer", "token_id", "args_hash")
task = Task.objects.create(
    task_id="task-1",
    root_task_id="task-0",
    assigner=user,
    organization=Organization.objects.create(slug="lab"),
    args_hash_algorithm="sha256-canonical-v1",
    **dict.fromkeys(claims, "7"),
)
sample = Sample.objects.create(code="S1")
Sample.provenance.update(client=client, task=task, history_user=user)
sample.code = "S2"
sample.save()
Sample.objects.bulk_create([Sample(code="without history")])
