"""A growing answer: updates and the end keep the reader's selection, focus and scroll position."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from tests.browser.steps import OpenPage, message, new_room, send
from tests.support.model_server import ModelServer, Reply, end, held, reasoning, text, tool_call
from tests.support.waiting import until

TABLE = "| a | b |\n|---|---|\n" + "".join(f"| cell {n} | {'more ' * (n % 7)} |\n" for n in range(80))
CODE = "".join(f"def f{n}(x):  # a comment\n    return 'words {n}' + x\n\n" for n in range(20))
THE_END = "the_end"  # the last word of each answer
ANSWERS = {
    "paragraphs": ["One that has ended.\n\nAnd one ", "with more of them.\n\n", "Third: the_end."],
    "a long list": [*(f"- item {n} with `code` in it\n" for n in range(80)), "- the_end of it\n"],
    "a table": [TABLE[:100], TABLE[100:1500], TABLE[1500:] + "| the_end | of it |\n"],
    "a block of code": ["Look:\n\n```python\n" + CODE[:300], CODE[300:] + "the_end = 1\n```\n"],
    "formulas, details, alerts and notes": [
        *(
            "So $x^2$ costs $5[^1]\nand\n\n\\[\nx",
            "\n= y\n\\]\n\n<details>\n<summary>S</summary>\n\n- in",
            " it\n\n</deta",
            "ils>\n\n",
        ),
        *(
            "> [!NO",
            "TE]\n> A note.\n\n```markdown\n```sh\nls\n",
            "```\n```\n\n[^1]: Words",
            " of it.\n\nThird words: the_end.",
        ),
    ],
    "long code that has not ended": ["```python\n" + CODE[:300], CODE[300:], *(CODE for _ in range(18)), "x = the_end"],
}

# Records the selection and its nodes, and measures layout shifts.
WATCH = """(article) => {
    const selection = getSelection();
    const range = selection.getRangeAt(0);
    const body = article.querySelector(".message__body");
    window.kept = {
        words: selection.toString(), from: range.startContainer, to: range.endContainer,
        nodes: [...body.querySelectorAll(".part__done *")], height: article.getBoundingClientRect().height,
        top: range.getBoundingClientRect().top, shift: 0,
    };
    new PerformanceObserver((list) => { for (const entry of list.getEntries()) window.kept.shift += entry.value; })
        .observe({ type: "layout-shift" });
}"""
LOOK = """async (article) => {
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));
    const selection = getSelection();
    const range = selection.getRangeAt(0);
    const { kept } = window;
    return {
        words: selection.toString() === kept.words, shift: Math.round(kept.shift * 1000) / 1000,
        same: range.startContainer === kept.from && range.endContainer === kept.to,
        lost: kept.nodes.filter((node) => !node.isConnected).length,
        height: article.getBoundingClientRect().height - kept.height,
        top: range.getBoundingClientRect().top - kept.top,
    };
}"""

UNCHANGED = {"words": True, "same": True, "shift": 0, "lost": 0, "height": 0, "top": 0}


def select(page: Page, number: int) -> str:
    """Select some words of the last visible line of a growing answer with the mouse. Return them."""
    place = message(page, number).evaluate("""async (article) => {
        // The list follows its end one frame after it has grown.
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))));
        const walker = document.createTreeWalker(article.querySelector(".message__body"), NodeFilter.SHOW_TEXT);
        const { bottom } = document.getElementById("scroller").getBoundingClientRect();
        let found;
        while (walker.nextNode()) {
            const range = document.createRange();
            range.selectNodeContents(walker.currentNode);
            const box = range.getBoundingClientRect();
            if (walker.currentNode.data.trim().length > 4 && box.width > 20 && box.bottom < bottom) found = box;
        }
        return [found.left + 1, found.right - 1, found.top + 8];
    }""")
    left, right, top = place
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(right, top, steps=3)
    page.mouse.up()
    words = str(page.evaluate("getSelection().toString()"))
    assert words.strip()
    return words


def grown(page: Page, model_server: ModelServer, chunks: list[str], shown: str = THE_END) -> Reply:
    """Ask, and stream an answer in chunks until the page shows `shown`."""
    reply = model_server.will(held())
    send(page, "A question")
    assert reply.begun.wait(20)
    for number, chunk in enumerate(chunks):
        reply.say(text(chunk))
        if number == 0:
            expect(message(page, 2).locator(".message__body")).not_to_be_empty()
    expect(message(page, 2).locator(".message__body")).to_contain_text(shown)
    return reply


def test_answer_ending_keeps_selection_and_moves_nothing(open_page: OpenPage, model_server: ModelServer) -> None:
    """The same nodes remain, with the same words selected, at the same place."""
    page = open_page()
    buttons = '<button type="button" class="code__button" data-{}="">{}</button>'
    bar = buttons.format("wrap", "Wrap") + buttons.format("copy", "Copy")
    for kind, chunks in ANSWERS.items():
        new_room(page)
        reply = grown(page, model_server, chunks)
        article = message(page, 2)
        page.evaluate("document.fonts.ready.then(() => 0)")
        select(page, 2)
        article.evaluate(WATCH)
        before = article.locator(".part__done").inner_html()
        reply.say(end())
        expect(message(page, 2, state="complete").locator(".message__actions")).to_be_visible()
        assert article.evaluate(LOOK) == UNCHANGED, kind
        after = re.sub(
            "<button[^>]*data-unfold[^>]*>[^<]*</button>| code--long", "", article.locator(".part__done").inner_html()
        )
        assert after.replace(bar, "") == before.replace(bar, "").rstrip("\n") + "\n", kind


def test_growing_answer_keeps_selection_in_open_and_finished_blocks(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """New text is appended to the existing text node, and a block that ends stays where it is."""
    page = open_page()
    new_room(page)
    reply = grown(page, model_server, ["Some words to be selected"], "selected")
    words = select(page, 2)
    body = message(page, 2).locator(".message__body")
    for more in (" and more", " with *emphasis", "* and\nthe end.", "\n\n", "- a\n- list\n", "\n# End\n\n", "last"):
        reply.say(text(more))
    expect(body).to_contain_text("last")
    assert page.evaluate("getSelection().toString()") == words
    reply.say(end())
    expect(message(page, 2, state="complete")).to_be_visible()
    assert page.evaluate("getSelection().toString()") == words
    assert [body.locator(f".part__done > {tag}").count() for tag in ("p", "ul", "h1")] == [2, 1, 1]


def test_long_code_table_and_list_are_one_element_each_while_they_grow(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """Pieces are joined, also after a reload, and keep their horizontal scroll position."""
    page = open_page()
    new_room(page)
    listed = "".join(f"- item {n}\n" for n in range(200))
    reply = grown(
        page,
        model_server,
        [TABLE + "\n", listed + "\n\n```python\n", CODE * 4, "long = '" + "y" * 900, " the_end'\n"],
    )
    page.reload()
    done = message(page, 2).locator(".part__done")
    for _ in range(2):
        expect(message(page, 2).locator(".part__open > *")).to_have_count(0)
        assert done.locator("> *").count() == 3
        assert done.locator("li").count() == 200 and done.locator("tbody tr").count() == 80
        assert done.locator("code").inner_text().startswith(CODE * 4 + "long")
        reply.say(text("z = 'more'\n"))
        expect(done.locator("code")).to_contain_text("z = 'more'")
        until(lambda: page.evaluate("document.querySelector('pre').scrollWidth") > 1000)
        page.evaluate("document.querySelector('pre').scrollLeft = 90")
    reply.say(text("last = 1\n"))
    expect(done.locator("code")).to_contain_text("last = 1")
    reply.say(end())
    expect(message(page, 2, state="complete")).to_be_visible()
    assert page.evaluate("document.querySelector('pre').scrollLeft") == 90
    assert done.locator("> *").count() == 3


def test_answer_ending_after_reasoning_and_tool_call_keeps_them_open(
    open_page: OpenPage, model_server: ModelServer
) -> None:
    """Unfolded parts stay unfolded, with their selection; nothing moves at the end."""
    page = open_page()
    new_room(page)
    roll = Reply(reasoning("Let me think\n\nabout it."), tool_call("roll_dice", '{"sides": 6}'), end("tool_calls"))
    _, reply = model_server.will(roll, last := held(text("The die shows "))), last
    send(page, "Roll a die")
    article = message(page, 2)
    expect(article.locator(".message__body")).to_contain_text("The die shows")
    for summary in article.locator("summary").all():
        summary.click()
    select(page, 2)
    article.evaluate(WATCH)
    reply.say(text("a number."), end())
    expect(message(page, 2, state="complete").locator(".message__actions")).to_be_visible()
    assert article.evaluate(LOOK) == UNCHANGED
    assert article.locator("details[open]").count() == 2


def test_wrapped_code_stays_wrapped_when_the_answer_ends(open_page: OpenPage, model_server: ModelServer) -> None:
    """The buttons of a finished block work while the rest grows."""
    page = open_page()
    new_room(page)
    reply = grown(page, model_server, ["```python\nx = 1\n```\n\n", "And"], "And")
    expect(message(page, 2).locator("code")).to_have_text("x = 1")  # a block that was finished in the first update
    page.get_by_role("button", name="Wrap").click()
    reply.say(text(" more"), end())
    expect(message(page, 2, state="complete")).to_contain_text("And more")
    expect(page.locator(".code[data-wrapped]")).to_have_count(1)
    expect(page.get_by_role("button", name="Wrap")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("button", name="Wrap")).to_be_focused()
