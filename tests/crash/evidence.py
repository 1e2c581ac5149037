"""What clients and tabs were told about one room in one round, put together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf

from tests.crash.expected_room import ExpectedRoom
from tests.crash.files import StoredMessage, StoredRoom
from tests.crash.log import Act, Shown, Sight
from tests.crash.scripted_model import ScriptedModel, begins_answer


@dataclass(slots=True)
class Known:
    """A question that somebody was shown: stored not before `start`, and by `seen`.

    `texts` are what it said, one after the other; it says `least` or a later one of them.
    """

    start: float
    seen: float
    texts: list[str]
    least: int = 0


@dataclass(slots=True)
class Evidence:
    """Of one room. `stored` is what is there now, None if it is gone; `checked` counts what was looked at."""

    book: ExpectedRoom
    stored: StoredRoom | None
    acts: Sequence[Act]
    sights: Sequence[Sight]
    scripted_model: ScriptedModel
    killed_at: float
    checked: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    known: dict[int, Known] = field(default_factory=dict)
    there: dict[int, StoredMessage] = field(default_factory=dict)
    removers: list[Act] = field(default_factory=list)

    def gather(self) -> None:
        """Find every question that somebody was told of, or that is there, and what may have removed it."""
        for message in self.book.base.messages:
            if message.role == "user":
                self.known[message.number] = Known(-inf, -inf, [message.text])
        asks = self.of("ask")
        for act in asks:
            if act.acknowledged:
                self.checked["questions"] += 1
                self._learn(act.number, act.text, act.start, act.end, "acknowledged")
        edits = [act for act in self.of("edit") if act.maybe_done]
        for sight in self.sights:
            self.checked["pushes" if sight.by.startswith("a push") else "answers by HTTP"] += 1
            for shown in sight.messages:
                if shown.role == "user" and shown.number not in self.known:
                    self._meet(shown, sight, asks)
        for act in edits:
            if (known := self.known.get(act.number)) is None:
                self.fault(f"let a question be edited that is not known: {act}")
                continue
            known.texts.append(act.text)
            if act.acknowledged:
                self.checked["edits"] += 1
                known.least = len(known.texts) - 1
        for sight in self.sights:
            for shown in sight.messages:
                self._compare(shown, sight)
        for message in self.stored.messages if self.stored else ():
            if message.role == "user" and message.number not in self.known:
                self._find(message, asks)
        self.removers = [act for act in self.of("clear") if act.maybe_done] + edits
        self.checked["clears"] += sum(act.acknowledged for act in self.of("clear"))

    def _learn(self, number: int, text: str, start: float, seen: float, how: str) -> None:
        known = self.known.get(number)
        if known is None:
            self.known[number] = Known(start, seen, [text])
            if number <= self.book.base.used:
                self.fault(f"used the number {number} again, for {text!r}")
        else:
            if known.texts[0] != text:
                self.fault(f"{how} {text!r} as number {number}, which is {known.texts[0]!r}")
            known.start, known.seen = min(known.start, start), min(known.seen, seen)

    def _meet(self, shown: Shown, sight: Sight, asks: Sequence[Act]) -> None:
        """Somebody was shown a question that nobody knows to be acknowledged, or one that was edited since."""
        edited = [act for act in self.of("edit") if act.text == shown.text and act.number == shown.number]
        starts = [act.start for act in asks if act.text == shown.text and not act.acknowledged]
        if starts:
            self._learn(shown.number, shown.text, min(starts), sight.at, "showed")
        elif not edited:
            self.fault(f"showed the question {shown.number} {shown.text!r} in {sight.by}, which nobody asked there")

    def _compare(self, shown: Shown, sight: Sight) -> None:
        if shown.role == "user":
            known = self.known.get(shown.number)
            if known is None:
                return
            if shown.text not in known.texts:
                return self.fault(f"showed {shown.text!r} as question {shown.number} in {sight.by}: {known.texts}")
            known.seen = min(known.seen, sight.at)
            known.least = max(known.least, known.texts.index(shown.text))
        elif (question := self.known.get(shown.number - 1)) and not any(
            begins_answer(text, shown.text) for text in question.texts
        ):
            self.fault(f"showed {shown.text[:80]!r} as the answer to {question.texts} in {sight.by}")

    def _find(self, message: StoredMessage, asks: Sequence[Act]) -> None:
        """There is a question that nobody was told of: was it asked at all?"""
        starts = [act.start for act in asks if act.text == message.text and not act.status]
        if message.number <= self.book.base.used:
            self.fault(f"has the question {message.number} {message.text!r}, which was removed in an earlier round")
        elif not starts:
            self.fault(f"has a question {message.number} {message.text!r} that nobody asked, or has it twice")
        else:
            self.checked["unknown outcomes resolved"] += 1
            self.known[message.number] = Known(min(starts), self.killed_at, [message.text])

    # What became of it

    def resolve(self) -> None:
        """Look whether the one clear or edit that was never answered was done; if so, it must be done wholly."""
        for act in [act for act in self.removers if not act.status]:
            others = [other for other in self.removers if other is not act]
            before = {
                number
                for number, known in self.known.items()
                if known.seen < act.start
                and removes(act, number)
                and not any(removes(other, number) and other.end > known.start for other in others)
            }
            here = before & self.there.keys()
            if act.kind == "edit":
                stored = self.there.get(act.number)
                done = stored is not None and stored.text == act.text
            elif before:
                done = here != before
            else:
                continue  # there was nothing to see
            self.checked["unknown outcomes resolved"] += 1
            if done and here:
                self.fault(f"did half of {act}: {sorted(here)} are still there of {sorted(before)}")
            elif not done and here != before:
                self.fault(f"did not do {act}, and yet {sorted(before - here)} are gone")
            if done:
                act.status, act.end = 200, self.killed_at
            else:
                self.removers.remove(act)

    def of(self, *kinds: str) -> list[Act]:
        """The acts of these kinds."""
        return [act for act in self.acts if act.kind in kinds]

    def fault(self, sentence: str) -> None:
        """Something is wrong with the room."""
        self.faults.append(f"room {self.book.room} {sentence}")


def removes(act: Act, number: int) -> bool:
    return act.kind == "clear" or (act.kind == "edit" and number > act.number + 1)


def resets(act: Act, answer: int) -> bool:
    return act.number + 1 == answer if act.kind == "edit" else act.number in (0, answer)
