"""What an event costs, counted and not timed: the same in a full harness as in one that is nearly empty.

Nothing that happens in a room may cost more because there are many rooms, many messages in it, or many tabs that look
on; and no token more because the answer is long.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from operator import le
from pathlib import Path
from queue import SimpleQueue

import pytest

from overseer import create_app
from overseer.domain.events import MessageAdded, PartAdded, PartGrew, RoomEvent, TurnEnded
from overseer.live import invalidation
from overseer.live.renderer import FrameRenderer, RoomState
from overseer.llm import Model
from overseer.llm.choice import Models, ModelSettings
from overseer.render.fragments import Fragments, Memo
from overseer.render.streaming_answers import StreamingAnswers
from overseer.rooms import chat_room
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import Overseer
from tests.support.model_server import NOBODY, ModelServer, Reply, end, held, text
from tests.support.seed_data import furnish
from tests.support.served import served
from tests.support.tab import Tab
from tests.support.work_counter import Work, WorkCounter

DEADLINE = 20.0
CONTEXT = 60  # tokens that the model reads: less than the smallest of the rooms holds
TWICE = 6000  # characters: a row, a header or a message, and what a room's state needs, may be sent once more
DIGITS = 200  # characters by which numbers, names and times may be longer
PLACE = re.compile(r'data-place="[^"]+\.(\d+)"')  # how new a tab's list is
IN_LIST = "#rooms-place"  # what every change of the list brings
BROWSER = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


@dataclass
class Done:
    """How long the answer was, and what a tab that shows the room is sent then, as patterns."""

    answered: int
    shown: tuple[str, ...]


Event = Callable[[], Done]
Prepare = Callable[["Harness", str], Iterator[Event]]


class Harness:
    """An app with rooms, all on the list, and one of them, in its middle, with messages."""

    def __init__(self, directory: Path, *, rooms: int, messages: int) -> None:
        self.room_id = furnish(directory, rooms=rooms, messages=messages)
        self.path = f"/rooms/{self.room_id}"
        self.model = ModelServer()
        settings = ModelSettings(base_url=self.model.url, name="stand-in")
        self.app = create_app(directory, models=settings, limits=Limits(context_tokens=CONTEXT))
        self.client = self.app.test_client()
        self.overseer: Overseer = self.app.extensions["overseer"]
        self.overseer.open()
        self._rank = self.overseer.room(self.room_id).rank
        self._events: SimpleQueue[RoomEvent] = SimpleQueue()
        self.overseer.subscribe(self._events.put)

    def close(self) -> None:
        self.app.extensions["hub"].close()
        self.overseer.close()
        self.model.close()

    def does(self, method: str, path: str, *shown: str, headers: dict[str, str] | None = None, **form: str) -> Done:
        response = self.client.open(path, method=method, data=form, headers=headers)
        assert response.status_code < 400, response.text
        return Done(len(response.data), shown)

    def makes(self) -> str:
        """Another room; returns its path."""
        return self.client.post("/rooms").headers["Location"]

    def asks(self, words: str = "What now?") -> tuple[Reply, int]:
        """Ask; the reply is held, and the number is its answer's."""
        reply = self.model.will(held())
        self.client.post(f"{self.path}/messages", data={"text": words})
        assert reply.begun.wait(DEADLINE)
        return reply, self.heard(lambda event: isinstance(event, MessageAdded)).answer  # type: ignore[attr-defined]

    def says(self, reply: Reply, word: str) -> None:
        """Have the model say it, and wait until the room has heard."""
        reply.say(text(word))
        self.heard(lambda event: isinstance(event, PartAdded | PartGrew) and event.text == word)

    def ends(self, reply: Reply) -> None:
        """Have the model end its answer, and wait until it is at rest."""
        reply.say(end())
        reply.hang_up()
        self.rests()

    def rests(self) -> None:
        """Wait until an answer has ended, and nothing runs any more."""
        self.heard(lambda event: isinstance(event, TurnEnded))
        for thread in threading.enumerate():
            if thread.name == f"turn-{self.room_id}":
                thread.join(DEADLINE)

    def heard(self, wanted: Callable[[RoomEvent], bool]) -> RoomEvent:
        while not wanted(event := self._events.get(timeout=DEADLINE)):
            continue
        return event

    def sinks(self) -> None:
        """Put the room back into the middle of the list, where it was."""
        with self.overseer._storage.write() as db:
            db.execute("UPDATE rooms SET rank = ? WHERE id = ?", (self._rank, self.room_id))

    @property
    def place(self) -> int:
        """How much has happened."""
        return int(self.app.extensions["hub"].place().partition(".")[2])

    @property
    def last(self) -> int:
        """The number of the room's last message."""
        return self.overseer.messages(self.room_id).last


# What happens. Each is prepared up to its first yield; what it yields is counted; what follows puts things right.


def create(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("POST", "/rooms", in_row(name), name=name)


def rename(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("PATCH", harness.path, in_header(name), in_row(name), name=name)


def configure(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("PATCH", harness.path, f'id="header".*{name}', IN_LIST, system_prompt=name)


def delete(harness: Harness, name: str) -> Iterator[Event]:
    path = harness.makes()
    yield lambda: harness.does("DELETE", path, f'hx-target="#room-{path[-12:]}" hx-swap="delete"')


def clear(harness: Harness, name: str) -> Iterator[Event]:
    path = harness.makes()
    harness.does("POST", f"{path}/messages", headers={"Prefer": "wait=20"}, text=name)
    shown = f'id="room-{path[-12:]}" class="row" [^>]*data-messages="0"'
    yield lambda: harness.does("DELETE", f"{path}/messages", shown)


def ask(harness: Harness, name: str) -> Iterator[Event]:
    harness.sinks()
    reply = harness.model.will(held())

    def event() -> Done:
        done = harness.does("POST", f"{harness.path}/messages", f"<p>{name}</p>", in_row(name), text=name)
        assert reply.begun.wait(DEADLINE)
        return done

    yield event
    harness.ends(reply)


def begin_to_answer(harness: Harness, name: str) -> Iterator[Event]:
    reply, number = harness.asks()

    def event() -> Done:
        harness.says(reply, name)
        return Done(0, (name,))

    yield event
    harness.ends(reply)


def say_a_word(harness: Harness, name: str) -> Iterator[Event]:
    reply, _ = harness.asks()
    harness.says(reply, "A word, ")

    def event() -> Done:
        harness.says(reply, name)
        return Done(0, (name,))

    yield event
    harness.ends(reply)


def end_an_answer(harness: Harness, name: str) -> Iterator[Event]:
    reply, number = harness.asks()
    harness.says(reply, name)
    harness.sinks()

    def event() -> Done:
        harness.ends(reply)
        return Done(0, (state(number, "complete"), in_row(name)))

    yield event


def answer_again(harness: Harness, name: str) -> Iterator[Event]:
    reply = harness.model.will(held())
    shown = state(harness.last, "waiting"), 'class="row__answering"'

    def event() -> Done:
        done = harness.does("POST", f"{harness.path}/turn", *shown)
        assert reply.begun.wait(DEADLINE)
        return done

    yield event
    harness.ends(reply)


def show_a_message(harness: Harness, name: str) -> Iterator[Event]:
    path = f"{harness.path}/messages/{harness.last}"
    yield lambda: harness.does("GET", path)


def follow_a_link(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("GET", f"{harness.path}/messages/1", headers=BROWSER)


def begin_to_edit(harness: Harness, name: str) -> Iterator[Event]:
    path = f"{harness.path}/messages/{harness.last - 1}/edit"
    yield lambda: harness.does("GET", path)


def open_the_palette(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("GET", "/palette")


EVENTS = [
    create, rename, configure, delete, clear, ask, begin_to_answer, say_a_word, end_an_answer, answer_again,
    show_a_message, follow_a_link, begin_to_edit, open_the_palette,
]  # fmt: skip


def pin(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("PATCH", harness.path, 'id="rooms-pinned"', pinned="1")
    harness.does("PATCH", harness.path, pinned="0")


def edit(harness: Harness, name: str) -> Iterator[Event]:
    reply = harness.model.will(held())
    path = f"{harness.path}/messages/{harness.last - 1}"

    def event() -> Done:
        done = harness.does("PATCH", path, f'id="messages".*{name}', in_row(name), text=name)
        assert reply.begun.wait(DEADLINE)
        return done

    yield event
    harness.ends(reply)


def stop(harness: Harness, name: str) -> Iterator[Event]:
    reply, number = harness.asks()
    harness.says(reply, name)

    def event() -> Done:
        done = harness.does("DELETE", f"{harness.path}/turn", state(number, "stopped"))
        harness.rests()
        return done

    yield event
    reply.hang_up()


def open_the_page(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("GET", harness.path, headers=BROWSER)


def switch(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("GET", harness.path, headers=HTMX)


def show_the_list(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.does("GET", "/rooms")


def scroll_back(harness: Harness, name: str) -> Iterator[Event]:
    middle = harness.last // 2
    yield lambda: harness.does("GET", f"{harness.path}/messages?before={middle}")


PAGES = [pin, edit, stop, open_the_page, switch, show_the_list, scroll_back]


PUSHED = [one for one in EVENTS if one not in (show_a_message, follow_a_link, begin_to_edit, open_the_palette)]


def state(number: int, state: str) -> str:
    return f'id="message-{number}"[^>]*data-state="{state}"'


def in_header(name: str) -> str:
    return f'id="header".*value="{name}"'


def in_row(words: str) -> str:
    """A name or a preview in the list."""
    return f'class="row__(name|preview)">{words}<'


@dataclass
class Took:
    """What an event took."""

    work: Work
    answered: int
    pushed: int


@pytest.fixture(scope="module")
def counter() -> Iterator[WorkCounter]:
    with pytest.MonkeyPatch.context() as patch:
        # How often a growing answer is written depends on the clock, and on nothing else.
        patch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", math.inf)
        yield WorkCounter(patch)


@pytest.fixture(scope="module")
def harness(counter: WorkCounter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int, int], Harness]]:
    """Harnesses with so many rooms, and messages in one of them; each is furnished once."""
    with ExitStack() as at_the_end:

        @cache
        def furnished(rooms: int, messages: int) -> Harness:
            harness = Harness(tmp_path_factory.mktemp("harness") / "instance", rooms=rooms, messages=messages)
            at_the_end.callback(harness.close)
            return harness

        yield furnished


Harnesses = Callable[[int, int], Harness]
OpenTabs = Callable[..., list[Tab]]
names = (f"Name{number}" for number in itertools.count(1000))


def take(counter: WorkCounter, harness: Harness, prepare: Prepare, *tabs: Tab) -> Took:
    """Let it happen once, so that what is made once is made, and again to be counted."""
    with contextmanager(prepare)(harness, next(names)) as event:
        event()
    with contextmanager(prepare)(harness, next(names)) as event:
        settle(harness, *tabs)
        sent = [len(tab.frames) for tab in tabs]
        took = Took(Work(), 0, 0)

        def happen() -> None:
            done = event()
            took.answered = done.answered
            for tab, since in zip(tabs, sent, strict=True):
                see(tab, *done.shown, since=since)
                took.pushed = sum(map(len, tab.frames[since:]))

        took.work = counter.of(happen)
    settle(harness, *tabs)
    return took


def see(tab: Tab, *shown: str, since: int = 0) -> None:
    """Read until the tab has been sent all that."""
    for pattern in shown:
        while not any(re.search(pattern, frame, re.S) for frame in tab.frames[since:]):
            assert tab.read() is not None


def settle(harness: Harness, *tabs: Tab) -> None:
    """Let tabs be sent all that is still to come: what is sent last stands for all before it."""
    if tabs:
        before = harness.place
        harness.does("PATCH", harness.path, name=(name := next(names)))
        for tab in tabs:
            see(tab, in_header(name))
            while not any(int(place) > before for frame in tab.frames for place in PLACE.findall(frame)):
                assert tab.read() is not None


@pytest.mark.parametrize("prepare", EVENTS, ids=lambda one: one.__name__)
def test_an_event_costs_the_same_among_many_rooms_and_messages(
    counter: WorkCounter, harness: Harnesses, prepare: Prepare
) -> None:
    """Statement by statement, and step by step of each, in a hundred times as much."""
    few, many = take(counter, harness(10, 20), prepare), take(counter, harness(1000, 2000), prepare)
    assert_the_same(few, many)


@pytest.mark.parametrize("prepare", PAGES, ids=lambda one: one.__name__)
def test_a_page_costs_the_same_wherever_it_is(counter: WorkCounter, harness: Harnesses, prepare: Prepare) -> None:
    """What shows a page of rooms or of messages, beside harnesses that have more than one."""
    few, many = take(counter, harness(110, 220), prepare), take(counter, harness(1001, 2002), prepare)
    assert_the_same(few, many)


def assert_the_same(few: Took, many: Took) -> None:
    assert len(many.work.opened) == len(few.work.opened)
    assert many.work.stepped == few.work.stepped
    assert many.work.sql == few.work.sql
    assert not many.work.whole
    assert many.work.templates == few.work.templates
    assert many.work.rendered < 1.02 * few.work.rendered + DIGITS
    assert many.work.read == few.work.read
    assert many.answered < 1.02 * few.answered + DIGITS


def assert_hardly_more(few: Took, many: Took) -> None:
    """What is pushed depends on the moment: of two events, each may be by itself."""
    assert many.work.steps < few.work.steps + 500
    assert many.work.statements < few.work.statements + 15
    assert not many.work.whole
    assert many.work.renders < few.work.renders + 6
    assert many.work.rendered < few.work.rendered + TWICE
    assert many.work.read < few.work.read + 500


@pytest.fixture
def tabs() -> Iterator[OpenTabs]:
    """Opens tabs on the room of a harness, and closes those that were opened before."""
    with ExitStack() as at_the_end:

        def open_tabs(harness: Harness, count: int, places: str = "") -> list[Tab]:
            at_the_end.close()
            url = at_the_end.enter_context(served(harness.app))
            found = []
            for _ in range(count):
                found.append(Tab(url, f"room={harness.room_id}{places}"))
                at_the_end.callback(found[-1].close)
            settle(harness, *found)
            return found

        yield open_tabs


@pytest.mark.parametrize("prepare", PUSHED, ids=lambda one: one.__name__)
def test_a_tab_is_sent_the_same_among_many_rooms_and_messages(
    counter: WorkCounter, harness: Harnesses, tabs: OpenTabs, prepare: Prepare
) -> None:
    """In bytes, in what is rendered for it, and in what is read for that."""
    few, many = (take(counter, one, prepare, *tabs(one, 1)) for one in (harness(10, 20), harness(1000, 2000)))
    assert_hardly_more(few, many)
    assert many.pushed < few.pushed + TWICE


def test_more_tabs_cost_no_more_work(counter: WorkCounter, harness: Harnesses, tabs: OpenTabs) -> None:
    """What they all see is read and rendered once, and each is sent the same."""
    home = harness(10, 20)
    one, fifty = (
        [take(counter, home, event, *opened) for event in (rename, ask, begin_to_answer, say_a_word, end_an_answer)]
        for opened in (tabs(home, count) for count in (1, 50))
    )
    for few, many in zip(one, fifty, strict=True):
        assert_hardly_more(few, many)
        assert many.pushed < few.pushed + TWICE


def test_joining_costs_the_same_among_many_rooms_and_messages(
    counter: WorkCounter, harness: Harnesses, tabs: OpenTabs
) -> None:
    """A tab that shows nothing yet is sent a page of rooms and one of messages."""
    few, many = (counter.of(lambda one=one: tabs(one, 1)) for one in (harness(110, 220), harness(1001, 2002)))
    assert many.steps < few.steps + 500
    assert not many.whole
    assert many.rendered < 1.02 * few.rendered + TWICE


def test_coming_back_costs_the_same_among_many_rooms_and_messages(
    counter: WorkCounter, harness: Harnesses, tabs: OpenTabs
) -> None:
    """A tab that says what it shows is sent what changed since, and no page."""
    works = []
    for one in (harness(10, 20), harness(1000, 2000)):
        page = one.client.get(one.path, headers=BROWSER).text
        seen, rooms = re.search('seen=([^"&]+)', page), re.search('data-place="([^"]+)', page)
        assert seen and rooms
        one.does("PATCH", one.path, name=next(names))
        works.append(counter.of(lambda: tabs(one, 1, f"&seen={seen[1]}&rooms={rooms[1]}")))  # noqa: B023 - at once
    few, many = works
    assert many.steps < few.steps + 500
    assert not many.whole
    assert many.rendered < few.rendered + TWICE
    assert many.templates.keys() == {"rooms/_header.html", "rooms/_room.html", "rooms/_place.html"}


def test_joining_with_a_revision_that_is_made_up_costs_no_more_work(counter: WorkCounter, harness: Harnesses) -> None:
    """Tabs that are too far behind are sent the same, however far they say that they are."""
    home = harness(10, 20)
    for _ in range(10):
        home.does("DELETE", f"{home.path}/messages")  # nobody before this can be told by name
    run_id, _, newest = home.app.extensions["hub"].place().partition(".")

    def join() -> None:
        with served(home.app) as url, ExitStack() as at_the_end:
            for number in range(10):
                tab = Tab(url, f"room={home.room_id}&seen={run_id}.{int(newest) - 10 + number}")
                at_the_end.callback(tab.close)
                tab.read_until('hx-target="#messages"')

    assert counter.of(join).templates["messages/_messages.html"] == 1


def test_a_page_far_down_the_list_costs_no_more_than_the_first(counter: WorkCounter, harness: Harnesses) -> None:
    """Whoever scrolls is not sent through all that is above."""
    home = harness(1000, 2000)
    after = home.overseer.room(f"{200:012x}").rank
    first, deep = (
        [counter.of(lambda path=path: home.does("GET", path)) for _ in range(2)][1]  # rows are rendered once for all
        for path in ("/rooms", f"/rooms?after={after}")
    )
    assert deep.sql == first.sql
    assert deep.steps <= first.steps
    assert deep.rendered < 1.02 * first.rendered + DIGITS


def test_a_search_reads_the_list_once_and_opens_no_room(counter: WorkCounter, harness: Harnesses) -> None:
    """By words that hardly any name has, the list is read to its end: that is allowed, and no more."""
    few, many = (
        counter.of(lambda one=one: one.does("GET", "/palette?q=nowhere"))
        for one in (harness(10, 20), harness(1000, 2000))
    )
    assert many.opened == []
    assert many.sql == few.sql
    assert many.statements == 1
    assert many.steps < 15 * 1100
    assert many.rendered < few.rendered + DIGITS


def test_a_question_costs_the_same_behind_many_that_wait(counter: WorkCounter, harness: Harnesses) -> None:
    """Each is stored and shown, and not those before it that are not answered yet."""
    home = harness(10, 24)
    reply, _ = home.asks()
    post = lambda: home.does("POST", f"{home.path}/messages", text=next(names))  # noqa: E731
    post()
    second = counter.of(post)
    for _ in range(100):
        post()
    hundredth = counter.of(post)
    home.does("DELETE", f"{home.path}/turn")
    reply.hang_up()
    assert hundredth.sql == second.sql
    assert hundredth.stepped == second.stepped


def test_token_is_delivered_to_no_listener_of_another_room(harness: Harnesses) -> None:
    """However many wait for their answers over HTTP elsewhere, a token is passed on once."""
    home = harness(10, 20)
    heard: list[str] = []
    for room_id in (home.room_id, *(f"{n:012x}" for n in range(1000, 1050))):
        home.overseer.subscribe(lambda event, room_id=room_id: heard.append(room_id), room_id)  # type: ignore[misc]
    home.overseer._publish(PartGrew(home.room_id, 2, 0, "word"))
    assert heard == [home.room_id]


@pytest.mark.parametrize("in_order", [True, False], ids=["in order", "killed"])
def test_a_start_opens_no_room(counter: WorkCounter, tmp_path: Path, in_order: bool) -> None:
    """Also when the last run was killed: of rooms that were closed by then, the list knows all."""
    works = []
    for rooms in (10, 500):
        directory = tmp_path / str(rooms)
        furnish(directory, rooms=rooms, messages=20, files=True, in_order=in_order)
        overseer = Overseer(directory, models=Models(ModelSettings(base_url=NOBODY)))
        works.append(counter.of(overseer.open))
        overseer.close()
    few, many = works
    assert many.opened == few.opened == ["overseer.sqlite"]
    assert many.sql == few.sql


# Long answers


WORDS = ["so ", "much ", "is ", "said ", "in ", "few ", "words ", "and ", "more "]
AT_ONCE = 16  # tokens a frame


def blocks(tokens: int) -> Iterator[str]:
    """Paragraphs, headings, short lists, tables and code."""
    kinds = [
        "## {}\n\n",
        "{}\n\n",
        "- {}\n- {}\n\n",
        "```python\n{} = 1\n```\n\n",
        "| {} | {} |\n|---|---|\n| {} | {} |\n\n",
    ]
    sentence = "".join(WORDS).strip()
    text = itertools.chain.from_iterable(
        re.split(r"(?<= )", kind.replace("{}", sentence)) for kind in itertools.cycle(kinds)
    )
    return itertools.islice(text, tokens)


def lines(before: str, begin: str, end: str) -> Callable[[int], Iterator[str]]:
    """One block of many lines."""

    def said(tokens: int) -> Iterator[str]:
        yield before
        for number in range(tokens - 1):
            place = number % len(WORDS)
            yield (begin if place == 0 else "") + WORDS[place] + (end if place == len(WORDS) - 1 else "")

    return said


KINDS = {
    "many blocks": blocks,
    "one list": lines("Here:\n\n", "- ", "\n"),
    "one table": lines("| a | b |\n|---|---|\n", "| ", "| more |\n"),
    "one block of code": lines("```python\n", "", "\n"),
    "items of several lines": lines("", "- ", "\n\n  and\n\n"),
}


class Stream:
    """An answer that grows in a room, and the frames that a tab is sent meanwhile: one for so many tokens."""

    def __init__(
        self, harness: Harness, number: int, kind: str, counter: WorkCounter, bound: Sequence[float] = ()
    ) -> None:
        drafts = StreamingAnswers()
        self._renewal = FrameRenderer(
            harness.overseer,
            Fragments(harness.app, "", drafts=drafts, model=nobody, locked=False, memo=Memo(1_000_000)),
            drafts,
        )
        self._drafts, self._grown = drafts, invalidation.Growth(number, 0)
        self._drafts.heard(PartAdded(harness.room_id, number, 0, kind, "word\n\n"))
        self._room_id, self._number = harness.room_id, number
        self._sight = RoomState("", harness.room_id, 0)
        self._ledger, self._bound = counter, bound
        self._sent = 0
        self.spent: list[int] = []

    def say(self, tokens: Iterable[str]) -> None:
        """All of them, or until it is more than the bound."""
        self._show()
        for number, token in enumerate(tokens, 1):
            self._drafts.heard(PartGrew(self._room_id, self._number, 0, token))
            if number % AT_ONCE == 0:
                self._show()

    def _show(self) -> None:
        frames, self._sight = self._renewal.of_room(self._sight, [self._grown])
        self._sent += len(frames)
        work = self._ledger.work
        self.spent = [work.read, work.sanitised, work.rendered, work.statements, self._sent]
        assert not self._bound or all(map(le, self.spent, self._bound)), (self.spent, self._bound)


def nobody(name: str) -> Model:
    raise AssertionError("no template of an answer names the model")


@pytest.mark.parametrize("part", ["text", "reasoning"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_token_costs_the_same_in_a_long_answer(
    counter: WorkCounter, harness: Harnesses, kind: str, part: str
) -> None:
    """Eight times as many tokens take eight times as much, and a third more at most."""
    home = harness(10, 20)
    reply, number = home.asks()
    home.says(reply, "word\n\n")
    short = Stream(home, number, part, counter)
    counter.of(lambda: short.say(KINDS[kind](500)))
    long = Stream(home, number, part, counter, [8 * 1.3 * one for one in short.spent])
    counter.of(lambda: long.say(KINDS[kind](4000)))
    home.ends(reply)
