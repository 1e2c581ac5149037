"""Import from the page: choose files, follow the report, open a room, and import the same again."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.browser.steps import OpenPage
from tests.support.exports import as_json, chatgpt, many, written
from tests.support.server import Server


def choose(page: Page, *paths: Path) -> None:
    page.locator("form.import__form input[type=file]").set_input_files(list(paths))
    page.get_by_role("button", name="Import").click()


def test_files_are_imported_and_their_rooms_opened(open_page: OpenPage, server: Server, tmp_path: Path) -> None:
    other = open_page("/")
    page = open_page("/")
    page.keyboard.press("Control+k")
    page.keyboard.type("import")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Import")).to_be_visible()
    one = written(tmp_path / "one.json", as_json([chatgpt("A <b>talk</b>", ["Hi", "**Hello**"]), {"other": 1}]))
    two = written(tmp_path / "two.json", as_json(many(3, first=5)))
    choose(page, one, two)
    expect(page.locator("#import")).to_have_attribute("data-state", "done")
    expect(page.locator("#import [role=status]")).to_have_text("4 imported, 0 skipped, 1 failed.")
    expect(other.locator("#rooms .row")).to_have_count(4)  # another tab is told
    expect(page.locator("#rooms .row[data-unread]")).to_have_count(0)
    page.get_by_role("link", name="A <b>talk</b>").first.click()
    expect(page.locator("#message-2 .message__body strong")).to_have_text("Hello")
    page.goto(f"{server.url}/import")
    expect(page.locator(".import__list li")).to_have_count(1)
    choose(page, two)
    expect(page.locator("#import [role=status]")).to_have_text("0 imported, 3 skipped, 0 failed.")


def test_report_follows_a_long_import_which_can_be_cancelled(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("/import")
    choose(page, written(tmp_path / "many.json", as_json(many(5000))))
    expect(page.locator("#import")).to_have_attribute("data-state", "running")
    expect(page.locator("#import tbody tr").first).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#import")).to_have_attribute("data-state", "cancelled")
    expect(page.locator("#import [role=status]")).to_contain_text("You cancelled this import.")


def test_import_without_javascript(browser: Browser, server: Server, tmp_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server.url}/import")
    choose(page, written(tmp_path / "one.json", as_json(many(2))))
    expect(page.locator("#import [role=status]")).to_have_text("2 imported, 0 skipped, 0 failed.")
    page.locator("#import tbody a").first.click()
    expect(page.locator("article")).to_have_count(2)
    context.close()
