"""The admin in a real browser, on the example's real server: a person sees who, what and when, and undoes it.

``make browser`` runs it. ``BROWSER`` is the browser's program; with ``BROWSER_SCREENSHOTS`` the pages are kept there.
"""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from example_schema.accounts import password_of
from example_schema.demo import CREATE_DATASET, UPDATE_DATASET, log_in, prepare, server

CREATE_IMAGE = "mutation($data: ImageInput!) { createImage(data: $data) { ... on Image { id } } }"
IMPORT = "import-0042"


async def work(address: str) -> None:
    """A curator makes a dataset; an importer spoils it under one assignation."""
    async with (
        log_in(address, "curator", "notebook") as curator,
        log_in(address, "importer", "microscope-7") as importer,
    ):
        project = (await curator.ask("{ projects { id } }"))["projects"][0]["id"]
        data = {"title": "North reef, July", "project": {"set": project}}
        made = (await curator.ask(CREATE_DATASET, "curation-2026-07", data=data))["createDataset"]["id"]
        tag = (await curator.ask("{ tags { id } }"))["tags"][0]["id"]
        wrong = {"id": made, "title": "IMPORT_FINAL_v2", "status": "published", "tags": {"set": [tag]}}
        await importer.ask(UPDATE_DATASET, IMPORT, data=wrong)
        for number in (1, 2):
            image = {"dataset": {"set": made}, "name": f"reef-{number}.tif", "width": 1920, "height": 1080}
            await importer.ask(CREATE_IMAGE, IMPORT, data=image)


async def edit(address: str) -> None:
    """Somebody goes on working on the dataset."""
    async with log_in(address, "curator", "notebook") as curator:
        made = (await curator.ask("{ datasets { id } }"))["datasets"][0]["id"]
        await curator.ask(UPDATE_DATASET, "night-run-7", data={"id": made, "title": "North reef, July and August"})


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The example's server, on a database of its own."""
    monkeypatch.setenv("EXAMPLE_SQLITE", str(tmp_path / "browser.sqlite3"))
    monkeypatch.setenv("EXAMPLE_DEBUG", "1")  # Django serves the admin's style sheets in debug mode only
    prepare()
    with server() as running:
        asyncio.run(work(running))
        yield running


@pytest.fixture
def page() -> Iterator[Page]:
    """A tab of the browser; a page that complains in its console fails the test."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["BROWSER"], args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1280, "height": 760})
        tab.route("**/favicon.ico", lambda route: route.fulfill(status=204))  # the example has none
        tab.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        yield tab
        browser.close()
    assert complaints == []


def keep(page: Page, name: str) -> None:
    """The picture of a page."""
    folder = os.environ.get("BROWSER_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"admin-{name}.png")


def test_a_person_finds_what_an_import_did_and_undoes_it(address: str, page: Page) -> None:
    page.goto(f"{address}/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(password_of("admin"))
    page.get_by_role("button", name="Log in").click()

    page.get_by_role("link", name="Datasets", exact=True).first.click()
    page.get_by_role("link", name="IMPORT_FINAL_v2").click()
    page.get_by_role("link", name="History").click()
    changed = page.get_by_role("row").filter(has_text="North reef, July → IMPORT_FINAL_v2")
    for text in ("importer", "microscope-7", "Changed", IMPORT, "Draft → Published"):
        expect(changed).to_contain_text(text)
    expect(page.get_by_role("row").filter(has_text="Created")).to_contain_text("curator")
    keep(page, "history")

    page.get_by_role("link", name=IMPORT).first.click()
    expect(page.get_by_role("definition").first).to_have_text("importer")
    expect(page.get_by_role("row").filter(has_text="reef-2.tif")).to_contain_text("Created")
    keep(page, "assignation")

    page.get_by_role("link", name="Undo all of it …").click()
    expect(page.get_by_text("3 steps lead back. Nothing has been written yet.")).to_be_visible()
    back = page.get_by_role("row").filter(has_text="Change back")
    expect(back).to_contain_text("IMPORT_FINAL_v2 → North reef, July")
    keep(page, "undo-plan")

    with ThreadPoolExecutor() as elsewhere:  # Playwright's own event loop runs in this thread
        elsewhere.submit(asyncio.run, edit(address)).result()
    page.get_by_label("Reason").fill("wrong microscope")
    page.get_by_role("button", name="Yes, do exactly this").click()
    expect(page.get_by_text("Nothing was written: meanwhile something changed.")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="CHANGED_SINCE")).to_contain_text("North reef, July and August")
    keep(page, "undo-conflict")

    page.get_by_label("Leave out what conflicts").check()
    page.get_by_role("button", name="Plan again").click()
    page.get_by_label("Reason").fill("wrong microscope")
    page.get_by_role("button", name="Yes, do exactly this").click()
    expect(page.get_by_text("Undone, as assignation")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="reef-2.tif")).to_contain_text("Deleted")
    expect(page.get_by_role("row").filter(has_text="reef-2.tif")).to_contain_text("wrong microscope")
    keep(page, "undone")

    page.get_by_role("link", name="Assignations").first.click()
    expect(page.get_by_role("row").filter(has_text=IMPORT)).to_contain_text("undone")
    keep(page, "assignations")
