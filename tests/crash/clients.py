"""The load: clients that do all that can be done with rooms, and tabs that watch."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable

import websocket

from tests.crash import reading
from tests.crash.caller import Answer, Lost, call
from tests.crash.expected_room import ExpectedRoom, Setting
from tests.crash.log import Act, ListState, Log
from tests.support.tab import Tab

ROOMS = 14
ANSWER_WAIT = "wait=2"


class Memory:
    """What outlives the rounds: the rooms, and what each client still has to find out."""

    def __init__(self, clients: int) -> None:
        self.books: dict[str, ExpectedRoom] = {}
        self.leaving: dict[str, ExpectedRoom] = {}  # rooms whose owner has begun to delete them
        self.pending: list[deque[Act]] = [deque() for _ in range(clients)]  # keyed questions nobody answered
        self.sent: list[deque[Act]] = [deque(maxlen=12) for _ in range(clients)]  # keyed questions to be sent again
        self.created: list[tuple[Act, Setting]] = []  # rooms that may exist


class Client:
    """Acts until the server is gone; the seed decides what, not when."""

    def __init__(self, number: int, name: str, port: int, log: Log, memory: Memory, seed: str) -> None:
        self._number, self._name, self._port = number, name, port
        self._log, self._memory = log, memory
        self._rng = random.Random(f"{seed} {name}")
        self._count = 0
        self._over = False

    def end(self) -> None:
        """Do no more."""
        self._over = True

    def run(self) -> None:
        """Act, in a thread of its own."""
        try:
            while not self._over and self._memory.pending[self._number]:
                self._send_again(self._memory.pending[self._number].popleft(), alone=True)
            while not self._over:
                self._act()
        except Lost:
            return
        except Exception as error:  # a client that breaks would only make the load smaller
            self._log.faults.append(f"client {self._name} broke: {error!r}")

    def _act(self) -> None:
        mine = [book for book in list(self._memory.books.values()) if book.owner == self._number]
        everybody = list(self._memory.books.values())
        if not mine or (len(everybody) < ROOMS and self._rng.random() < 0.06):
            return self._create()
        own, any_room = self._rng.choice(mine), self._rng.choice(everybody)
        clear = 12 if len(own.questions) > 30 else 3
        acts: list[tuple[int, Callable[[], None]]] = [
            (22, lambda: self._ask(own)),
            (22, lambda: self._ask(any_room)),
            (6, self._repeat),
            (10, lambda: self._rename(own)),
            (clear, lambda: self._clear(own)),
            (8, lambda: self._edit(own)),
            (7, lambda: self._stop(any_room)),
            (6, lambda: self._again(own, "retry")),
            (4, lambda: self._again(own, "resume")),
            (3 if len(mine) > 1 else 0, lambda: self._delete(own)),
            (4, lambda: self._open(any_room)),
            (3, self._list),
        ]
        self._rng.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()

    def _token(self) -> str:
        self._count += 1
        return f"q{self._name}-{self._count} asks"

    def _create(self) -> None:
        name = f"Room {self._name}-{self._count} v0" if self._rng.random() < 0.6 else None
        self._count += 1
        act = self._log.begin(Act("create", text=name or ""))
        setting = Setting(name)
        self._memory.created.append((act, setting))
        answer = self._call(act, "POST", "/rooms", {} if name is None else {"name": name})
        if act.acknowledged:
            self._memory.created.remove((act, setting))
            act.room = answer.location.rsplit("/", 1)[-1]
            self._memory.books[act.room] = ExpectedRoom(act.room, self._number, [setting])

    def _ask(self, book: ExpectedRoom) -> None:
        key = f"key {self._token()}" if self._rng.random() < 0.5 else None
        act = Act("ask", book.room, self._token(), key)
        if key and self._rng.random() < 0.15:
            return self._send_twice(act)
        if key:
            self._memory.sent[self._number].append(act)
        self._send(act, alone=True)
        if act.acknowledged and book.owner == self._number:
            book.questions.append(act.number)

    def _send(self, act: Act, *, alone: bool) -> None:
        form = {"text": act.text, **({"key": act.key} if act.key else {})}
        how = self._rng.choices(({}, {"Prefer": ANSWER_WAIT}, {"Accept": "text/plain"}), (90, 6, 4))[0] if alone else {}
        self._log.begin(act)
        try:
            self._call(act, "POST", f"/rooms/{act.room}/messages", form, how)
        except Lost:
            if act.key and alone:
                self._memory.pending[self._number].append(act)
            raise

    def _send_again(self, act: Act, *, alone: bool) -> None:
        if act.room in self._memory.books:
            self._send(Act("ask", act.room, act.text, act.key), alone=alone)

    def _send_twice(self, act: Act) -> None:
        """As a proxy might, that lost patience."""

        def other() -> None:
            try:
                self._send_again(act, alone=False)
            except Lost:
                return

        twin = threading.Thread(target=other, daemon=True)
        twin.start()
        try:
            self._send(act, alone=True)
        finally:
            twin.join()

    def _repeat(self) -> None:
        if sent := self._memory.sent[self._number]:
            self._send_again(self._rng.choice(sent), alone=True)

    def _rename(self, book: ExpectedRoom) -> None:
        version = len(book.settings)
        whole = self._rng.random() < 0.5
        setting = Setting(f"Room {book.room} v{version}", whole, version / 1000, version % 2 == 0)
        book.settings.append(setting)
        form = {"name": str(setting.name)}
        if whole:
            form |= {"temperature": str(setting.temperature), "pinned": str(int(setting.pinned))}
        act = self._log.begin(Act("rename", book.room, version=version))
        self._call(act, "PATCH", f"/rooms/{book.room}", form)

    def _clear(self, book: ExpectedRoom) -> None:
        act = self._log.begin(Act("clear", book.room))
        self._call(act, "DELETE", f"/rooms/{book.room}/messages")
        book.questions.clear()

    def _edit(self, book: ExpectedRoom) -> None:
        if not book.questions:
            return
        if self._rng.random() < 0.7:
            self._stop(book)
        # Mostly one of the last, or no conversation would last.
        number = self._rng.choice(book.questions[-3:] if self._rng.random() < 0.8 else book.questions)
        act = self._log.begin(Act("edit", book.room, self._token(), number=number))
        self._call(act, "PATCH", f"/rooms/{book.room}/messages/{number}", {"text": act.text})
        if act.acknowledged:
            book.questions = [known for known in book.questions if known <= number]

    def _stop(self, book: ExpectedRoom) -> None:
        act = self._log.begin(Act("stop", book.room))
        self._call(act, "DELETE", f"/rooms/{book.room}/turn")

    def _again(self, book: ExpectedRoom, kind: str) -> None:
        if self._rng.random() < 0.7:
            self._stop(book)
        act = self._log.begin(Act(kind, book.room))
        answer = self._call(act, "POST", f"/rooms/{book.room}/turn", {"resume": "1"} if kind == "resume" else {})
        if act.acknowledged:
            act.number = int(answer.location.rsplit("/", 1)[-1])

    def _delete(self, book: ExpectedRoom) -> None:
        self._memory.leaving[book.room] = self._memory.books.pop(book.room)
        act = self._log.begin(Act("delete", book.room))
        self._call(act, "DELETE", f"/rooms/{book.room}")

    def _open(self, book: ExpectedRoom) -> None:
        act = self._log.begin(Act("open", book.room))
        self._call(act, "GET", f"/rooms/{book.room}")

    def _list(self) -> None:
        act = self._log.begin(Act("list"))
        answer = self._call(act, "GET", "/rooms")
        if answer.body and 'id="rooms-more"' not in answer.body:
            self._log.lists.append(ListState(act.start, frozenset(row[0] for row in reading.rows(answer.body))))

    def _call(
        self,
        act: Act,
        method: str,
        path: str,
        form: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        answer = call(self._port, method, path, form, headers, act=act)
        if act.room and act.acknowledged and answer.body and "text/plain" not in (headers or {}).values():
            self._log.sights.append(reading.page(act.room, f"the answer to a {act.kind}", answer.body))
        return answer


class Watcher:
    """A tab on some room, or on none: it keeps what it was shown, to the last frame; then it looks at another."""

    def __init__(self, name: str, port: int, log: Log, memory: Memory, seed: str) -> None:
        self._port, self._log, self._memory = port, log, memory
        self._rng = random.Random(f"{seed} {name}")
        self._over = False

    def end(self) -> None:
        """Look no more."""
        self._over = True

    def run(self) -> None:
        """Look, in a thread of its own."""
        while not self._over and self._watch():
            continue

    def _watch(self) -> bool:
        rooms = list(self._memory.books)
        room = self._rng.choice([*rooms, None]) if rooms else None
        try:
            tab = Tab(f"http://127.0.0.1:{self._port}", f"room={room}" if room else "")
        except (OSError, websocket.WebSocketException):
            return False
        try:
            while (frame := tab.read()) is not None:
                self._log.sights.extend(reading.pushed(room, frame))
        except (OSError, websocket.WebSocketException):
            return False
        finally:
            tab.close()
        return tab.close_code == 4404
