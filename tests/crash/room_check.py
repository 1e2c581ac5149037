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
    """A question that was shown: stored not before `start` and not after `seen`."""

    start: float
    seen: float
    text: str


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
    _clears: list[Operation] = field(default_factory=list)

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
        self._resolve_clears()
        self._check_questions()
        self._check_answers()
        self._check_stops()
        self._check_numbers(self.stored)
        self._check_path(self.stored)
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
                self._questions[message.number] = Question(-inf, -inf, message.text)
        asks = self._of("ask", "edit")
        for ask in asks:
            if ask.acknowledged:
                self.checked["questions" if ask.kind == "ask" else "edits"] += 1
                self._add_question(ask.made or ask.number, ask.text, ask.start, ask.end, "acknowledged")
        for observation in self.observations:
            self.checked["pushes" if observation.source.startswith("a push") else "responses"] += 1
            for shown in observation.messages:
                if shown.role == "user" and shown.number not in self._questions:
                    self._add_shown(shown, observation, asks)
        for observation in self.observations:
            for shown in observation.messages:
                self._compare_shown(shown, observation)
        for message in self._stored.values():
            if message.role == "user" and message.number not in self._questions:
                self._add_stored(message, asks)
        clears = self._of("clear")
        self._clears = [clear for clear in clears if clear.maybe_done]
        self.checked["clears"] += sum(clear.acknowledged for clear in clears)

    def _add_question(self, number: int, text: str, start: float, seen: float, how: str) -> None:
        question = self._questions.get(number)
        if question is None:
            self._questions[number] = Question(start, seen, text)
            if number <= self.expected.base.used:
                self._fault(f"reused the number {number} for {text!r}")
        else:
            if question.text != text:
                self._fault(f"{how} {text!r} as number {number}, which is {question.text!r}")
            question.start, question.seen = min(question.start, start), min(question.seen, seen)

    def _add_shown(self, shown: ShownMessage, observation: Observation, asks: Sequence[Operation]) -> None:
        """Add a question that was shown but not acknowledged."""
        starts = [ask.start for ask in asks if ask.text == shown.text and not ask.acknowledged]
        if starts:
            self._add_question(shown.number, shown.text, min(starts), observation.at, "showed")
        else:
            self._fault(f"showed the question {shown.number} {shown.text!r} in {observation.source}, which is unknown")

    def _compare_shown(self, shown: ShownMessage, observation: Observation) -> None:
        where = observation.source
        if shown.role == "user":
            question = self._questions.get(shown.number)
            if question is None:
                return
            if shown.text != question.text:
                return self._fault(f"showed {shown.text!r} as question {shown.number} in {where}: {question.text}")
            question.seen = min(question.seen, observation.at)
        elif (question := self._question_of(shown.number)) and not is_beginning(question.text, shown.text):
            self._fault(f"showed {shown.text[:80]!r} as the answer to {question.text!r} in {where}")

    def _question_of(self, answer: int) -> Question | None:
        """Return the question of an answer, if it is known."""
        stored = self._stored.get(answer)
        return self._questions.get((stored.parent if stored else None) or answer - 1)

    def _add_stored(self, message: StoredMessage, asks: Sequence[Operation]) -> None:
        """Add a stored question that was neither acknowledged nor shown."""
        starts = [ask.start for ask in asks if ask.text == message.text and not ask.status]
        if message.number <= self.expected.base.used:
            self._fault(f"has the question {message.number} {message.text!r}, which was removed in an earlier round")
        elif not starts:
            self._fault(f"has a question {message.number} {message.text!r} that is unknown or stored twice")
        else:
            self.checked["unknown outcomes resolved"] += 1
            self._questions[message.number] = Question(min(starts), self.killed_at, message.text)

    def _resolve_clears(self) -> None:
        """Find out whether a clear without a response was done; it must be done completely or not at all."""
        for clear in [clear for clear in self._clears if not clear.status]:
            others = [other for other in self._clears if other is not clear]
            before = {
                number
                for number, question in self._questions.items()
                if question.seen < clear.start and not any(other.end > question.start for other in others)
            }
            left = before & self._stored.keys()
            if not before:
                continue  # it changed nothing
            self.checked["unknown outcomes resolved"] += 1
            if left == before:
                self._clears.remove(clear)
                continue
            clear.status, clear.end = 200, self.killed_at
            if left:
                self._fault(f"did half of {clear}: {sorted(left)} are still there of {sorted(before)}")

    # Compare

    def _check_questions(self) -> None:
        texts = Counter(message.text for message in self._stored.values() if message.role == "user")
        for text, count in texts.items():
            if count > 1:
                self._fault(f"has {text!r} {count} times")
        for number, question in self._questions.items():
            self.checked["messages"] += 1
            what = f"question {number} {question.text!r}"
            clears = [one for one in self._clears if one.end > question.start]
            cleared_by = [one for one in clears if one.acknowledged and one.start > question.seen]
            stored = self._stored.get(number)
            if stored is None:
                if not clears:
                    self._fault(f"has lost {what}")
            elif cleared_by:
                self._fault(f"has {what}, which {cleared_by[-1]} removed")
            elif (stored.role, stored.text) != ("user", question.text):
                self._fault(f"has {stored.text!r} as {what}")

    def _check_answers(self) -> None:
        answered = {message.parent for message in self._stored.values() if message.role == "assistant"}
        for number, message in self._stored.items():
            if message.role == "user":
                if number not in answered:
                    self._fault(f"has a question {number} without an answer")
                continue
            question = self._stored.get(message.parent or 0)
            if question is None or question.role != "user":
                self._fault(f"has an answer {number} without its question")
            elif message.state not in FINISHED:
                self._fault(f"has an answer {number} that is {message.state}")
            else:
                self._check_text(question, message)
        self._check_models()
        self._check_shown_answers()

    def _check_models(self) -> None:
        """Every model that was asked has an answer."""
        answers = Counter(message.parent for message in self._stored.values() if message.role == "assistant")
        for ask in self._of("ask"):
            if ask.acknowledged and ask.models > 1 and ask.number in self._stored:
                self.checked["questions to several models"] += 1
                if answers[ask.number] < ask.models:
                    self._fault(
                        f"has {answers[ask.number]} answers to {ask.number}, which {ask.models} models were asked"
                    )

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
            stored, question = self._stored.get(shown.number), self._question_of(shown.number)
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
        attempt, times = attempt_of(shown.text), self.model.asked.get(question.text, ())
        known = attempt is not None and is_beginning(question.text, shown.text) and attempt < len(times)
        return times[attempt] if known and attempt is not None else question.start

    def _check_stops(self) -> None:
        before = {message.number for message in self.expected.base.messages}
        models = {ask.number: ask.models for ask in self._of("ask") if ask.acknowledged}
        for stop in self._of("stop"):
            if not stop.acknowledged:
                continue
            self.checked["stops"] += 1
            for number, question in self._questions.items():
                for made in range(number + 1, number + 1 + models.get(number, 1)):
                    answer = self._stored.get(made)
                    if (
                        answer is not None
                        and number not in before
                        and question.seen < stop.start
                        and answer.state not in ("complete", "stopped")
                        and not any(one.end > stop.start and resets(one, made) for one in self._resetters())
                    ):
                        self._fault(f"has answer {made} {answer.state}, which was stopped: {stop}")

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
        """A question that was repeated with its key has the same number, unless a clear freed the key."""
        first: dict[str, tuple[int, float]] = {
            question.text: (number, -inf) for number, question in self._questions.items() if question.start == -inf
        }
        for ask in asks:
            if ask.key is None:
                continue
            number, start = first.setdefault(ask.text, (ask.number, ask.start))
            freed = [one for one in self._of("clear") if one.maybe_done and one.end > start]
            if number != ask.number and not freed:
                self._fault(f"stored {ask} again, which has the number {number}")

    def _check_path(self, stored: StoredRoom) -> None:
        """The messages are a tree, edits are versions, and what was chosen or made last is on the shown path."""
        for fault in stored.faults:
            self._fault(f"has a fault: {fault}")
        by_text = {message.text: message for message in self._stored.values() if message.role == "user"}
        for edit in self._of("edit"):
            made, edited = by_text.get(edit.text), self._stored.get(edit.number)
            if made and edited and made.parent != edited.parent:
                self._fault(f"has {made.number} after {made.parent}, which is no version of {edited.number}: {edit}")
        possible: list[int] = []  # one of them is on the path; 0 stands for any path
        for change in reversed([one for one in self._of("edit", "show", "retry", "clear") if one.maybe_done]):
            made = by_text.get(change.text) if change.kind == "edit" else None
            number = made.number if made else change.number if change.kind in ("show", "retry") else 0
            possible.append(number if number in self._stored else 0)
            if change.acknowledged:
                break
        else:
            possible.append(max(self.expected.base.path, default=0))
        self.checked["paths"] += 1
        if 0 not in possible and not set(possible) & set(stored.path):
            self._fault(f"shows a path without any of {possible}: {stored.path[:10]}")

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
        return [operation for operation in self._of("retry", "resume") if operation.maybe_done]

    def _fault(self, sentence: str) -> None:
        self.faults.append(f"room {self.expected.room} {sentence}")


def resets(operation: Operation, answer: int) -> bool:
    """Return whether a retry or resume changes the answer."""
    return operation.number in (0, answer)
