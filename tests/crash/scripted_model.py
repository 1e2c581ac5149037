"""The model of the load: it answers each question with words that no other question gets, a few at a time."""

from __future__ import annotations

import re
import threading
import zlib
from collections import defaultdict
from typing import Any

from overseer.llm.wire import GO_ON
from tests.crash.log import clock
from tests.support.model_server import ModelServer, Reply, end, held, text

TICK = 0.008  # seconds between two words
BEGINNING = re.compile(r"a(\S+) g(\d+)")


def words(question: str, generation: int) -> list[str]:
    """The whole answer that the question `q…` gets when it is asked for the nth time, in the pieces it comes in."""
    token = question.split()[0][1:]
    luck = zlib.crc32(token.encode())
    count = 150 + luck % 200 if luck % 11 == 0 else 3 + luck % 60
    return [f"a{token} g{generation}", *(f" w{n}" for n in range(count))]


def generation_of(answer: str) -> int | None:
    """Which time of asking an answer comes from; None if it does not say."""
    found = BEGINNING.match(answer)
    return int(found[2]) if found else None


def begins_answer(question: str, answer: str) -> bool:
    """Whether this is the answer to that question as far as it goes."""
    generation = generation_of(answer)
    return not answer or (generation is not None and "".join(words(question, generation)).startswith(answer))


class ScriptedModel:
    """Gives the stand-in server its voice. `asked` is when each question came, time after time."""

    def __init__(self, model: ModelServer) -> None:
        self.asked: dict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._singing: list[tuple[Reply, list[str]]] = []
        self._over = threading.Event()
        model.otherwise = self.begin
        self._thread = threading.Thread(target=self._sing, daemon=True)
        self._thread.start()

    def begin(self, body: dict[str, Any]) -> Reply:
        """The reply to a request, still to be said."""
        reply = held()
        said = [str(message["content"]) for message in body["messages"]]
        with self._lock:
            if said[-1] == GO_ON:
                pieces = self._rest(said[-3].split("\n\n")[-1], said[-2])
            else:
                question = said[-1].split("\n\n")[-1]
                self.asked[question].append(clock())
                pieces = words(question, len(self.asked[question]) - 1)
            self._singing.append((reply, pieces[::-1]))
        return reply

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _rest(self, question: str, said: str) -> list[str]:
        if not begins_answer(question, said):
            self.faults.append(f"to go on with, the model was sent {said[:200]!r} as the answer to {question!r}")
            return [" ?"]
        generation = generation_of(said)
        assert generation is not None
        whole = words(question, generation)
        return whole[said.count(" ") :]  # its first piece is of two words

    def _sing(self) -> None:
        while not self._over.wait(TICK):
            with self._lock:
                singing = self._singing = [(reply, left) for reply, left in self._singing if not reply.closed.is_set()]
            for reply, left in singing:
                if left:
                    reply.say(text(left.pop()))
                else:
                    reply.say(end())
                    reply.hang_up()
                    reply.closed.set()
