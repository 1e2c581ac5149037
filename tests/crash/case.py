"""One room after one round: what was acknowledged about it, held against what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from tests.crash.book import NEW_ROOM, Book
from tests.crash.choir import Choir, begins_answer, generation_of, words
from tests.crash.files import StoredMessage, StoredRoom
from tests.crash.log import Act, Shown, Sight

FINISHED = {"complete", "stopped", "failed", "interrupted"}


@dataclass(slots=True)
class Known:
    """A question that somebody was shown: stored not before `start`, and by `seen`.

    `texts` are what it said, one after the other; it says `least` or a later one of them.
    """

    start: float
    seen: float
    texts: list[str]
    least: int = 0
    last_seen: float = -inf


@dataclass(slots=True)
class Case:
    """Judges one room. `stored` is None if it is gone; `checked` counts what was looked at."""

    book: Book
    stored: StoredRoom | None
    acts: Sequence[Act]
    sights: Sequence[Sight]
    choir: Choir
    killed_at: float
    checked: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    version: int = 0
    _known: dict[int, Known] = field(default_factory=dict)
    _there: dict[int, StoredMessage] = field(default_factory=dict)
    _removers: list[Act] = field(default_factory=list)

    def judge(self) -> None:
        """Find all that is wrong."""
        deletions = self._of("delete")
        self.checked["deletions"] += sum(act.acknowledged for act in deletions)
        if self.stored is None:
            if not any(act.maybe_done for act in deletions):
                self._fault("is gone, and nobody deleted it")
            self.checked["unknown outcomes resolved"] += any(not act.status for act in deletions)
            return
        if any(act.acknowledged for act in deletions):
            return self._fault("was deleted, and is there")
        if any(sight.gone for sight in self.sights):
            return self._fault("was shown as deleted, and is there")
        self.checked["unknown outcomes resolved"] += len(deletions)
        self._there = {message.number: message for message in self.stored.messages}
        self._gather()
        self._resolve()
        self._questions()
        self._answers()
        self._stops()
        self._numbers()
        self._name()

    # What was acknowledged

    def _gather(self) -> None:
        for message in self.book.base.messages:
            if message.role == "user":
                self._known[message.number] = Known(-inf, -inf, [message.text])
        asks = self._of("ask")
        for act in asks:
            if act.acknowledged:
                self.checked["questions"] += 1
                self._learn(act.number, act.text, act.start, act.end, "acknowledged")
        edits = [act for act in self._of("edit") if act.maybe_done]
        for sight in self.sights:
            self.checked["pushes" if sight.by.startswith("a push") else "answers by HTTP"] += 1
            for shown in sight.messages:
                if shown.role == "user" and shown.number not in self._known:
                    self._meet(shown, sight, asks)
        for act in edits:
            if (known := self._known.get(act.number)) is None:
                self._fault(f"let a question be edited that is not known: {act}")
                continue
            known.texts.append(act.text)
            if act.acknowledged:
                self.checked["edits"] += 1
                known.least = len(known.texts) - 1
        for sight in self.sights:
            for shown in sight.messages:
                self._compare(shown, sight)
        for message in self.stored.messages if self.stored else ():
            if message.role == "user" and message.number not in self._known:
                self._find(message, asks)
        self._removers = [act for act in self._of("clear") if act.maybe_done] + edits
        self.checked["clears"] += sum(act.acknowledged for act in self._of("clear"))

    def _learn(self, number: int, text: str, start: float, seen: float, how: str) -> None:
        known = self._known.get(number)
        if known is None:
            self._known[number] = Known(start, seen, [text])
            if number <= self.book.base.used:
                self._fault(f"used the number {number} again, for {text!r}")
        else:
            if known.texts[0] != text:
                self._fault(f"{how} {text!r} as number {number}, which is {known.texts[0]!r}")
            known.start, known.seen = min(known.start, start), min(known.seen, seen)

    def _meet(self, shown: Shown, sight: Sight, asks: Sequence[Act]) -> None:
        """Somebody was shown a question that nobody knows to be acknowledged, or one that was edited since."""
        edited = [act for act in self._of("edit") if act.text == shown.text and act.number == shown.number]
        starts = [act.start for act in asks if act.text == shown.text and not act.acknowledged]
        if starts:
            self._learn(shown.number, shown.text, min(starts), sight.at, "showed")
        elif not edited:
            self._fault(f"showed the question {shown.number} {shown.text!r} in {sight.by}, which nobody asked there")

    def _compare(self, shown: Shown, sight: Sight) -> None:
        if shown.role == "user":
            known = self._known.get(shown.number)
            if known is None:
                return
            if shown.text not in known.texts:
                return self._fault(f"showed {shown.text!r} as question {shown.number} in {sight.by}: {known.texts}")
            known.seen = min(known.seen, sight.at)
            known.least = max(known.least, known.texts.index(shown.text))
        elif (question := self._known.get(shown.number - 1)) and not any(
            begins_answer(text, shown.text) for text in question.texts
        ):
            self._fault(f"showed {shown.text[:80]!r} as the answer to {question.texts} in {sight.by}")

    def _find(self, message: StoredMessage, asks: Sequence[Act]) -> None:
        """There is a question that nobody was told of: was it asked at all?"""
        starts = [act.start for act in asks if act.text == message.text and not act.status]
        if message.number <= self.book.base.used:
            self._fault(f"has the question {message.number} {message.text!r}, which was removed in an earlier round")
        elif not starts:
            self._fault(f"has a question {message.number} {message.text!r} that nobody asked, or has it twice")
        else:
            self.checked["unknown outcomes resolved"] += 1
            self._known[message.number] = Known(min(starts), self.killed_at, [message.text])

    # What became of it

    def _resolve(self) -> None:
        """Look whether the one clear or edit that was never answered was done; if so, it must be done wholly."""
        for act in [act for act in self._removers if not act.status]:
            others = [other for other in self._removers if other is not act]
            before = {
                number
                for number, known in self._known.items()
                if known.seen < act.start
                and _removes(act, number)
                and not any(_removes(other, number) and other.end > known.start for other in others)
            }
            here = before & self._there.keys()
            if act.kind == "edit":
                stored = self._there.get(act.number)
                done = stored is not None and stored.text == act.text
            elif before:
                done = here != before
            else:
                continue  # there was nothing to see
            self.checked["unknown outcomes resolved"] += 1
            if done and here:
                self._fault(f"did half of {act}: {sorted(here)} are still there of {sorted(before)}")
            elif not done and here != before:
                self._fault(f"did not do {act}, and yet {sorted(before - here)} are gone")
            if done:
                act.status, act.end = 200, self.killed_at
            else:
                self._removers.remove(act)

    def _questions(self) -> None:
        texts = Counter(message.text for message in self._there.values() if message.role == "user")
        for text, count in texts.items():
            if count > 1:
                self._fault(f"has {text!r} {count} times")
        gone: dict[int, str] = {}
        for sight in self.sights:
            if sight.span:
                first, last = sight.span
                there = {shown.number for shown in sight.messages}
                gone |= {n: sight.by for n in self._known if first <= n <= last and n not in there}
        for number, known in self._known.items():
            self.checked["messages"] += 1
            removers = [act for act in self._removers if _removes(act, number) and act.end > known.start]
            surely = [act for act in removers if act.acknowledged and act.start > known.seen]
            what = f"question {number} {known.texts[-1]!r}"
            stored = self._there.get(number)
            if stored is None:
                if not removers:
                    self._fault(f"has lost {what}")
                continue
            if surely:
                self._fault(f"has {what}, which {surely[-1]} removed")
            elif number in gone:
                self._fault(f"has {what}, which {gone[number]} did not show any more")
            if stored.role != "user" or stored.text not in known.texts:
                self._fault(f"says {stored.text!r} as {what}")
            elif known.texts.index(stored.text) < known.least:
                self._fault(f"says {stored.text!r} again as {what}, which was {known.texts[known.least]!r} already")

    def _answers(self) -> None:
        resets = [act for act in self._of("retry", "resume", "edit") if act.maybe_done]
        facts = [
            (Shown(message.number, "assistant", message.state, message.text), "the last look")
            for message in self.book.base.messages
            if message.role == "assistant"
        ] + [(shown, sight.by) for sight in self.sights for shown in sight.messages if shown.role == "assistant"]
        for number, question in self._there.items():
            answer = self._there.get(number + 1)
            if question.role != "user":
                continue
            if answer is None or answer.role != "assistant":
                self._fault(f"has a question {number} without the row of its answer")
            elif answer.state not in FINISHED:
                self._fault(f"has an answer {number + 1} that is {answer.state}")
            else:
                self._wording(question, answer)
        if any(number - 1 not in self._there for number, message in self._there.items() if message.role != "user"):
            self._fault("has an answer without its question")
        for shown, by in facts:
            stored, known = self._there.get(shown.number), self._known.get(shown.number - 1)
            if stored is None or known is None or shown.state not in FINISHED:
                continue
            self.checked["answers"] += 1
            made = self._made(shown, known)
            if any(act.end > made and _resets(act, shown.number) for act in resets):
                continue
            if (stored.state, stored.text) != (shown.state, shown.text):
                self._fault(
                    f"has answer {shown.number} {stored.state} {stored.text[-40:]!r}, which {by} showed"
                    f" {shown.state} {shown.text[-40:]!r}"
                )

    def _wording(self, question: StoredMessage, answer: StoredMessage) -> None:
        generation = generation_of(answer.text)
        if not begins_answer(question.text, answer.text):
            return self._fault(f"has as answer to {question.text!r} not a beginning of it: {answer.text[:80]!r}")
        if answer.state == "complete" and (
            generation is None or answer.text != "".join(words(question.text, generation))
        ):
            self._fault(f"has a complete answer {answer.number} that is not whole: {answer.text[-80:]!r}")

    def _made(self, shown: Shown, known: Known) -> float:
        """A time before which the answer that was shown was not made."""
        generation = generation_of(shown.text)
        for text in known.texts:
            times = self.choir.asked.get(text, ())
            if generation is not None and begins_answer(text, shown.text) and generation < len(times):
                return times[generation]
        return known.start

    def _stops(self) -> None:
        resets = [act for act in self._of("retry", "resume", "edit") if act.maybe_done]
        before = {message.number for message in self.book.base.messages}
        for act in self._of("stop"):
            if not act.acknowledged:
                continue
            self.checked["stops"] += 1
            for number, known in self._known.items():
                answer = self._there.get(number + 1)
                if (
                    answer is not None
                    and number not in before
                    and known.seen < act.start
                    and answer.state not in ("complete", "stopped")
                    and not any(reset.end > act.start and _resets(reset, number + 1) for reset in resets)
                ):
                    self._fault(f"has answer {number + 1} {answer.state}, which was stopped: {act}")

    def _numbers(self) -> None:
        assert self.stored is not None
        used = max([self.book.base.used, *(number + 1 for number in self._known)])
        if self.stored.used < used:
            self._fault(f"would use the number {self.stored.used + 1} again: {used} was used")
        if self.stored.counted != len(self.stored.messages):
            self._fault(f"counts {self.stored.counted} messages and has {len(self.stored.messages)}")
        base = {message.number for message in self.book.base.messages}
        told = sorted((act for act in self._of("ask") if act.acknowledged), key=lambda act: act.end)
        first_told: dict[int, Act] = {}
        for act in told:
            first_told.setdefault(act.number, act)
        new = [act for act in first_told.values() if act.number not in base]
        for at, earlier in enumerate(new):
            for later in new[at + 1 :]:
                if earlier.end < later.start and earlier.number > later.number:
                    self._fault(f"has them in the wrong order: {earlier} and then {later}")
        self._keys(told)

    def _keys(self, told: Sequence[Act]) -> None:
        """A question that came again with its key has the number it had, unless that was taken from it meanwhile."""
        first: dict[str, tuple[int, float]] = {
            known.texts[0]: (number, -inf) for number, known in self._known.items() if known.start == -inf
        }
        for act in told:
            if act.key is None:
                continue
            number, start = first.setdefault(act.text, (act.number, act.start))
            taken = [other for other in self._of("clear", "edit") if other.maybe_done and other.end > start]
            if number != act.number and not any(_removes(other, number) or other.number == number for other in taken):
                self._fault(f"stored {act} again, which has the number {number}")

    def _name(self) -> None:
        assert self.stored is not None
        stored, settings = self.stored, self.book.settings
        least = self.book.since
        for act in self._of("rename"):
            if act.acknowledged:
                self.checked["names"] += 1
                least = max(least, act.version)
        for sight in self.sights:
            if sight.name and " v" in sight.name:
                self.checked["names"] += 1
                least = max(least, int(sight.name.rsplit(" v", 1)[1]))
        found = [n for n in range(least, len(settings)) if self.book.name(n) in (stored.name, None)]
        if not found:
            return self._fault(f"is called {stored.name!r}, and was {self.book.name(least)!r} by then")
        named = [n for n in found if self.book.name(n) == stored.name]
        self.version = named[-1] if named else 0
        self.checked["unknown outcomes resolved"] += self.version > least
        if not named:
            self._own_name(stored)
        wanted = self.book.whole(self.version)
        if (stored.temperature, stored.pinned) != (wanted.temperature, wanted.pinned):
            self._fault(
                f"has the settings {stored.temperature}, {stored.pinned} with the name {stored.name!r},"
                f" which came with {wanted.temperature}, {wanted.pinned}"
            )

    def _own_name(self, stored: StoredRoom) -> None:
        """Nobody named it: it is called by the first question that was ever asked in it."""
        shown = {sight.name for sight in self.sights if sight.name and sight.name != NEW_ROOM}
        asked = {act.text for act in self._of("ask") if act.maybe_done} if not self.book.base.used else set()
        before = {self.book.base.name} if self.book.base.used else set()
        if self._known and not self.book.base.used and stored.name == NEW_ROOM:
            self._fault("was asked something, and got no name from it")
        elif stored.name not in {NEW_ROOM} | asked | before or not shown <= {stored.name}:
            self._fault(f"is called {stored.name!r}, and was shown as {sorted(shown)}")

    # In call order

    def _of(self, *kinds: str) -> list[Act]:
        return [act for act in self.acts if act.kind in kinds]

    def _fault(self, sentence: str) -> None:
        self.faults.append(f"room {self.book.room} {sentence}")

    def account(self) -> Iterator[str]:
        """All that was done with the room, in order."""
        for act in sorted(self.acts, key=lambda act: act.start):
            yield f"  {act.start - self.killed_at:8.3f} s  {act}"


def _removes(act: Act, number: int) -> bool:
    return act.kind == "clear" or (act.kind == "edit" and number > act.number + 1)


def _resets(act: Act, answer: int) -> bool:
    return act.number + 1 == answer if act.kind == "edit" else act.number in (0, answer)
