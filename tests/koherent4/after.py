"""Run where koherent is installed beside Kante and authentikate: what it makes of the old entries, as JSON."""

import io
import json
import sys
from typing import Any

import django
from django.core.management import call_command

django.setup()

from authentikate.models import User  # noqa: E402  # needs the settings
from lab.models import Sample  # type: ignore[import-not-found]  # noqa: E402  # of the project in the test's folder

import koherent  # noqa: E402
from koherent import timeline  # noqa: E402
from koherent.policy import Viewer, scope_for  # noqa: E402
from koherent.revert import plan_assignation  # noqa: E402

seen: dict[str, Any] = {}
for command in json.load(sys.stdin):
    out = io.StringIO()
    call_command(*command.split(), stdout=out, stderr=out)
    seen[command] = out.getvalue()
user = User.objects.create_superuser("root")
columns = ("history_id", "code", "app", "assignation_id", "actor_name", "origin", "position", "client__client_id")
seen["rows"] = list(Sample.provenance.order_by("history_id").values_list(*columns))
with koherent.audit(user=user, app="notebook", assignation_id="task-2"):
    sample = Sample.objects.get(code="S2")
    sample.code = "S3"
    sample.save()
scope = scope_for(Viewer(user=user))
seen["assignations"] = [[info.id, info.apps] for info in timeline.assignations(scope).items]
seen["changes"] = [
    [
        entry.row.app,
        entry.row.assignation_id,
        [[change.field, change.old, change.new] for change in entry.changes or ()],
    ]
    for entry in timeline.page(scope, timeline.Filters(models=["lab.sample"], object_id=str(sample.pk))).entries
]
steps = plan_assignation(None, "task-2").steps
seen["undo"] = [[step.action, [[change.old, change.new] for change in step.changes]] for step in steps]
json.dump(seen, sys.stdout)
