"""What the documentation tells people to type runs as written."""

import ast
import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import strawberry
import strawberry_django
from celery.app.trace import build_tracer
from celery.signals import before_task_publish
from channels.layers import get_channel_layer
from channels.sessions import CookieMiddleware
from channels_redis.core import RedisChannelLayer
from django.contrib import admin as django_admin
from django.contrib.auth.models import Group, Permission, User
from django.core.checks import run_checks
from django.core.management import load_command_class
from django.db.models import Q
from django.test import RequestFactory, override_settings
from django.utils import timezone
from graphql import build_schema, parse, validate

import koherent.graphql
from example_schema.models import Dataset, Project, Tag
from example_schema.schema import schema as example
from koherent import timeline
from koherent.admin import KoherentAdmin
from koherent.errors import BadInput
from koherent.middleware import AuditMiddleware
from koherent.policy import Policy, Viewer, scope_for
from koherent.revert import RevertStatus
from koherent.runs import entries_where
from tests import celery_project
from tests.graphql.asking import context
from tests.snippets import DOCS, PAGES, ROOT, Snippet, run, snippets

#: Where the Python of a page runs, if not here: a test that reads the page.
ELSEWHERE = {
    "README.md": "test_readme.py",
    "clients.md": "test_docs.py",
    "data-migrations.md": "adoption/__main__.py",
    "kante.md": "kante/test_document.py",
    "koherent4.md": "koherent4/test_move.py",
    "testing.md": "test_testing.py",
    "tutorial.md": "package/test_tutorial.py",
}
SCHEMA = build_schema((ROOT / "schema.graphql").read_text(encoding="utf-8"))
COMMANDS = sorted({
    line.strip().split(" > ")[0]
    for path in PAGES
    for line in re.findall(r"\b(koherent_[a-z_]+(?: --[^`\n|]*)?)(?=[`\n|])", path.read_text(encoding="utf-8"))
    if " --" in line
})  # fmt: skip


def everywhere(*languages: str) -> list[Snippet]:
    return [snippet for path in PAGES for snippet in snippets(path, *languages)]


@pytest.fixture
def dataset(db: None) -> Dataset:
    """One that was made, renamed and tagged under an assignation."""
    with koherent.audit(app="importer", assignation_id="import-42"):
        dataset = Dataset.objects.create(project=Project.objects.create(name="Reef"), title="North")
        dataset.tags.add(Tag.objects.create(name="raw"))
        dataset.title = "North reef"
        dataset.save()
    return dataset


@pytest.mark.parametrize("snippet", everywhere("python"), ids=str)
def test_python_compiles_and_imports_what_is_there(snippet: Snippet) -> None:
    for node in ast.walk(ast.parse(snippet.text)):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            # Others are the reader's own modules, and packages that not every environment has.
            if name.split(".")[0] in ("koherent", "example_schema", "django", "strawberry", "strawberry_django"):
                module = importlib.import_module(name)
                if isinstance(node, ast.ImportFrom):
                    assert [a.name for a in node.names if not known(module, a.name)] == []


def known(module: ModuleType, name: str) -> bool:
    return hasattr(module, name) or find_spec(f"{module.__name__}.{name}") is not None


def test_the_python_of_every_page_runs_somewhere() -> None:
    pages = {path.name for path in PAGES if snippets(path, "python")}
    here = set(re.findall(r'(?:\brun\(|DOCS / )"([a-z0-9-]+\.md)"', Path(__file__).read_text(encoding="utf-8")))
    assert pages == here | set(ELSEWHERE)
    for page, test in ELSEWHERE.items():
        assert Path(page).stem in (ROOT / "tests" / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("snippet", everywhere("json"), ids=str)
def test_json_is_json(snippet: Snippet) -> None:
    json.loads(snippet.text)


@pytest.mark.parametrize("snippet", [s for s in everywhere("graphql") if s.path.parent == DOCS], ids=str)
def test_graphql_is_valid_in_the_example(snippet: Snippet) -> None:
    assert validate(SCHEMA, parse(snippet.text)) == []


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_take_their_arguments(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)
    load_command_class("koherent", name).create_parser("manage.py", name).parse_args(arguments)


def test_blocks_say_their_language() -> None:
    """A block that is only indented, or has no language, would be run by nobody."""
    plain = {"docs/architecture.md", "docs/feed.md", "benchmarks/README.md"}  # drawings, and the output of programs
    assert {str(snippet).partition(":")[0] for snippet in everywhere() if not snippet.language} <= plain
    for path in PAGES:
        assert re.findall(r"\n\n    +(?:python manage|from |import |def |class )", plain_text(path)) == [], path


def plain_text(path: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_admin() -> None:
    kept = dict(django_admin.site._registry)
    django_admin.site.unregister(Project)
    try:
        found: Any = run("admin.md")
        assert type(django_admin.site.get_model_admin(Project)) is found["ProjectAdmin"]
        assert issubclass(found["ProjectAdmin"], KoherentAdmin)
        assert found["site"].is_registered(found["Assignation"])
    finally:
        django_admin.site._registry = kept


def test_adopting(tmp_path: Path) -> None:
    """The models as an app of a project of its own; what it finds to migrate."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "__init__.py").touch()
    models = "".join(snippet.text for snippet in snippets(DOCS / "adopting.md", "python"))
    tag = "\nclass Tag(models.Model):\n    name = models.CharField(max_length=40)\n"
    (tmp_path / "lab" / "models.py").write_text(models + tag, encoding="utf-8")
    apps = [
        "django.contrib.contenttypes",
        "django.contrib.auth",
        "simple_history",
        "strawberry_django",
        "koherent",
        "lab",
    ]
    database = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    (tmp_path / "settings.py").write_text(
        f"SECRET_KEY = 'x'\nINSTALLED_APPS = {apps}\nDATABASES = {database}\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-m", "django", "makemigrations", "lab", "--dry-run"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
    )
    assert done.returncode == 0, done.stderr
    made = re.findall(r"Create model (\w+)", done.stdout)
    assert set(made) == {"Sample", "HistoricalSample", "HistoricalSample_tags", "Keeper", "HistoricalKeeper", "Tag"}


def test_attribution_outside_a_request(dataset: Dataset, admin: User) -> None:
    snippet = next(s for s in snippets(DOCS / "attribution.md", "python") if "koherent.audit(" in s.text)
    exec(snippet.text, {"user": admin})
    row: Any = Dataset.history.latest("history_id")
    told = (row.history_type, row.actor_name, row.app, row.assignation_id, row.history_change_reason, row.metadata)
    assert told == ("-", "root", "cleanup", "cleanup-2026-11", "retention", {"batch": 3})


@pytest.fixture
def sent() -> Iterator[list[dict[str, Any]]]:
    """Every message that went to the broker."""
    messages: list[dict[str, Any]] = []

    def catch(sender: str, headers: dict[str, Any], body: Any, **_: Any) -> None:
        messages.append(json.loads(json.dumps({"task": sender, "headers": headers, "args": body[0]})))

    before_task_publish.connect(catch)
    yield messages
    before_task_publish.disconnect(catch)
    celery_project.app.set_current()


def test_celery(dataset: Dataset, admin: User, sent: list[dict[str, Any]]) -> None:
    with override_settings(CELERY_BROKER_URL="memory://"):
        found: Any = run("celery.md")
        app = found["app"]
        with koherent.audit(user=admin, app="notebook", assignation_id="tidy-up-1"):
            found["publish"].delay(dataset.pk)
        found["publish_all"]()
        for message in sent:
            task = app.tasks[message["task"]]
            headers = {**message["headers"], "is_eager": False, "delivery_info": {}}
            Dataset.objects.update(status="draft")
            build_tracer(task.name, task, app=app, propagate=True)(headers["id"], message["args"], {}, headers)
    rows = Dataset.history.filter(status="published").order_by("history_id")
    assert list(rows.values_list("actor_name", "app", "assignation_id", "history_change_reason")) == [
        ("root", "notebook", "tidy-up-1", None),
        (None, "beat", None, "nightly"),
    ]


def test_erasure(dataset: Dataset, admin: User) -> None:
    other = Dataset.objects.create(pk=17, project=dataset.project, title="South")
    other.delete()
    with koherent.audit(user=User.objects.create_user("ada", pk=42), email="old@example.org"):
        Tag.objects.create(name="by ada")
    run("erasure.md", dataset=dataset, user=admin)
    assert set(Dataset.history.values_list("title", flat=True)) == {""}
    entry: Any = Tag.history.filter(name="by ada").earliest("history_id")
    assert (entry.actor_name, entry.metadata) == ("[erased]", {"email": "[erased]"})


def test_storage(dataset: Dataset) -> None:
    Dataset.objects.bulk_create(Dataset(project=dataset.project, title=f"{number}") for number in range(30))
    found: Any = run("storage.md")
    assert set(found["tidied"].values_list("title", flat=True)) == {"North", "North reef"}
    with pytest.raises(BadInput):
        entries_where(User, Q())


def test_feed(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("prometheus_client") is None:
        # A collector is all that the page takes of it.
        core, collectors = ModuleType("prometheus_client.core"), ModuleType("prometheus_client.registry")
        core.GaugeMetricFamily = lambda name, text, value: (name, value)  # type: ignore[attr-defined]
        collectors.Collector = object  # type: ignore[attr-defined]
        for module in (ModuleType("prometheus_client"), core, collectors):
            monkeypatch.setitem(sys.modules, module.__name__, module)
    roots = {name: getattr(koherent.graphql, name) for name in ("Query", "Mutation", "Subscription")}
    found: Any = run("feed.md", **roots)
    assert isinstance(found["application"], CookieMiddleware)
    assert "historyEntries" in found["schema"].as_str()
    assert "koherent_feed_deliveries" in str(list(found["FeedCollector"]().collect()))
    ada = User.objects.create_user("ada")
    ada.user_permissions.add(Permission.objects.get(codename="view_historicaltag"))
    ada.groups.add(Group.objects.create(name="reef"))
    for team in ("reef", "moon"):
        with koherent.audit(team=team):
            Tag.objects.create(name=f"of {team}")
    monkeypatch.setattr("tests.security.policies.TeamPolicy", found["TeamPolicy"], raising=False)
    with override_settings(KOHERENT={"POLICY": "tests.security.policies.TeamPolicy"}):
        viewer = Viewer(user=ada)
        assert [entry.object_label for entry in timeline.page(scope_for(viewer)).entries] == ["of reef"]
        policy: Policy = found["TeamPolicy"]()
        assert policy.rights_key(viewer) != policy.rights_key(Viewer(user=User.objects.create_user("eve")))


@pytest.mark.parametrize("name", ["schema", "merged", "nested", "federated", "with_node"])
def test_merging(name: str, dataset: Dataset, admin: User) -> None:
    history = "history(first: 1) { edges { node { id objectLabel } } }"
    found: Any = run("merging.md")
    query = f"{{ history audit {{ {history} }} }}" if name == "nested" else f"{{ {history} }}"
    result = found[name].execute_sync(query, context_value=context(admin))
    assert result.errors is None
    if name == "nested":
        assert result.data.pop("history") == "of the institute"
        result.data = result.data["audit"]
    [edge] = result.data["history"]["edges"]
    assert edge["node"]["objectLabel"] == "North reef"
    if name == "with_node":
        again = found[name].execute_sync(
            f'{{ node(id: "{edge["node"]["id"]}") {{ id }} }}', context_value=context(admin)
        )
        assert again.data == {"node": {"id": edge["node"]["id"]}}


def test_production(monkeypatch: pytest.MonkeyPatch, admin: User) -> None:
    found: Any = run("production.md")
    with override_settings(CHANNEL_LAYERS=found["CHANNEL_LAYERS"]):
        assert isinstance(get_channel_layer(), RedisChannelLayer)
    response = found["health"](RequestFactory().get("/health/"))
    assert (response.status_code, json.loads(response.content)["ok"]) == (200, True)


def test_reading(dataset: Dataset, admin: User) -> None:
    now = timezone.now()
    Dataset.objects.update(title="moved on")
    Project.objects.update(name="elsewhere")
    found: Any = run("reading.md", at=now, dataset=dataset)
    assert (found["past"].title, found["past"].project.name) == ("North reef", "Reef")
    assert ([row.title for row in found["pasts"]], len(found["everything"])) == (["North reef"], 1)
    queries = {"datasets": strawberry_django.field(filters=found["DatasetFilter"])}
    annotations = {"datasets": list[found["Dataset"]]}
    query = strawberry.type(type("Query", (koherent.graphql.Query,), {**queries, "__annotations__": annotations}))
    result = strawberry.Schema(query=query, extensions=[koherent.graphql.KoherentExtension]).execute_sync(
        '{ datasets(filters: {history: {assignationId: "import-42"}}) { title history { totalCount } } }',
        context_value=context(admin),
    )
    assert (result.errors, result.data) == (None, {"datasets": [{"title": "moved on", "history": {"totalCount": 4}}]})


def test_rest(dataset: Dataset, admin: User) -> None:
    found: Any = run("rest.md")
    assert found["MIDDLEWARE"][-1] == "koherent.middleware.AuditMiddleware"
    told = {"X-Assignation-Id": "tidy-up-1", "X-App": "notebook"}
    request: Any = RequestFactory().put("/datasets/1/", {"title": "South reef"}, "application/json", headers=told)
    request.user = admin
    response: Any = AuditMiddleware(lambda r: found["rename"](r, dataset.pk))(request)
    assert json.loads(response.content) == {"title": "South reef"}
    row: Any = Dataset.history.latest("history_id")
    assert (row.actor_name, row.app, row.assignation_id) == ("root", "notebook", "tidy-up-1")
    ask: Any = RequestFactory().get("/undo/")
    ask.user = admin
    shown = json.loads(found["undo"](ask, "tidy-up-1").content)
    assert (shown["status"], shown["steps"]) == ("PLANNED", [["~", "example_schema.dataset", "South reef"]])
    do: Any = RequestFactory().post("/undo/", {"plan": shown["plan"]})
    do.user = admin
    assert json.loads(found["undo"](do, "tidy-up-1").content)["status"] == "APPLIED"
    do.user = User.objects.create_user("eve")
    refused = found["undo"](do, "tidy-up-1")
    assert (refused.status_code, json.loads(refused.content)["code"]) == (403, "FORBIDDEN")


def test_reverting(db: None) -> None:
    """What the assignation did is undone; then the first entry's values are there already."""
    dataset = Dataset.objects.create(project=Project.objects.create(name="Reef"), title="North")
    with koherent.audit(assignation_id="import-42"):
        Dataset.objects.update(title="South")
    dataset.refresh_from_db()
    found: Any = run("reverting.md", dataset=dataset, entry=Dataset.history.earliest("history_id"))
    assert (found["report"].status, Dataset.objects.get().title) == (RevertStatus.UNCHANGED, "North")
    assert list(Dataset.history.order_by("history_id").values_list("title", "history_change_reason")) == [
        ("North", None),
        ("South", None),
        ("North", "wrong file"),
    ]


def test_security_limits() -> None:
    snippet = next(s for s in snippets(DOCS / "security.md", "python") if "MaxTokensLimiter" in s.text)
    found: dict[str, Any] = {}
    exec(snippet.text, found)
    mine = [getattr(each, "func", each) for each in found["extensions"]]
    assert mine == [getattr(each, "func", each) for each in example.extensions][1:]


def test_settings() -> None:
    found: Any = run("settings.md")
    with override_settings(KOHERENT=found["KOHERENT"]):
        assert [message for message in run_checks(tags=["koherent"]) if message.id != "koherent.W002"] == []
