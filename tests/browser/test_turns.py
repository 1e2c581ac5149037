"""Turns as a person meets them: every ending with the way on from it, settings, and the wait for a busy model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.steps import message, new_room, reload_until, say, scroll, settled, until
from tests.support.model_server import ModelServer, Reply, answer, end, held, reasoning, text, tool_call, usage
from tests.support.server import Server
from tests.support.server_pool import ServerPool

OpenPage = Callable[..., Page]
BUSY = Reply(b'{"error": {"message": "Slow down."}}', status=429, headers={"Retry-After": "1"})


def answered(server: Server, path: str, words: str) -> None:
    """Ask by HTTP, and wait for the end of the answer."""
    response = requests.post(f"{server.url}{path}/messages", {"text": words}, headers={"Prefer": "wait=60"}, timeout=90)
    assert response.status_code == 201, response.text


def test_stop_in_mid_thought_tool_or_text_keeps_what_came_and_the_next_question_works(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """Wherever the model is, its connection is closed, the state says so, and one can ask on at once."""
    page = open_page()
    new_room(page)
    roll = Reply(tool_call("roll_dice", '{"sides": 2}'), end("tool_calls"))
    cases: list[tuple[str, list[Reply], str]] = [
        (".part--reasoning", [held(reasoning("Let me think"))], "Let me think"),
        (".part--tool[data-state=done]", [roll, held()], "roll_dice"),
        (".part--text", [held(text("Half of an"))], "Half of an"),
    ]
    for number, (where, replies, kept) in enumerate(cases, 1):
        last = model_server.will(*replies)
        say(page, f"Question {number}")
        expect(message(page, 2 * number, state="streaming").locator(where)).to_be_visible()
        assert last.begun.wait(20), "a Stop between two steps would reach no model"
        page.get_by_role("button", name="Stop").click()
        stopped = message(page, 2 * number, state="stopped")
        expect(stopped).to_contain_text("Stopped.")
        expect(stopped.locator(where)).to_contain_text(kept)
        assert last.closed.wait(20), "the model's connection was not closed"
        expect(page.locator("[aria-busy]")).to_have_count(0)
    say(page, "And now?")
    expect(message(page, 8, state="complete")).to_contain_text("All right.")


def test_an_answer_at_its_length_limit_can_be_gone_on_with(open_page: OpenPage, model_server: ModelServer) -> None:
    """Continue adds to the same answer; a reload shows the same text in one piece."""
    page = open_page()
    new_room(page)
    model_server.will(Reply(text("Once upon a"), end("length")))
    say(page, "A story")
    expect(message(page, 2, state="interrupted")).to_contain_text("length limit")
    more = model_server.will(held(text(" time")))
    page.get_by_role("button", name="Continue").click()
    expect(message(page, 2, state="streaming").locator(".message__body")).to_have_text("Once upon a time")
    more.say(text(" there was an owl."), end())
    expect(message(page, 2, state="complete").locator(".message__body")).to_have_text(
        "Once upon a time there was an owl."
    )
    assert model_server.requests[-1]["messages"][-2] == {"role": "assistant", "content": "Once upon a"}
    expect(page.get_by_role("button", name="Continue")).to_have_count(0)
    settled(page)
    page.reload()
    expect(message(page, 2, state="complete").locator(".message__body > *")).to_have_count(1)
    expect(message(page, 2).locator(".message__body")).to_have_text("Once upon a time there was an owl.")


def test_a_double_click_on_retry_asks_once(open_page: OpenPage, model_server: ModelServer) -> None:
    """The second click is none, and no error is shown for it."""
    page = open_page()
    new_room(page)
    model_server.will(Reply(text("Half")), held(text("Again")))
    say(page, "Hello")
    expect(message(page, 2, state="interrupted")).to_be_visible()
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.url.endswith("/turn") else None)
    page.get_by_role("button", name="Retry").dblclick()
    expect(message(page, 2, state="streaming")).to_contain_text("Again")
    page.get_by_role("button", name="Stop").click()
    expect(message(page, 2, state="stopped")).to_be_visible()
    assert len(sent) == 2, "one Retry and one Stop"
    expect(page.locator("#error")).to_be_empty()


def test_a_small_move_up_is_not_pulled_back(open_page: OpenPage, model_server: ModelServer) -> None:
    """Whoever reads back while words come stays there, and follows again at the end."""
    page = open_page()
    new_room(page)
    reply = model_server.will(held(*[text(f"Line {n}\n\n") for n in range(60)]))
    say(page, "Much")
    expect(page.get_by_text("Line 59")).to_be_in_viewport()
    scroller = page.locator("#scroller")
    scroller.evaluate("list => list.addEventListener('wheel', () => (list.dataset.moved = 'yes'))")
    scroller.hover()
    page.mouse.wheel(0, -30)
    expect(scroller).to_have_attribute("data-moved", "yes")
    left = "list => list.scrollHeight - list.scrollTop - list.clientHeight"
    reply.say(*[text(f"More {n}\n\n") for n in range(20)])
    expect(message(page, 2)).to_contain_text("More 19")
    assert scroller.evaluate(left) > 100
    page.mouse.wheel(0, 5000)
    expect(page.get_by_text("More 19")).to_be_in_viewport()
    scroll(page, "end")
    reply.say(text("The last"), end())
    reply.hang_up()
    expect(page.get_by_text("The last")).to_be_in_viewport()


def test_a_busy_model_is_waited_for_with_a_countdown(open_page: OpenPage, model_server: ModelServer) -> None:
    """429 names the wait, counts it down, and asks again by itself; Stop ends the wait."""
    page = open_page()
    new_room(page)
    model_server.will(BUSY, BUSY, answer("Here I am."))
    say(page, "Are you there?")
    expect(message(page, 2, state="complete")).to_contain_text("Here I am.")
    expect(page.locator("[data-countdown]")).to_have_count(0)
    assert len(model_server.requests) == 3

    # Only a long wait is sure to be seen: its number is one of the first it has, and then a smaller one.
    model_server.will(BUSY, Reply(b"", status=429, headers={"Retry-After": "60"}))
    say(page, "And now?")
    waiting = message(page, 4, state="waiting")
    expect(waiting).to_contain_text("429")
    countdown = waiting.locator("[data-countdown]")
    expect(countdown).to_have_text(re.compile(r"^Next try in ([2-5]\d|60) s$"))
    first = int(countdown.inner_text().split()[3])
    until(lambda: int(countdown.inner_text().split()[3]) < first)
    assert len(model_server.requests) == 5
    page.get_by_role("button", name="Stop").click()
    expect(message(page, 4, state="stopped")).to_contain_text("Stopped.")
    expect(page.get_by_role("button", name="Retry")).to_be_visible()


def test_a_server_that_comes_back_answers_after_retry(open_page: OpenPage, model_server: ModelServer) -> None:
    """Down: the answer failed and says what to do. Up again: Retry answers, in the same place."""
    page = open_page()
    new_room(page)
    model_server.close()
    say(page, "Hello?")
    failed = message(page, 2, state="failed")
    expect(failed).to_contain_text("Start the model server, then Retry.")
    again = ModelServer(model_server.port)
    try:
        page.get_by_role("button", name="Retry").click()
        expect(message(page, 2, state="complete").locator(".message__body")).to_have_text("All right.")
        expect(page.locator("#messages article")).to_have_count(2)
    finally:
        again.close()


def test_a_question_is_edited_after_saying_how_much_that_drops(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """The dialog holds the question as it is and names the number; Cancel changes nothing; another tab follows."""
    page = open_page()
    path = new_room(page)
    for words in ("\nWhat is <b>one</b>?\n", "Two?", "Three?"):
        answered(server, path, words)
    expect(message(page, 6, state="complete")).to_be_attached()
    other = open_page(path)
    page.bring_to_front()
    edit = message(page, 1).get_by_role("link", name="Edit")
    edit.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Edit the question")
    box = dialog.get_by_role("textbox", name="Question")
    expect(box).to_be_focused()
    expect(box).to_have_value("\nWhat is <b>one</b>?\n")
    expect(dialog).to_contain_text("the 4 messages after it")
    box.fill("Never mind")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_be_hidden()
    expect(page.locator("#messages article")).to_have_count(6)

    model_server.will(answer("Three minus two."))
    edit.click()
    box.fill("What is one, really?")
    dialog.get_by_role("button", name="Drop 4 messages and ask again").click()
    expect(dialog).to_be_hidden()
    for tab in (page, other):
        expect(message(tab, 2, state="complete")).to_contain_text("Three minus two.")
        expect(message(tab, 1)).to_contain_text("What is one, really?")
        expect(tab.locator("#messages article")).to_have_count(2)


def test_an_edit_that_cannot_be_now_keeps_what_was_typed(
    open_page: OpenPage, server: Server, model_server: ModelServer, complaints: list[str]
) -> None:
    """While an answer is made, and when more was said meanwhile: a sentence in the dialog, and nothing is dropped."""
    page = open_page()
    path = new_room(page)
    answered(server, path, "One?")
    message(page, 1).get_by_role("link", name="Edit").click()
    dialog = page.get_by_role("dialog", name="Edit the question")
    dialog.get_by_role("textbox").fill("Better")
    running = model_server.will(held(text("Still at it")))
    requests.post(f"{server.url}{path}/messages", {"text": "Two?"}, timeout=20)
    assert running.begun.wait(20)
    dialog.get_by_role("button", name="Ask again").click()
    expect(dialog.get_by_role("alert")).to_contain_text("An answer is being made in this room.")
    running.say(end())
    running.hang_up()
    expect(message(page, 4, state="complete")).to_be_attached()
    dialog.get_by_role("textbox").press("Control+Enter")
    expect(dialog.get_by_role("alert")).to_contain_text("This room has new messages.")
    expect(dialog.get_by_role("textbox")).to_have_value("Better")
    expect(page.locator("#messages article")).to_have_count(4)


def test_two_tabs_ask_at_once_and_both_see_the_queue(open_page: OpenPage, model_server: ModelServer) -> None:
    """Each question is there at once, waiting, in the order of arrival; Stop ends them all."""
    one = open_page()
    two = open_page(new_room(one))
    first = model_server.will(held(text("The first")))
    say(one, "From the first tab")
    expect(message(two, 2, state="streaming")).to_contain_text("The first")
    say(two, "From the second tab")
    expect(message(one, 3)).to_contain_text("From the second tab")
    say(one, "Once more from the first")
    for page in (one, two):
        expect(message(page, 3)).to_contain_text("From the second tab")
        expect(message(page, 4, state="waiting")).to_contain_text("Waiting")
        expect(message(page, 5)).to_contain_text("Once more from the first")
        expect(message(page, 6, state="waiting")).to_be_visible()
    second = model_server.will(held(text("The second")))
    first.say(end())
    first.hang_up()
    for page in (one, two):
        expect(message(page, 4, state="streaming")).to_contain_text("The second")
    two.get_by_role("button", name="Stop").first.click()
    for page in (one, two):
        expect(message(page, 4, state="stopped")).to_contain_text("The second")
        expect(message(page, 6, state="stopped")).to_be_visible()
    assert second.closed.wait(20)


def test_settings_are_kept_over_reload_and_restart(
    open_page: OpenPage, server: Server, model_server: ModelServer
) -> None:
    """Model from the list or typed, temperature and system prompt: saved, sent, shown again; another tab sees it."""
    model_server.models = ["stand-in", "owl-7b"]
    page = open_page()
    path = new_room(page)
    other = open_page(path)
    page.bring_to_front()
    page.locator(".settings > summary").click()
    expect(page.locator("#models")).to_contain_text("2 models to choose from")
    expect(page.locator("#model-names option[value='owl-7b']")).to_have_count(1)
    model_server.models.append("owl-70b")
    page.get_by_role("button", name="Look again").click()
    expect(page.locator("#models")).to_contain_text("3 models to choose from")
    page.get_by_label("Model", exact=True).fill("an-owl-of-my-own")
    page.get_by_label("Temperature").fill("0.25")
    page.get_by_label("System prompt").fill("You are an owl.\nBe brief.")
    page.get_by_role("button", name="Save").click()
    for tab in (page, other):
        expect(tab.locator(".settings > summary")).to_have_text("an-owl-of-my-own")
    model_server.will(Reply(text("Hoo."), usage(1234, 56), end()))
    say(page, "Who?")
    expect(message(page, 2, state="complete").locator(".message__meta")).to_contain_text("an-owl-of-my-own")
    expect(message(page, 2).locator(".message__usage")).to_contain_text("1,234 in, 56 out")
    body = model_server.requests[-1]
    assert (body["model"], body["temperature"]) == ("an-owl-of-my-own", 0.25)
    assert body["messages"][0] == {"role": "system", "content": "You are an owl.\nBe brief."}

    def shown() -> None:
        page.locator(".settings > summary").click()
        expect(page.locator("#models")).to_contain_text("3 models to choose from")
        expect(page.get_by_label("Model", exact=True)).to_have_value("an-owl-of-my-own")
        expect(page.get_by_label("Temperature")).to_have_value("0.25")
        expect(page.get_by_label("System prompt")).to_have_value("You are an owl.\nBe brief.")
        expect(message(page, 2).locator(".message__usage")).to_contain_text("1,234 in, 56 out")

    settled(page)
    page.reload()
    shown()
    settled(page)
    server.restart()
    page.goto(server.url + path)
    shown()


def test_settings_that_cannot_be_are_refused_and_stay_typed(open_page: OpenPage, model_server: ModelServer) -> None:
    """A sentence says what would do; a model list that cannot be had says so, and a name can be typed all the same."""
    page = open_page()
    new_room(page)
    model_server.close()
    page.locator(".settings > summary").click()
    expect(page.locator("#models")).to_contain_text("Could not connect")
    page.get_by_label("Temperature").evaluate("box => box.type = 'text'")
    page.get_by_label("Temperature").fill("hot")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#error")).to_contain_text("The temperature is a number from 0 to 2")
    expect(page.get_by_label("Temperature")).to_be_visible()
    expect(page.get_by_label("Temperature")).to_have_value("hot")
    page.get_by_label("Temperature").fill("0.5")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Temperature")).to_be_hidden()
    expect(page.locator("#error")).to_be_empty()
    expect(page.locator(".settings > summary")).to_be_focused()


def test_what_is_typed_into_the_settings_outlives_a_push(open_page: OpenPage, server: Server) -> None:
    """Another tab renames the room while the panel is open and half filled in."""
    page = open_page()
    path = new_room(page)
    page.locator(".settings > summary").click()
    expect(page.locator("#models")).to_contain_text("to choose from")
    page.get_by_label("Model", exact=True).fill("half-typed")
    page.get_by_label("System prompt").fill("Half a prompt")
    requests.patch(server.url + path, {"name": "Renamed"}, timeout=20)
    expect(page.locator("#header h1")).to_have_text("Renamed")
    expect(page.get_by_label("Model", exact=True)).to_have_value("half-typed")
    expect(page.get_by_label("System prompt")).to_have_value("Half a prompt")
    expect(page.get_by_label("System prompt")).to_be_focused()
    expect(page.locator("#models")).to_contain_text("to choose from")


@pytest.fixture
def forgetful_server(instance: Path, model_server: ModelServer, server_pool: ServerPool) -> Iterator[Server]:
    """The real server, with a model that reads little."""
    environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_MODEL": "stand-in", "OVERSEER_CONTEXT_TOKENS": "256"}
    server = Server(instance, environment=environment, server_pool=server_pool).start()
    yield server
    server.stop()


def test_a_line_shows_from_where_the_model_reads(
    context: BrowserContext, forgetful_server: Server, model_server: ModelServer
) -> None:
    """It moves on by itself while one talks, stands in the same place after a reload, and goes with a clear."""
    page = context.new_page()
    page.goto(forgetful_server.url)
    path = new_room(page)
    answered(forgetful_server, path, "First " + 400 * "x")
    answered(forgetful_server, path, "Second " + 400 * "x")
    expect(message(page, 4, state="complete")).to_be_visible()
    expect(page.locator("#reading")).to_have_count(0)
    for asked, reads_from in ((3, 3), (4, 5)):
        answered(forgetful_server, path, f"Number {asked} " + 400 * "x")
        assert len(model_server.requests[-1]["messages"]) < 2 * asked
        for _ in range(2):
            expect(page.locator(f"#reading + #message-{reads_from}")).to_be_visible()
            expect(page.locator("#reading")).to_have_count(1)
            page.reload()
    expect(page.locator("#reading")).to_have_text("The model reads from here on")
    requests.delete(f"{forgetful_server.url}{path}/messages", timeout=20)
    expect(page.locator("#messages article")).to_have_count(0)
    expect(page.locator("#reading")).to_have_count(0)


def test_without_javascript_a_question_is_edited_and_a_room_set(
    browser: Browser, server: Server, model_server: ModelServer
) -> None:
    """Edit is a page with a form, settings a form in the header, Continue a button: each leads back to the room."""
    path = requests.post(f"{server.url}/rooms", {"name": "Plain"}, timeout=20).headers["Location"]
    model_server.will(Reply(text("Once"), end("length")), answer(" more"), answer("Edited."))
    answered(server, path, "One?")
    plain = browser.new_context(java_script_enabled=False)
    page: Page = plain.new_page()
    page.goto(server.url + path)
    with page.expect_navigation():
        page.get_by_role("button", name="Continue").click()
    expect(page).to_have_url(server.url + path)
    page.locator(".settings > summary").click()
    page.get_by_label("System prompt").fill("Be brief.")
    with page.expect_navigation():
        page.get_by_role("button", name="Save").click()
    expect(page).to_have_url(server.url + path)
    reload_until(page, message(page, 2, state="complete"))
    expect(message(page, 2, state="complete").locator(".message__body")).to_have_text("Once more")
    page.get_by_role("link", name="Edit").click()
    page.get_by_role("textbox", name="Question").fill("One, please?")
    page.get_by_role("button", name="Ask again").click()
    expect(page).to_have_url(server.url + path)
    expect(message(page, 1)).to_contain_text("One, please?")
    assert requests.get(f"{server.url}{path}/messages/1", timeout=20).status_code == 200
    plain.close()
