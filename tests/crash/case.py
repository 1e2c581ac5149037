"""One room after one round: what was acknowledged about it, held against what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import inf

from tests.crash.evidence import Evidence, Known, removes, resets
from tests.crash.expected_room import NEW_ROOM
from tests.crash.files import StoredMessage, StoredRoom
from tests.crash.log import Act, Shown
from tests.crash.scripted_model import begins_answer, generation_of, words

FINISHED = {"complete", "stopped", "failed", "interrupted"}


@dataclass(slots=True)
class Case(Evidence):
    """Judges one room; `version` is the setting that it was found with."""

    version: int = 0

    def judge(self) -> None:
        """Find all that is wrong."""
        deletions = self.of("delete")
        self.checked["deletions"] += sum(act.acknowledged for act in deletions)
        if self.stored is None:
            if not any(act.maybe_done for act in deletions):
                self.fault("is gone, and nobody deleted it")
            self.checked["unknown outcomes resolved"] += any(not act.status for act in deletions)
            return
        if any(act.acknowledged for act in deletions):
            return self.fault("was deleted, and is there")
        if any(sight.gone for sight in self.sights):
            return self.fault("was shown as deleted, and is there")
        self.checked["unknown outcomes resolved"] += len(deletions)
        self.there = {message.number: message for message in self.stored.messages}
        self.gather()
        self.resolve()
        self._questions()
        self._answers()
        self._stops()
        self._numbers()
        self._name()

    def _questions(self) -> None:
        texts = Counter(message.text for message in self.there.values() if message.role == "user")
        for text, count in texts.items():
            if count > 1:
                self.fault(f"has {text!r} {count} times")
        gone: dict[int, str] = {}
        for sight in self.sights:
            if sight.span:
                first, last = sight.span
                there = {shown.number for shown in sight.messages}
                gone |= {n: sight.by for n in self.known if first <= n <= last and n not in there}
        for number, known in self.known.items():
            self.checked["messages"] += 1
            removers = [act for act in self.removers if removes(act, number) and act.end > known.start]
            surely = [act for act in removers if act.acknowledged and act.start > known.seen]
            what = f"question {number} {known.texts[-1]!r}"
            stored = self.there.get(number)
            if stored is None:
                if not removers:
                    self.fault(f"has lost {what}")
                continue
            if surely:
                self.fault(f"has {what}, which {surely[-1]} removed")
            elif number in gone:
                self.fault(f"has {what}, which {gone[number]} did not show any more")
            if stored.role != "user" or stored.text not in known.texts:
                self.fault(f"says {stored.text!r} as {what}")
            elif known.texts.index(stored.text) < known.least:
                self.fault(f"says {stored.text!r} again as {what}, which was {known.texts[known.least]!r} already")

    def _answers(self) -> None:
        again = [act for act in self.of("retry", "resume", "edit") if act.maybe_done]
        facts = [
            (Shown(message.number, "assistant", message.state, message.text), "the last look")
            for message in self.book.base.messages
            if message.role == "assistant"
        ] + [(shown, sight.by) for sight in self.sights for shown in sight.messages if shown.role == "assistant"]
        for number, question in self.there.items():
            answer = self.there.get(number + 1)
            if question.role != "user":
                continue
            if answer is None or answer.role != "assistant":
                self.fault(f"has a question {number} without the row of its answer")
            elif answer.state not in FINISHED:
                self.fault(f"has an answer {number + 1} that is {answer.state}")
            else:
                self._wording(question, answer)
        if any(number - 1 not in self.there for number, message in self.there.items() if message.role != "user"):
            self.fault("has an answer without its question")
        for shown, by in facts:
            stored, known = self.there.get(shown.number), self.known.get(shown.number - 1)
            if stored is None or known is None or shown.state not in FINISHED:
                continue
            self.checked["answers"] += 1
            made = self._made(shown, known)
            if any(act.end > made and resets(act, shown.number) for act in again):
                continue
            if (stored.state, stored.text) != (shown.state, shown.text):
                self.fault(
                    f"has answer {shown.number} {stored.state} {stored.text[-40:]!r}, which {by} showed"
                    f" {shown.state} {shown.text[-40:]!r}"
                )

    def _wording(self, question: StoredMessage, answer: StoredMessage) -> None:
        generation = generation_of(answer.text)
        if not begins_answer(question.text, answer.text):
            return self.fault(f"has as answer to {question.text!r} not a beginning of it: {answer.text[:80]!r}")
        if answer.state == "complete" and (
            generation is None or answer.text != "".join(words(question.text, generation))
        ):
            self.fault(f"has a complete answer {answer.number} that is not whole: {answer.text[-80:]!r}")

    def _made(self, shown: Shown, known: Known) -> float:
        """A time before which the answer that was shown was not made."""
        generation = generation_of(shown.text)
        for text in known.texts:
            times = self.scripted_model.asked.get(text, ())
            if generation is not None and begins_answer(text, shown.text) and generation < len(times):
                return times[generation]
        return known.start

    def _stops(self) -> None:
        again = [act for act in self.of("retry", "resume", "edit") if act.maybe_done]
        before = {message.number for message in self.book.base.messages}
        for act in self.of("stop"):
            if not act.acknowledged:
                continue
            self.checked["stops"] += 1
            for number, known in self.known.items():
                answer = self.there.get(number + 1)
                if (
                    answer is not None
                    and number not in before
                    and known.seen < act.start
                    and answer.state not in ("complete", "stopped")
                    and not any(reset.end > act.start and resets(reset, number + 1) for reset in again)
                ):
                    self.fault(f"has answer {number + 1} {answer.state}, which was stopped: {act}")

    def _numbers(self) -> None:
        assert self.stored is not None
        used = max([self.book.base.used, *(number + 1 for number in self.known)])
        if self.stored.used < used:
            self.fault(f"would use the number {self.stored.used + 1} again: {used} was used")
        if self.stored.counted != len(self.stored.messages):
            self.fault(f"counts {self.stored.counted} messages and has {len(self.stored.messages)}")
        base = {message.number for message in self.book.base.messages}
        told = sorted((act for act in self.of("ask") if act.acknowledged), key=lambda act: act.end)
        first_told: dict[int, Act] = {}
        for act in told:
            first_told.setdefault(act.number, act)
        new = [act for act in first_told.values() if act.number not in base]
        for at, earlier in enumerate(new):
            for later in new[at + 1 :]:
                if earlier.end < later.start and earlier.number > later.number:
                    self.fault(f"has them in the wrong order: {earlier} and then {later}")
        self._keys(told)

    def _keys(self, told: Sequence[Act]) -> None:
        """A question that came again with its key has the number it had, unless that was taken from it meanwhile."""
        first: dict[str, tuple[int, float]] = {
            known.texts[0]: (number, -inf) for number, known in self.known.items() if known.start == -inf
        }
        for act in told:
            if act.key is None:
                continue
            number, start = first.setdefault(act.text, (act.number, act.start))
            taken = [other for other in self.of("clear", "edit") if other.maybe_done and other.end > start]
            if number != act.number and not any(removes(other, number) or other.number == number for other in taken):
                self.fault(f"stored {act} again, which has the number {number}")

    def _name(self) -> None:
        assert self.stored is not None
        stored, settings = self.stored, self.book.settings
        least = self.book.since
        for act in self.of("rename"):
            if act.acknowledged:
                self.checked["names"] += 1
                least = max(least, act.version)
        for sight in self.sights:
            if sight.name and " v" in sight.name:
                self.checked["names"] += 1
                least = max(least, int(sight.name.rsplit(" v", 1)[1]))
        found = [n for n in range(least, len(settings)) if self.book.name(n) in (stored.name, None)]
        if not found:
            return self.fault(f"is called {stored.name!r}, and was {self.book.name(least)!r} by then")
        named = [n for n in found if self.book.name(n) == stored.name]
        self.version = named[-1] if named else 0
        self.checked["unknown outcomes resolved"] += self.version > least
        if not named:
            self._own_name(stored)
        wanted = self.book.whole(self.version)
        if (stored.temperature, stored.pinned) != (wanted.temperature, wanted.pinned):
            self.fault(
                f"has the settings {stored.temperature}, {stored.pinned} with the name {stored.name!r},"
                f" which came with {wanted.temperature}, {wanted.pinned}"
            )

    def _own_name(self, stored: StoredRoom) -> None:
        """Nobody named it: it is called by the first question that was ever asked in it."""
        shown = {sight.name for sight in self.sights if sight.name and sight.name != NEW_ROOM}
        asked = {act.text for act in self.of("ask") if act.maybe_done} if not self.book.base.used else set()
        before = {self.book.base.name} if self.book.base.used else set()
        if self.known and not self.book.base.used and stored.name == NEW_ROOM:
            self.fault("was asked something, and got no name from it")
        elif stored.name not in {NEW_ROOM} | asked | before or not shown <= {stored.name}:
            self.fault(f"is called {stored.name!r}, and was shown as {sorted(shown)}")

    def account(self) -> Iterator[str]:
        """All that was done with the room, in order."""
        for act in sorted(self.acts, key=lambda act: act.start):
            yield f"  {act.start - self.killed_at:8.3f} s  {act}"
