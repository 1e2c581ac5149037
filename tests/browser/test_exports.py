"""Download a room from its menu, the palette and without JavaScript."""

from __future__ import annotations

import json
from pathlib import Path
from zipfile import ZipFile

from playwright.sync_api import Browser, Download, Page, expect

from tests.browser.steps import OpenPage, composer, create_room
from tests.support.server import Server


def saved(download: Download) -> Path:
    assert download.failure() is None
    return Path(download.path())


def test_room_is_downloaded_from_its_menu(open_page: OpenPage, server: Server) -> None:
    """By mouse and by keyboard. The page stays, with what was typed."""
    path = create_room(server, "Küche", questions=1)
    page = open_page(path)
    composer(page).fill("A draft")
    page.get_by_label("Room actions").click()
    page.get_by_role("link", name="Export…").click()
    with page.expect_download() as found:
        page.locator("#formats").get_by_role("link", name="Export as JSON", exact=True).click()
    assert found.value.suggested_filename == "Küche.json"
    item = json.loads(saved(found.value).read_text())
    assert [one["parts"][0]["text"] for one in item["messages"]][0] == "Question 1."
    expect(page.locator("#header .menu[open]")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.get_by_label("Room actions")).to_be_focused()
    page.keyboard.press("Enter")
    page.locator("#formats a").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    with page.expect_download() as found:
        page.keyboard.press("Enter")
    assert found.value.suggested_filename == "Küche.jsonl"
    expect(composer(page)).to_have_value("A draft")
    expect(page).to_have_url(server.url + path)


def test_formats_have_the_focus_when_they_appear(open_page: OpenPage, server: Server) -> None:
    page = open_page(create_room(server, "Kitchen"))
    page.get_by_label("Room actions").click()
    page.get_by_role("link", name="Export…").press("Enter")
    expect(page.locator("#formats a").first).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.get_by_label("Room actions")).to_be_focused()


def test_all_rooms_are_downloaded_from_the_palette(open_page: OpenPage, server: Server) -> None:
    page = open_page(create_room(server, "Kitchen"))
    page.keyboard.press("Control+k")
    page.keyboard.type("backup all")
    expect(page.locator("#palette-options")).to_have_attribute("data-q", "backup all")
    expect(page.locator("#palette [role=option]")).to_have_text("Export all rooms")
    with page.expect_download() as found:
        page.keyboard.press("Enter")
    with ZipFile(saved(found.value)) as archive:
        assert [name[:8] for name in archive.namelist()] == ["Kitchen "]


def test_room_is_downloaded_without_javascript(browser: Browser, server: Server) -> None:
    path = create_room(server, "Kitchen", questions=1)
    context = browser.new_context(java_script_enabled=False)
    page: Page = context.new_page()
    page.goto(server.url + path)
    page.get_by_label("Room actions").click()
    page.get_by_role("link", name="Export…").click()
    expect(page.get_by_role("heading", name="Export “Kitchen”")).to_be_visible()
    with page.expect_download() as found:
        page.get_by_role("link", name="Markdown What is shown").click()
    assert found.value.suggested_filename == "Kitchen.md"
    assert saved(found.value).read_text().startswith("# Kitchen\n\n## You, ")
    page.get_by_role("link", name="Back to the room").click()
    expect(page).to_have_url(server.url + path)
    context.close()
