"""The cost of an event does not grow with the number of rooms, messages and tabs, nor with the length of an answer.

Costs are counted, not timed. Harnesses of two sizes are compared.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from operator import le
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from overseer import create_app
from overseer.domain.events import MessageAdded, PartAdded, PartGrew, RoomEvent, TurnEnded
from overseer.live.invalidation import GrowingPartInvalidated
from overseer.live.renderer import FrameRenderer, TabState
from overseer.llm import Model
from overseer.llm.choice import Models, ModelSettings
from overseer.render.fragments import FragmentCache, Fragments
from overseer.render.streaming_answers import StreamingAnswers
from overseer.rooms import chat_room
from overseer.rooms.chat_room import Limits
from overseer.rooms.overseer import Overseer
from overseer.web.extensions import instance as instance_of
from tests.support.model_server import NOBODY, ModelServer, Reply, end, held, text
from tests.support.seed_data import create_instance
from tests.support.served import served
from tests.support.tab import Tab
from tests.support.waiting import DEADLINE, join_turn_threads
from tests.support.work_counter import Work, WorkCounter

SMALL, LARGE = (110, 220), (1001, 2002)  # rooms, and messages in one of them: more than one page of each
CONTEXT_TOKENS = 30  # that the model reads: less than the small room holds
FRAGMENT_CHARS = 6000  # a row, a header or a message that may be rendered once more
DIGITS_CHARS = 200  # by which numbers, names and times may be longer
MANY_TABS = 20
JUMP_STEPS = (
    400  # that a walk up a tree of 2,002 messages may take more than up one of 220; a step for each takes 20,000
)
LIST_REVISION = re.compile(r'data-place="[^"]+\.(\d+)"')
LIST_CHANGE = "#rooms-place"  # in every frame for the list
NAVIGATION = {"Accept": "text/html", "Sec-Fetch-Mode": "navigate"}
HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


@dataclass
class Done:
    """The length of the response to an event, and patterns of what a tab on the room is sent."""

    response_chars: int
    patterns: tuple[str, ...] = ()


Event = Callable[[], Done]
Prepare = Callable[["Harness", str], Iterator[Event]]


class Harness:
    """An app with many rooms, and a room in the middle of the list with many messages and a tab."""

    def __init__(self, directory: Path, *, rooms: int, messages: int) -> None:
        self.room_id = create_instance(directory, rooms=rooms, messages=messages)
        self.path = f"/rooms/{self.room_id}"
        self.model = ModelServer()
        settings = ModelSettings(base_url=self.model.url, name="stand-in")
        self.app = create_app(directory, models=settings, limits=Limits(context_tokens=CONTEXT_TOKENS))
        self.client = self.app.test_client()
        self.overseer: Overseer = instance_of(self.app).overseer
        self.overseer.open()
        self.rank = self.overseer.record(self.room_id).rank
        self._events: SimpleQueue[RoomEvent] = SimpleQueue()
        self.overseer.subscribe(self._events.put, self.room_id)
        self._served = ExitStack()
        self.url = self._served.enter_context(served(self.app))
        self.tab = self._served.enter_context(closing(Tab(self.url, f"room={self.room_id}")))
        self.settle(self.tab)

    def close(self) -> None:
        self._served.close()
        instance_of(self.app).hub.close()
        self.overseer.close()
        self.model.close()

    def request(self, method: str, path: str, *shown: str, headers: dict[str, str] | None = None, **form: Any) -> Done:
        response = self.client.open(path, method=method, data=form, headers=headers)
        assert response.status_code < 400, response.text
        return Done(len(response.data), shown)

    def new_room(self) -> str:
        """Create a room. Return its path."""
        return self.client.post("/rooms").headers["Location"]

    def ask(self) -> tuple[Reply, int]:
        """Post a message. Return the model's reply, which is held, and the number of the answer."""
        reply = self.model.will(held())
        self.client.post(f"{self.path}/messages", data={"text": "What now?"})
        assert reply.begun.wait(DEADLINE)
        return reply, self.wait_for(lambda event: isinstance(event, MessageAdded)).answer  # type: ignore[attr-defined]

    def stream(self, reply: Reply, token: str) -> None:
        """Let the model send a token, and wait for its event."""
        reply.say(text(token))
        self.wait_for(lambda event: isinstance(event, PartAdded | PartGrew) and event.text == token)

    def finish(self, reply: Reply) -> None:
        """Let the model end its answer, and wait for the end of the turn."""
        reply.say(end())
        reply.hang_up()
        self.wait_for_end()

    def wait_after(self, method: str, path: str, **form: Any) -> None:
        """Make a request that starts a turn, and wait for its end."""
        self.request(method, self.path + path, **form)
        self.wait_for_end()

    def wait_for_end(self) -> None:
        self.wait_for(lambda event: isinstance(event, TurnEnded))
        join_turn_threads(self.room_id)

    def wait_for(self, wanted: Callable[[RoomEvent], bool]) -> RoomEvent:
        while not wanted(event := self._events.get(timeout=DEADLINE)):
            continue
        return event

    def move_back(self) -> None:
        """Move the room from the top of the list back to the middle."""
        with self.overseer._storage.write() as db:
            db.execute("UPDATE rooms SET rank = ? WHERE id = ?", (self.rank, self.room_id))

    def settle(self, *tabs: Tab) -> None:
        """Read all frames of the tabs that are still to come: those of a last event stand for all before it."""
        before = int(instance_of(self.app).hub.revision().partition(".")[2])
        self.request("PATCH", self.path, name=(name := next(names)))
        for tab in tabs:
            read_until(tab, in_header(name))
            while not any(int(number) > before for frame in tab.frames for number in LIST_REVISION.findall(frame)):
                assert tab.read() is not None

    @property
    def last(self) -> int:
        """The number of the room's last message."""
        return self.overseer.room(self.room_id).messages().end


names = (f"Name{number}" for number in itertools.count(1000))


def read_until(tab: Tab, *patterns: str, since: int = 0) -> None:
    for pattern in patterns:
        while not any(re.search(pattern, frame, re.S) for frame in tab.frames[since:]):
            assert tab.read() is not None


def in_state(number: int, state: str) -> str:
    return f'id="message-{number}"[^>]*data-state="{state}"'


def in_header(name: str) -> str:
    return f'id="header".*value="{name}"'


def in_row(words: str) -> str:
    """A name or a preview in the list."""
    return f'class="row__name">{words}<|class="row__link"[^>]* title="{words}"'


# Events that are pushed. Each generator prepares an event, yields it to be counted, and cleans up.


def create(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.request("POST", "/rooms", in_row(name), name=name)


def rename(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.request("PATCH", harness.path, in_header(name), in_row(name), name=name)


def pin(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.request("PATCH", harness.path, 'id="rooms-pinned"', pinned="1")
    harness.request("PATCH", harness.path, pinned="0")


def archive(harness: Harness, name: str) -> Iterator[Event]:
    yield lambda: harness.request(
        "PATCH", harness.path, 'id="rooms-archived"><a', "This room is archived", archived="1"
    )
    harness.request("PATCH", harness.path, archived="0")


def keep(harness: Harness, name: str) -> Iterator[Event]:
    path = harness.client.post("/rooms", data={"temporary": "1", "name": name}).headers["Location"]
    yield lambda: harness.request("PATCH", path, in_row(name), temporary="0")
    harness.request("DELETE", path)


def delete(harness: Harness, name: str) -> Iterator[Event]:
    path = harness.new_room()
    yield lambda: harness.request("DELETE", path, f'hx-target="#room-{path[-12:]}" hx-swap="delete"')


def clear(harness: Harness, name: str) -> Iterator[Event]:
    path = harness.new_room()
    harness.request("POST", f"{path}/messages", headers={"Prefer": "wait=20"}, text=name)
    shown = f'id="room-{path[-12:]}" class="row" [^>]*data-messages="0"'
    yield lambda: harness.request("DELETE", f"{path}/messages", shown)


def begin_turn(harness: Harness, method: str, path: str, *shown: str, **form: Any) -> Iterator[Event]:
    reply = harness.model.will(held())

    def event() -> Done:
        done = harness.request(method, harness.path + path, *shown, **form)
        assert reply.begun.wait(DEADLINE)
        return done

    yield event
    harness.finish(reply)


def ask(harness: Harness, name: str) -> Iterator[Event]:
    harness.move_back()
    return begin_turn(harness, "POST", "/messages", f"<p>{name}</p>", in_row(name), text=name)


def edit(harness: Harness, name: str) -> Iterator[Event]:
    shown = f'id="messages".*{name}', in_row(name)
    return begin_turn(harness, "PATCH", f"/messages/{harness.last - 1}", *shown, text=name)


def switch(harness: Harness, name: str) -> Iterator[Event]:
    shown = harness.last
    harness.wait_after("PATCH", f"/messages/{shown - 1}", text=name)
    read_until(harness.tab, in_state(harness.last, "complete"))
    harness.move_back()
    yield lambda: harness.request("PUT", f"{harness.path}/head", f'id="message-{shown}"', message=str(shown))


def regenerate(harness: Harness, name: str) -> Iterator[Event]:
    return begin_turn(harness, "POST", "/turn", in_state(harness.last, "waiting"), 'class="row__answering"')


def stream_first_token(harness: Harness, name: str, *before: str) -> Iterator[Event]:
    reply, _ = harness.ask()
    for token in before:
        harness.stream(reply, token)

    def event() -> Done:
        harness.stream(reply, name)
        return Done(0, (name,))

    yield event
    harness.finish(reply)


def stream_next_token(harness: Harness, name: str) -> Iterator[Event]:
    return stream_first_token(harness, name, "A word, ")


def end_answer(harness: Harness, name: str) -> Iterator[Event]:
    reply, number = harness.ask()
    harness.stream(reply, name)
    harness.move_back()

    def event() -> Done:
        harness.finish(reply)
        return Done(0, (in_state(number, "complete"), in_row(name)))

    yield event


def stop(harness: Harness, name: str) -> Iterator[Event]:
    reply, number = harness.ask()
    harness.stream(reply, name)

    def event() -> Done:
        done = harness.request("DELETE", f"{harness.path}/turn", in_state(number, "stopped"))
        harness.wait_for_end()
        return done

    yield event
    reply.hang_up()


PUSHED = [
    *(create, rename, pin, archive, keep, delete, clear, ask, edit, switch, regenerate),
    *(stream_first_token, stream_next_token, end_answer, stop),
]

READ: dict[str, Callable[[Harness], Done]] = {
    "page": lambda harness: harness.request("GET", harness.path, headers=NAVIGATION),
    "room": lambda harness: harness.request("GET", harness.path, headers=HTMX),
    "list": lambda harness: harness.request("GET", "/rooms"),
    "archived rooms": lambda harness: harness.request("GET", "/rooms?archived=1"),
    "page far down the list": lambda harness: harness.request("GET", f"/rooms?after={harness.rank}"),
    "palette": lambda harness: harness.request("GET", "/palette"),
    "earlier messages": lambda harness: harness.request("GET", f"{harness.path}/messages?before={harness.last // 2}"),
    "message": lambda harness: harness.request("GET", f"{harness.path}/messages/{harness.last}"),
    "link to a message": lambda harness: harness.request("GET", f"{harness.path}/messages/1", headers=NAVIGATION),
    "form of an edit": lambda harness: harness.request("GET", f"{harness.path}/messages/{harness.last - 1}/edit"),
}


@dataclass
class Cost:
    """The cost of an event."""

    work: Work = field(default_factory=Work)
    response_chars: int = 0
    pushed_chars: int = 0


@pytest.fixture(scope="module")
def counter() -> Iterator[WorkCounter]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chat_room, "SAVE_INTERVAL_SECONDS", math.inf)  # the only work that depends on the clock
        yield WorkCounter(patch)


def make_harness(tmp_path_factory: pytest.TempPathFactory, size: tuple[int, int]) -> Iterator[Harness]:
    rooms, messages = size
    with closing(Harness(tmp_path_factory.mktemp("harness") / "instance", rooms=rooms, messages=messages)) as harness:
        yield harness


@pytest.fixture(scope="module")
def small(counter: WorkCounter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    yield from make_harness(tmp_path_factory, SMALL)


@pytest.fixture(scope="module")
def large(counter: WorkCounter, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    yield from make_harness(tmp_path_factory, LARGE)


def cost_of(counter: WorkCounter, harness: Harness, prepare: Prepare, *more_tabs: Tab) -> Cost:
    """Return the cost of an event with a tab, and with more. It happens once before, to fill caches."""
    tabs = (harness.tab, *more_tabs)
    with contextmanager(prepare)(harness, next(names)) as event:
        event()
    with contextmanager(prepare)(harness, next(names)) as event:
        harness.settle(*tabs)
        read = [len(tab.frames) for tab in tabs]
        cost = Cost()

        def happen() -> None:
            done = event()
            cost.response_chars = done.response_chars
            for tab, since in zip(tabs, read, strict=True):
                read_until(tab, *done.patterns, since=since)
                cost.pushed_chars = sum(map(len, tab.frames[since:]))

        cost.work = counter.count(happen)
    harness.settle(*tabs)
    return cost


def assert_about_equal(few: Cost, many: Cost) -> None:
    """Allow for two events that are pushed together in one case and separately in the other."""
    assert many.work.steps < few.work.steps + 500
    assert many.work.statements < few.work.statements + 15
    assert not many.work.scans
    assert many.work.renders < few.work.renders + 6
    assert many.work.rendered_chars < few.work.rendered_chars + FRAGMENT_CHARS
    assert many.work.markdown_chars < few.work.markdown_chars + 500
    assert many.response_chars < 1.02 * few.response_chars + DIGITS_CHARS
    assert many.pushed_chars < few.pushed_chars + FRAGMENT_CHARS


@pytest.mark.parametrize("prepare", PUSHED, ids=lambda one: one.__name__)
def test_event_costs_the_same_among_many_rooms_and_messages(
    counter: WorkCounter, small: Harness, large: Harness, prepare: Prepare
) -> None:
    assert_about_equal(cost_of(counter, small, prepare), cost_of(counter, large, prepare))


@pytest.mark.parametrize("read", READ.values(), ids=READ)
def test_read_costs_the_same_among_many_rooms_and_messages(
    counter: WorkCounter, small: Harness, large: Harness, read: Callable[[Harness], Done]
) -> None:
    """In the same statements, with the same number of steps each, but for jumps up the tree of messages."""
    works, chars = [], []
    for harness in (small, large):
        read(harness)
        chars.append(read(harness).response_chars)
        harness.settle(harness.tab)
        works.append(counter.count(lambda: read(harness)))  # noqa: B023
    few, many = works
    assert many.sql == few.sql and not many.scans
    for statement, steps in many.steps_by_statement.items():
        jumps = JUMP_STEPS if "up.jump" in statement else 0
        assert abs(steps - few.steps_by_statement[statement]) <= jumps, statement
    assert many.templates == few.templates and many.markdown_chars == few.markdown_chars
    assert chars[1] < 1.02 * chars[0] + DIGITS_CHARS


@pytest.mark.parametrize("prepare", [ask, stream_next_token, end_answer], ids=lambda one: one.__name__)
def test_event_costs_the_same_with_many_tabs(counter: WorkCounter, small: Harness, prepare: Prepare) -> None:
    """Fragments are rendered once for all tabs."""
    one = cost_of(counter, small, prepare)
    with ExitStack() as stack:
        tabs = [stack.enter_context(closing(Tab(small.url, f"room={small.room_id}"))) for _ in range(MANY_TABS)]
        many = cost_of(counter, small, prepare, *tabs)
    assert_about_equal(one, many)


def test_join_costs_the_same_among_many_rooms_and_messages(
    counter: WorkCounter, small: Harness, large: Harness
) -> None:
    """A tab that rejoins with its revisions is sent what changed, any other tab a page of rooms and of messages."""
    joins, rejoins = [], []
    for harness in (small, large):
        page = harness.client.get(harness.path, headers=NAVIGATION).text
        room, rooms = re.search('seen=([^"&]+)', page), re.search('data-place="([^"]+)', page)
        assert room and rooms
        harness.settle(harness.tab)  # renames the room

        def join(query: str, *patterns: str) -> None:
            with closing(Tab(harness.url, f"room={harness.room_id}{query}")) as tab:  # noqa: B023
                read_until(tab, *patterns)

        joins.append(counter.count(lambda: join("", 'hx-target="#messages"', LIST_CHANGE)))
        query = f"&seen={room[1]}&rooms={rooms[1]}"
        rejoins.append(counter.count(lambda: join(query, 'hx-target="#header"', LIST_CHANGE)))  # noqa: B023
    for few, many in (joins, rejoins):
        assert many.steps < few.steps + 500
        assert not many.scans
        assert many.rendered_chars < 1.02 * few.rendered_chars + FRAGMENT_CHARS
    assert rejoins[1].templates.keys() <= {"rooms/_header.html", "rooms/_room.html", "rooms/_place.html"}


def test_joins_with_outdated_revisions_share_one_rendering(counter: WorkCounter, small: Harness) -> None:
    """Whichever revisions the tabs make up."""
    path = small.new_room()
    room_id = path[-12:]
    for _ in range(10):
        small.request("DELETE", f"{path}/messages")
    run_id, _, newest = instance_of(small.app).hub.revision().partition(".")

    def join() -> None:
        with ExitStack() as tabs:
            for number in range(10):
                query = f"room={room_id}&seen={run_id}.{int(newest) - 10 + number}"
                tabs.enter_context(closing(Tab(small.url, query))).read_until('hx-target="#messages"')

    assert counter.count(join).templates["messages/_messages.html"] == 1


def test_search_reads_the_list_once_and_opens_no_room(counter: WorkCounter, small: Harness, large: Harness) -> None:
    for harness in (small, large):
        harness.settle(harness.tab)
    few = counter.count(lambda: small.request("GET", "/palette?q=nowhere"))
    many = counter.count(lambda: large.request("GET", "/palette?q=nowhere"))
    assert many.opened == []
    assert many.sql == few.sql and many.statements == 2  # the other one asks whether there are archived rooms
    assert many.steps < 15 * 1100
    assert many.rendered_chars < few.rendered_chars + DIGITS_CHARS


def test_question_costs_the_same_behind_many_that_are_queued(counter: WorkCounter, small: Harness) -> None:
    path = small.new_room()
    reply = small.model.will(held())

    def post() -> None:
        small.request("POST", f"{path}/messages", text=next(names))

    def cost() -> Cost:
        work = counter.count(post)
        small.settle(small.tab)
        return Cost(work)

    post()
    assert reply.begun.wait(DEADLINE)
    post()
    few = cost()
    for _ in range(40):
        post()
    assert_about_equal(few, cost())
    small.request("DELETE", path)  # with all its turns
    reply.hang_up()
    join_turn_threads(path[-12:])
    small.settle(small.tab)


def test_token_is_delivered_to_no_listener_of_another_room(small: Harness) -> None:
    delivered: list[str] = []
    for room_id in (small.room_id, *(f"{n:012x}" for n in range(1000, 1050))):
        small.overseer.subscribe(lambda event, room_id=room_id: delivered.append(room_id), room_id)  # type: ignore[misc]
    small.overseer._publish(PartGrew(small.room_id, 2, 0, "word"))
    assert delivered == [small.room_id]


def test_exchange_takes_fifteen_statements(counter: WorkCounter, tmp_path: Path) -> None:
    """From the request to the end of the answer, without a tab, however long the room is."""
    room_id = create_instance(tmp_path / "instance", rooms=3, messages=300)
    with closing(ModelServer()) as model:
        settings = ModelSettings(base_url=model.url, name="stand-in")
        app = create_app(tmp_path / "instance", models=settings)
        overseer: Overseer = instance_of(app).overseer
        overseer.open()

        def exchange() -> None:
            response = app.test_client().post(f"/rooms/{room_id}/messages", data={"text": "What now?"})
            assert response.status_code == 201
            join_turn_threads(room_id)

        exchange()
        work = counter.count(exchange)
        overseer.close()
    assert work.statements <= 15, work.sql


@pytest.mark.parametrize("was_clean", [True, False], ids=["stopped", "killed"])
def test_start_opens_no_room(counter: WorkCounter, tmp_path: Path, was_clean: bool) -> None:
    """Whether the last run was stopped or killed."""
    works = []
    for rooms in (5, 100):
        directory = tmp_path / str(rooms)
        create_instance(directory, rooms=rooms, messages=20, files=True, was_clean=was_clean)
        overseer = Overseer(directory, models=Models(ModelSettings(base_url=NOBODY)))
        works.append(counter.count(overseer.open))
        overseer.close()
    few, many = works
    assert many.opened == few.opened == ["overseer.sqlite"]
    assert many.sql == few.sql


# Long answers


WORDS = ["so ", "much ", "is ", "said ", "in ", "few ", "words ", "and ", "more "]
TOKENS_PER_FRAME = 16
SHORT_TOKENS, LONG_TOKENS = 400, 1600


def blocks(tokens: int) -> Iterator[str]:
    """Yield the tokens of headings, paragraphs, short lists, code and tables."""
    kinds = ["## {}", "{}", "- {}\n- {}", "```python\n{} = 1\n```", "| {} | {} |\n|---|---|\n| {} | {} |"]
    sentence = "".join(WORDS).strip()
    pieces = (re.split(r"(?<= )", kind.replace("{}", sentence) + "\n\n") for kind in itertools.cycle(kinds))
    return itertools.islice(itertools.chain.from_iterable(pieces), tokens)


def lines(before: str, begin: str, end: str) -> Callable[[int], Iterator[str]]:
    """Return a function that yields the tokens of one block of many lines."""
    line = [begin + WORDS[0], *WORDS[1:-1], WORDS[-1] + end]
    return lambda tokens: itertools.chain([before], itertools.islice(itertools.cycle(line), tokens - 1))


ANSWERS = {
    "blocks": blocks,
    "one list": lines("Here:\n\n", "- ", "\n"),
    "one table": lines("| a | b |\n|---|---|\n", "| ", "| more |\n"),
    "one block of code": lines("```python\n", "", "\n"),
    "items of several lines": lines("", "- ", "\n\n  and\n\n"),
}


def stream(
    harness: Harness, number: int, kind: str, tokens: Iterable[str], counter: WorkCounter, limit: Sequence[float] = ()
) -> list[int]:
    """Stream an answer to a tab. Return its cost; fail as soon as that exceeds the limit."""
    answers, state = StreamingAnswers(), TabState("", harness.room_id, 0)
    cache = FragmentCache(1_000_000)
    fragments = Fragments(harness.app, "", streaming_answers=answers, model=no_model, locked=False, cache=cache)
    renderer = FrameRenderer(harness.overseer, fragments, answers)
    cost, sent_bytes = [0], 0
    counter.work = Work()
    answers.apply(PartAdded(harness.room_id, number, 0, kind, "word\n\n"))
    for count, token in enumerate(itertools.chain([""], tokens)):
        answers.apply(PartGrew(harness.room_id, number, 0, token))
        if count % TOKENS_PER_FRAME == 0:
            frames, state = renderer.room_frames(state, [GrowingPartInvalidated(number, 0)])
            sent_bytes += len(frames)
            work = counter.work
            cost = [work.markdown_chars, work.sanitised_chars, work.rendered_chars, work.statements, sent_bytes]
            assert not limit or all(map(le, cost, limit)), (cost, limit)
    return cost


def no_model(name: str) -> Model:
    raise AssertionError("an answer does not need its model")


@pytest.mark.parametrize(
    ("tokens", "part"), [*((answer, "text") for answer in ANSWERS.values()), (blocks, "reasoning")],
    ids=[*ANSWERS, "reasoning"],
)  # fmt: skip
def test_token_costs_the_same_in_a_long_answer(
    counter: WorkCounter, small: Harness, tokens: Callable[[int], Iterator[str]], part: str
) -> None:
    """A long answer costs as much more as it is longer, and a third of that at most on top."""
    reply, number = small.ask()
    small.stream(reply, "word\n\n")
    small.settle(small.tab)
    short = stream(small, number, part, tokens(SHORT_TOKENS), counter)
    limit = [LONG_TOKENS / SHORT_TOKENS * 4 / 3 * one for one in short]
    stream(small, number, part, tokens(LONG_TOKENS), counter, limit)
    small.finish(reply)
    small.settle(small.tab)
