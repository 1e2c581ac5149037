"""Check one room after one round: compare what was acknowledged and shown with what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from tests.crash.expected_room import NEW_ROOM, ExpectedRoom
from tests.crash.files import StoredMessage, StoredRoom
from tests.crash.history import Observation, Operation, ShownMessage
from tests.crash.scripted_model import ScriptedModel, answer_words, attempt_of, is_beginning

FINISHED = {"complete", "stopped", "failed", "interrupted"}


@dataclass(slots=True)
class Question:
    """A question that was shown: stored not before `start` and not after `seen`.

    `texts` are its versions in order; it must have version `least` or a later one.
    """

    start: float
    seen: float
    texts: list[str]
    least: int = 0


@dataclass(slots=True)
class RoomCheck:
    """Finds `faults` in one room. `stored` is None if the room is gone; `version` is the index of its name."""

    expected: ExpectedRoom
    stored: StoredRoom | None
    operations: Sequence[Operation]
    observations: Sequence[Observation]
    model: ScriptedModel
    killed_at: float
    checked: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    version: int = 0
    _questions: dict[int, Question] = field(default_factory=dict)
    _stored: dict[int, StoredMessage] = field(default_factory=dict)
    _removers: list[Operation] = field(default_factory=list)  # clears and edits

    def run(self) -> None:
        deletions = self._of("delete")
        self.checked["deletions"] += sum(deletion.acknowledged for deletion in deletions)
        self.checked["unknown outcomes resolved"] += any(not deletion.status for deletion in deletions)
        if self.stored is None:
            if not any(deletion.maybe_done for deletion in deletions):
                self._fault("is gone, but was not deleted")
            return
        if any(deletion.acknowledged for deletion in deletions):
            return self._fault("was deleted, but exists")
        if any(observation.gone for observation in self.observations):
            return self._fault("was shown as deleted, but exists")
        self._stored = {message.number: message for message in self.stored.messages}
        self._collect_questions()
        self._resolve_removers()
        self._check_questions()
        self._check_answers()
        self._check_stops()
        self._check_numbers(self.stored)
        self._check_name(self.stored)

    def account(self) -> Iterator[str]:
        """Yield all operations on the room in order."""
        for operation in sorted(self.operations, key=lambda operation: operation.start):
            yield f"  {operation.start - self.killed_at:8.3f} s  {operation}"

    # Collect

    def _collect_questions(self) -> None:
        """Collect every question that was acknowledged, shown or stored, and what may have removed it."""
        for message in self.expected.base.messages:
            if message.role == "user":
                self._questions[message.number] = Question(-inf, -inf, [message.text])
        asks = self._of("ask")
        for ask in asks:
            if ask.acknowledged:
                self.checked["questions"] += 1
                self._add_question(ask.number, ask.text, ask.start, ask.end, "acknowledged")
        edits = [edit for edit in self._of("edit") if edit.maybe_done]
        for observation in self.observations:
            self.checked["pushes" if observation.source.startswith("a push") else "responses"] += 1
            for shown in observation.messages:
                if shown.role == "user" and shown.number not in self._questions:
                    self._add_shown(shown, observation, asks)
        for edit in edits:
            if (question := self._questions.get(edit.number)) is None:
                self._fault(f"let a question be edited that is unknown: {edit}")
                continue
            question.texts.append(edit.text)
            if edit.acknowledged:
                self.checked["edits"] += 1
                question.least = len(question.texts) - 1
        for observation in self.observations:
            for shown in observation.messages:
                self._compare_shown(shown, observation)
        for message in self._stored.values():
            if message.role == "user" and message.number not in self._questions:
                self._add_stored(message, asks)
        clears = self._of("clear")
        self._removers = [clear for clear in clears if clear.maybe_done] + edits
        self.checked["clears"] += sum(clear.acknowledged for clear in clears)

    def _add_question(self, number: int, text: str, start: float, seen: float, how: str) -> None:
        question = self._questions.get(number)
        if question is None:
            self._questions[number] = Question(start, seen, [text])
            if number <= self.expected.base.used:
                self._fault(f"reused the number {number} for {text!r}")
        else:
            if question.texts[0] != text:
                self._fault(f"{how} {text!r} as number {number}, which is {question.texts[0]!r}")
            question.start, question.seen = min(question.start, start), min(question.seen, seen)

    def _add_shown(self, shown: ShownMessage, observation: Observation, asks: Sequence[Operation]) -> None:
        """Add a question that was shown but not acknowledged, unless the text is that of an edit."""
        edited = [edit for edit in self._of("edit") if (edit.text, edit.number) == (shown.text, shown.number)]
        starts = [ask.start for ask in asks if ask.text == shown.text and not ask.acknowledged]
        if starts:
            self._add_question(shown.number, shown.text, min(starts), observation.at, "showed")
        elif not edited:
            self._fault(f"showed the question {shown.number} {shown.text!r} in {observation.source}, which is unknown")

    def _compare_shown(self, shown: ShownMessage, observation: Observation) -> None:
        where = observation.source
        if shown.role == "user":
            question = self._questions.get(shown.number)
            if question is None:
                return
            if shown.text not in question.texts:
                return self._fault(f"showed {shown.text!r} as question {shown.number} in {where}: {question.texts}")
            question.seen = min(question.seen, observation.at)
            question.least = max(question.least, question.texts.index(shown.text))
        elif (question := self._questions.get(shown.number - 1)) and not any(
            is_beginning(text, shown.text) for text in question.texts
        ):
            self._fault(f"showed {shown.text[:80]!r} as the answer to {question.texts} in {where}")

    def _add_stored(self, message: StoredMessage, asks: Sequence[Operation]) -> None:
        """Add a stored question that was neither acknowledged nor shown."""
        starts = [ask.start for ask in asks if ask.text == message.text and not ask.status]
        if message.number <= self.expected.base.used:
            self._fault(f"has the question {message.number} {message.text!r}, which was removed in an earlier round")
        elif not starts:
            self._fault(f"has a question {message.number} {message.text!r} that is unknown or stored twice")
        else:
            self.checked["unknown outcomes resolved"] += 1
            self._questions[message.number] = Question(min(starts), self.killed_at, [message.text])

    def _resolve_removers(self) -> None:
        """Find out whether a clear or edit without a response was done; it must be done completely or not at all."""
        for remover in [remover for remover in self._removers if not remover.status]:
            others = [other for other in self._removers if other is not remover]
            before = {
                number
                for number, question in self._questions.items()
                if question.seen < remover.start
                and removes(remover, number)
                and not any(removes(other, number) and other.end > question.start for other in others)
            }
            left = before & self._stored.keys()
            if remover.kind == "edit":
                stored = self._stored.get(remover.number)
                done = stored is not None and stored.text == remover.text
            elif before:
                done = left != before
            else:
                continue  # it changed nothing
            self.checked["unknown outcomes resolved"] += 1
            if done and left:
                self._fault(f"did half of {remover}: {sorted(left)} are still there of {sorted(before)}")
            elif not done and left != before:
                self._fault(f"did not do {remover}, but {sorted(before - left)} are gone")
            if done:
                remover.status, remover.end = 200, self.killed_at
            else:
                self._removers.remove(remover)

    # Compare

    def _check_questions(self) -> None:
        texts = Counter(message.text for message in self._stored.values() if message.role == "user")
        for text, count in texts.items():
            if count > 1:
                self._fault(f"has {text!r} {count} times")
        missing: dict[int, str] = {}  # questions that a fragment did not contain any more
        for observation in self.observations:
            if observation.span:
                first, last = observation.span
                shown = {message.number for message in observation.messages}
                missing |= {n: observation.source for n in self._questions if first <= n <= last and n not in shown}
        for number, question in self._questions.items():
            self.checked["messages"] += 1
            what = f"question {number} {question.texts[-1]!r}"
            removers = [one for one in self._removers if removes(one, number) and one.end > question.start]
            removed_by = [one for one in removers if one.acknowledged and one.start > question.seen]
            stored = self._stored.get(number)
            if stored is None:
                if not removers:
                    self._fault(f"has lost {what}")
                continue
            if removed_by:
                self._fault(f"has {what}, which {removed_by[-1]} removed")
            elif number in missing:
                self._fault(f"has {what}, which {missing[number]} did not show any more")
            if stored.role != "user" or stored.text not in question.texts:
                self._fault(f"has {stored.text!r} as {what}")
            elif question.texts.index(stored.text) < question.least:
                self._fault(f"has {stored.text!r} as {what}, which was {question.texts[question.least]!r} before")

    def _check_answers(self) -> None:
        for number, question in self._stored.items():
            answer = self._stored.get(number + 1)
            if question.role != "user":
                if number - 1 not in self._stored:
                    self._fault("has an answer without its question")
            elif answer is None or answer.role != "assistant":
                self._fault(f"has a question {number} without an answer")
            elif answer.state not in FINISHED:
                self._fault(f"has an answer {number + 1} that is {answer.state}")
            else:
                self._check_text(question, answer)
        self._check_shown_answers()

    def _check_text(self, question: StoredMessage, answer: StoredMessage) -> None:
        attempt = attempt_of(answer.text)
        if not is_beginning(question.text, answer.text):
            return self._fault(f"has {answer.text[:80]!r} as the answer to {question.text!r}")
        if answer.state == "complete" and (
            attempt is None or answer.text != "".join(answer_words(question.text, attempt))
        ):
            self._fault(f"has a complete answer {answer.number} that is not whole: {answer.text[-80:]!r}")

    def _check_shown_answers(self) -> None:
        """An answer that was shown in a final state is unchanged, unless it was reset since."""
        base = [ShownMessage(one.number, one.role, one.state, one.text) for one in self.expected.base.messages]
        facts = [(shown, "the last check") for shown in base]
        facts += [(shown, observation.source) for observation in self.observations for shown in observation.messages]
        for shown, source in facts:
            stored, question = self._stored.get(shown.number), self._questions.get(shown.number - 1)
            if shown.role != "assistant" or stored is None or question is None or shown.state not in FINISHED:
                continue
            self.checked["answers"] += 1
            earliest = self._earliest_time(shown, question)
            if any(one.end > earliest and resets(one, shown.number) for one in self._resetters()):
                continue
            if (stored.state, stored.text) != (shown.state, shown.text):
                self._fault(
                    f"has answer {shown.number} {stored.state} {stored.text[-40:]!r}, which {source} showed"
                    f" {shown.state} {shown.text[-40:]!r}"
                )

    def _earliest_time(self, shown: ShownMessage, question: Question) -> float:
        """Return a time before which the answer that was shown was not generated."""
        attempt = attempt_of(shown.text)
        for text in question.texts:
            times = self.model.asked.get(text, ())
            if attempt is not None and is_beginning(text, shown.text) and attempt < len(times):
                return times[attempt]
        return question.start

    def _check_stops(self) -> None:
        before = {message.number for message in self.expected.base.messages}
        for stop in self._of("stop"):
            if not stop.acknowledged:
                continue
            self.checked["stops"] += 1
            for number, question in self._questions.items():
                answer = self._stored.get(number + 1)
                if (
                    answer is not None
                    and number not in before
                    and question.seen < stop.start
                    and answer.state not in ("complete", "stopped")
                    and not any(one.end > stop.start and resets(one, number + 1) for one in self._resetters())
                ):
                    self._fault(f"has answer {number + 1} {answer.state}, which was stopped: {stop}")

    def _check_numbers(self, stored: StoredRoom) -> None:
        used = max([self.expected.base.used, *(number + 1 for number in self._questions)])
        if stored.used < used:
            self._fault(f"would use the number {stored.used + 1} again: {used} was used")
        base = {message.number for message in self.expected.base.messages}
        acknowledged = sorted((ask for ask in self._of("ask") if ask.acknowledged), key=lambda ask: ask.end)
        first: dict[int, Operation] = {}
        for ask in acknowledged:
            first.setdefault(ask.number, ask)
        new = [ask for ask in first.values() if ask.number not in base]
        for at, earlier in enumerate(new):
            for later in new[at + 1 :]:
                if earlier.end < later.start and earlier.number > later.number:
                    self._fault(f"has them in the wrong order: {earlier} and then {later}")
        self._check_keys(acknowledged)

    def _check_keys(self, asks: Sequence[Operation]) -> None:
        """A question that was repeated with its key has the same number, unless a clear or edit freed the key."""
        first: dict[str, tuple[int, float]] = {
            question.texts[0]: (number, -inf) for number, question in self._questions.items() if question.start == -inf
        }
        for ask in asks:
            if ask.key is None:
                continue
            number, start = first.setdefault(ask.text, (ask.number, ask.start))
            freed = [one for one in self._of("clear", "edit") if one.maybe_done and one.end > start]
            if number != ask.number and not any(removes(one, number) or one.number == number for one in freed):
                self._fault(f"stored {ask} again, which has the number {number}")

    def _check_name(self, stored: StoredRoom) -> None:
        names, least = self.expected.names, self.expected.since
        for rename in self._of("rename"):
            if rename.acknowledged:
                self.checked["names"] += 1
                least = max(least, rename.version)
        for observation in self.observations:
            if observation.name and " v" in observation.name:
                self.checked["names"] += 1
                least = max(least, int(observation.name.rsplit(" v", 1)[1]))
        possible = [n for n in range(least, len(names)) if names[n] in (stored.name, None)]
        if not possible:
            return self._fault(f"is called {stored.name!r}, and was {names[least]!r} by then")
        named = [n for n in possible if names[n] == stored.name]
        self.version = named[-1] if named else 0
        self.checked["unknown outcomes resolved"] += self.version > least
        if not named:
            self._check_automatic_name(stored)

    def _check_automatic_name(self, stored: StoredRoom) -> None:
        """A room without a given name is named after its first question, and after a clear after the next one."""
        base = self.expected.base
        cleared = any(one.maybe_done for one in self._of("clear"))
        shown = {one.name for one in self.observations if one.name and one.name != NEW_ROOM}
        asked = {ask.text for ask in self._of("ask") if ask.maybe_done}
        unnamed = cleared or base.name == NEW_ROOM
        possible = {base.name} | asked if unnamed else {base.name} if base.used else asked
        if self._questions and not base.used and not cleared and stored.name == NEW_ROOM:
            self._fault("has a question but no name")
        elif stored.name not in {NEW_ROOM} | possible or not shown <= (possible if unnamed else {stored.name}):
            self._fault(f"is called {stored.name!r}, and was shown as {sorted(shown)}")

    # In call order

    def _of(self, *kinds: str) -> list[Operation]:
        return [operation for operation in self.operations if operation.kind in kinds]

    def _resetters(self) -> list[Operation]:
        return [operation for operation in self._of("retry", "resume", "edit") if operation.maybe_done]

    def _fault(self, sentence: str) -> None:
        self.faults.append(f"room {self.expected.room} {sentence}")


def removes(operation: Operation, number: int) -> bool:
    """Return whether a clear or edit removes the message."""
    return operation.kind == "clear" or (operation.kind == "edit" and number > operation.number + 1)


def resets(operation: Operation, answer: int) -> bool:
    """Return whether an edit, retry or resume changes the answer."""
    return operation.number + 1 == answer if operation.kind == "edit" else operation.number in (0, answer)
