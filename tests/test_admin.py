"""The trail in Django's admin: who, what, when, and its undo, as the policy allows."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.admin import AdminSite, ModelAdmin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path, reverse
from django.utils.functional import Promise

import koherent
from example_schema.models import Dataset, Image, Project, Tag
from koherent.admin import AssignationAdmin, KoherentAdmin
from koherent.admin.showing import assignation_url, history_url
from koherent.models import Assignation, Origin
from koherent.policy import Policy, Viewer
from koherent.registry import TrackedModel, for_model
from koherent.revert import revert_assignation

pytestmark = pytest.mark.django_db
WORK = "import/42 é"


class Page:
    """A page as a person reads it."""

    def __init__(self, response: Any) -> None:
        self.status, self.html = response.status_code, response.content.decode()
        main = self.html.partition('<div id="content-main">')[2].partition('id="footer"')[0]
        self.text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", main.replace("&quot;", '"').replace("&#x27;", "'")))
        self.links = re.findall(r'href="([^"]+)"', main)

    def rows(self) -> list[str]:
        """The table's lines."""
        bodies = re.findall(r"<tbody>(.*?)</tbody>", self.html, flags=re.DOTALL)
        lines = [line for body in bodies for line in re.findall(r"<tr.*?</tr>", body, flags=re.DOTALL)]
        return [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", line)).strip() for line in lines]


Browse = Callable[..., Page]


@pytest.fixture
def browse(accounts: dict[str, User]) -> Browse:
    """``browse(address, who="curator", data=None)``: the page; with data, what a form is answered with in the end."""

    def page(address: str, who: str = "curator", data: dict[str, Any] | None = None) -> Page:
        client = Client()
        client.force_login(accounts[who])
        response = client.get(address) if data is None else client.post(address, data, follow=True)
        return Page(response)

    return page


@pytest.fixture
def dataset(accounts: dict[str, User]) -> Dataset:
    """A dataset that the importer retitled and tagged under one assignation, with an image."""
    with koherent.audit(user=accounts["curator"], app="notebook", assignation_id="setup"):
        made = Dataset.objects.create(project=Project.objects.get(), title="North reef", access_notes="secret")
    with koherent.audit(user=accounts["importer"], app="microscope-7", assignation_id=WORK, reason="import"):
        Dataset.objects.update(title="IMPORT_FINAL_v2", status="published", access_notes="more secret")
        made.tags.set(Tag.objects.filter(name="coral"))
        Image.objects.create(dataset=made, name="a.tif", width=1, height=2)
    made.refresh_from_db()
    return made


def history_of(obj: Any) -> str:
    return reverse(f"admin:example_schema_{obj._meta.model_name}_history", args=[quote(str(obj.pk))])


def entry_page(obj: Any, entry: Any) -> str:
    return reverse(
        f"admin:example_schema_{obj._meta.model_name}_simple_history", args=[quote(str(obj.pk)), entry.history_id]
    )


def undo_page(assignation: str = WORK) -> str:
    return reverse("admin:koherent_assignation_revert", args=[quote(assignation)])


def assignation_page(assignation: str = WORK) -> str:
    return reverse("admin:koherent_assignation_change", args=[quote(assignation)])


def confirm(page: Page, **data: str) -> dict[str, str]:
    """What the form of a plan sends."""
    hidden = dict(re.findall(r'<input type="hidden" name="(plan|policy)" value="([^"]*)"', page.html))
    assert set(hidden) == {"plan", "policy"}, page.text
    return {**hidden, "reason": "", **data}


def test_an_objects_history_says_who_what_when_and_why(browse: Browse, dataset: Dataset) -> None:
    page = browse(history_of(dataset))
    tags, update, create = page.rows()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d importer microscope-7 Changed import tags : \+ coral import/42 é", tags
    )
    assert "Changed import title : North reef → IMPORT_FINAL_v2 status : Draft → Published" in update
    assert "access notes : hidden" in update
    assert "Go back to this" in update
    assert "curator notebook Created" in create
    assert "project : Reef survey" in create
    assert "secret" not in page.html
    assert "more secret" in browse(history_of(dataset), "admin").html
    assert assignation_page() in page.links


def test_the_history_of_a_deleted_object_stays_and_brings_it_back(browse: Browse, dataset: Dataset) -> None:
    key, entry = dataset.pk, dataset.history.last()
    address, page = history_of(dataset), entry_page(dataset, dataset.history.first())
    assert entry is not None
    dataset.delete()
    assert browse(address).rows()[0].split()[3:5] == ["–", "Deleted"]
    plan = browse(page)
    assert "Create again" in plan.rows()[0]
    done = browse(page, data=confirm(plan, reason="needed it"))
    assert "Undone, as assignation" in done.html
    assert Dataset.objects.get().pk == key
    newest = Dataset.history.order_by("-history_id").first()
    assert (newest.actor_name, newest.history_change_reason, newest.origin) == ("curator", "needed it", "revert")


def test_an_assignations_page_shows_all_that_it_did(browse: Browse, dataset: Dataset) -> None:
    page = browse(assignation_page())
    assert "Who importer With microscope-7" in page.text
    assert "3 entries: datasets, images" in page.text
    assert len(page.rows()) == 3
    assert any("Created a.tif example_schema.image" in row for row in page.rows())
    assert {history_of(dataset), history_of(Image.objects.get())} <= set(page.links)
    assert undo_page() in page.html
    listed = browse(reverse("admin:koherent_assignation_changelist"))
    assert [re.split(r" \d{4}-\d\d-\d\d ", row)[0] for row in listed.rows()] == ["import/42 é", "setup"]
    assert "Assignations" in browse(reverse("admin:index")).html


def test_undo_is_shown_confirmed_and_done_exactly_so(browse: Browse, dataset: Dataset) -> None:
    plan = browse(undo_page(), "admin")
    assert "2 steps lead back." in plan.text
    assert "Nothing has been written yet." in plan.text
    assert any("IMPORT_FINAL_v2 → North reef" in row and "− coral" in row for row in plan.rows())
    assert any(row.startswith("Delete a.tif") for row in plan.rows())
    assert Image.objects.count() == 1
    done = browse(undo_page(), "admin", confirm(browse(undo_page(), "admin"), reason="wrong microscope"))
    assert "Undone, as assignation" in done.html
    assert "It undid import/42 é" in done.text
    dataset.refresh_from_db()
    assert (dataset.title, dataset.access_notes, Image.objects.count()) == ("North reef", "secret", 0)
    undo = Assignation.objects.get(reverts=WORK)
    assert {e.actor_name for e in Dataset.history.filter(assignation_id=undo.assignation_id)} == {"admin"}
    assert f"Undone by {undo.assignation_id}" in browse(assignation_page()).text
    assert "Nothing to do" in browse(undo_page(), "admin").text


def test_what_changed_meanwhile_is_shown_and_nothing_is_written(browse: Browse, dataset: Dataset) -> None:
    plan = browse(undo_page(), "admin")
    Dataset.objects.update(title="Edited by hand")
    shown = browse(undo_page(), "admin", confirm(plan))
    assert "Nothing was written: meanwhile something changed." in shown.html
    assert "CHANGED_SINCE" in shown.text
    assert "1 of them has a conflict." in shown.text
    assert 'value="Yes, do exactly this"' not in shown.html
    assert Dataset.objects.get().title == "Edited by hand"
    skipping = browse(f"{undo_page()}?policy=SKIP_CONFLICTS", "admin")
    done = browse(undo_page(), "admin", confirm(skipping))
    assert "Undone, as assignation" in done.html
    assert (Dataset.objects.get().title, Image.objects.count()) == ("Edited by hand", 0)
    overwriting = browse(f"{undo_page()}?policy=OVERWRITE", "admin")
    browse(undo_page(), "admin", confirm(overwriting))
    assert Dataset.objects.get().title == "North reef"


def test_only_the_policy_decides(browse: Browse, accounts: dict[str, User], dataset: Dataset) -> None:
    entry = dataset.history.last()
    pages = (history_of(dataset), assignation_page(), reverse("admin:koherent_assignation_changelist"))
    undo = (undo_page(), entry_page(dataset, entry))
    assert [browse(page, "viewer").status for page in pages + undo] == [200, 200, 200, 403, 403]
    assert "Go back to this" not in browse(history_of(dataset), "viewer").html
    assert undo_page() not in browse(assignation_page(), "viewer").html
    refused = browse(undo_page())
    # A value that is hidden from the curator would change.
    assert (refused.status, "You may not undo all of this. (FORBIDDEN)" in refused.text) == (403, True)
    accounts["viewer"].user_permissions.clear()
    assert [browse(page, "viewer").status for page in pages + undo] == [403] * 5
    assert "Assignations" not in browse(reverse("admin:index"), "viewer").html
    with override_settings(KOHERENT={"POLICY": f"{__name__}.OnlyProjects"}):
        assert browse(history_of(dataset)).status == 403
        assert browse(assignation_page()).status == 404
        assert browse(undo_page()).status == 404


class OnlyProjects(Policy):
    """Shows the history of projects to whoever is logged in."""

    def viewable_models(self, viewer: Viewer, models: Any) -> list[TrackedModel]:
        return [tracked for tracked in models if tracked.model is Project]


def test_what_does_not_exist_is_not_found(browse: Browse, dataset: Dataset) -> None:
    other = Dataset.objects.create(project=dataset.project, title="Other")
    entry = dataset.history.last()
    history = reverse("admin:example_schema_dataset_history", args=["nothing"])
    image = reverse("admin:example_schema_image_history", args=["no-uuid"])
    wrong = [entry_page(other, entry), f"{history_of(other)}9999999999999999999999/", f"{history_of(other)}x/"]
    wrong += [history, image, f"{history_of(dataset)}?after=nonsense", assignation_page("none"), undo_page("none")]
    wrong += [f"{assignation_page()}?after=x", f"{reverse('admin:koherent_assignation_changelist')}?after=x"]
    assert [browse(page).status for page in wrong] == [404] * len(wrong)


def test_what_is_refused_is_told_on_the_page(browse: Browse, dataset: Dataset) -> None:
    with override_settings(KOHERENT={"REVERT_LIMIT": 1}):
        page = browse(undo_page(), "admin")
    assert (page.status, "(LIMIT_EXCEEDED)" in page.text) == (400, True)
    plan = browse(undo_page(), "admin")
    refused = browse(undo_page(), "admin", confirm(plan, reason="x" * 256))
    assert "at most 255 characters" in refused.text
    assert browse(undo_page(), "admin", {"reason": ""}).status == 200
    assert Image.objects.count() == 1


def test_pages_go_on_where_the_last_one_ended(
    browse: Browse, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(KoherentAdmin, "history_list_per_page", 2)
    monkeypatch.setattr("koherent.admin.assignations.PAGE", 1)
    first = browse(history_of(dataset))
    (older,) = re.findall(r'href="(\?after=[^"]+)"', first.html)
    second = browse(history_of(dataset) + older)
    assert [len(first.rows()), len(second.rows())] == [2, 1]
    assert "Go back to this" in second.rows()[0]
    listed = reverse("admin:koherent_assignation_changelist")
    (older,) = re.findall(r'href="(\?after=[^"]+)"', browse(listed).html)
    assert browse(listed + older).rows()[0].startswith("setup")
    (older,) = re.findall(r'href="(\?after=[^"]+)"', browse(assignation_page()).html)
    assert "Newest" in browse(assignation_page() + older).text
    with override_settings(KOHERENT={"PAGE_LIMIT": 1}):
        plan = browse(undo_page(), "admin")
        assert "1–1 / 2" in plan.text
        assert "2–2 / 2" in browse(f"{undo_page()}?start=1", "admin").text


def test_a_page_costs_the_same_for_few_and_many_entries(browse: Browse, dataset: Dataset) -> None:
    costs = []
    for number in (1, 20):
        with koherent.audit(assignation_id=f"many-{number}"):
            for title in range(number):
                Dataset.objects.update(title=f"Title {number} {title}")
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert len(browse(assignation_page(f"many-{number}")).rows()) == number
        costs.append(len(queries))
    assert costs[0] == costs[1]


def test_further_columns_are_redacted_too(browse: Browse, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(KoherentAdmin, "history_list_display", ["access_notes", "status", "shout"])
    monkeypatch.setattr(KoherentAdmin, "shout", lambda self, row: row.title.upper(), raising=False)
    page = browse(history_of(dataset))
    assert "Access notes" in page.text
    assert "– published IMPORT_FINAL_V2" in page.rows()[0]
    assert "secret" not in page.html
    assert "more secret published" in browse(history_of(dataset), "admin").rows()[0]


def test_links_lead_to_pages_that_the_site_has() -> None:
    site = AdminSite("other")
    projects, datasets = for_model(Project), for_model(Dataset)
    assert projects is not None
    assert datasets is not None
    site.register(Project, KoherentAdmin)
    site.register(Dataset, ModelAdmin)
    assert (assignation_url(site, WORK), history_url(site, datasets, "1")) == ("", "")
    site.register(Assignation, AssignationAdmin)
    with override_settings(ROOT_URLCONF=(path("other/", site.urls),)):
        assert assignation_url(site, WORK) == "/other/koherent/assignation/import_2F42%20%C3%A9/"
        assert history_url(site, projects, "1") == "/other/example_schema/project/1/history/"


def test_undone_work_is_marked_in_the_list(browse: Browse, dataset: Dataset) -> None:
    revert_assignation(None, WORK)
    rows = browse(reverse("admin:koherent_assignation_changelist")).rows()
    assert [row.rsplit(" ", 1)[-1] for row in rows] == ["undo", "undone", "1"]


def test_all_that_people_read_can_be_translated() -> None:
    """A team's own catalogue finds every text: none stands in a template outside of a translation."""
    mark = re.compile(
        r"{% blocktranslate.*?{% endblocktranslate %}|{[%{#].*?[%}#]}|<[^>{]*(?:{[%{].*?[%}]}[^>{]*)*>|&\w+;", re.DOTALL
    )
    folder = Path(koherent.__file__).parent / "templates" / "koherent"
    templates = {path.name: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    assert templates
    assert {
        name: found for name, text in templates.items() if (found := re.findall(r"[A-Za-z]+", mark.sub(" ", text)))
    } == {}
    lazy = (apps.get_app_config("koherent").verbose_name, Assignation._meta.verbose_name_plural, *Origin.labels)
    assert [text for text in lazy if not isinstance(text, Promise)] == []
