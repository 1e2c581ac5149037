"""The model: it answers each question with text that no other question gets, a few words at a time."""

from __future__ import annotations

import re
import threading
import zlib
from collections import defaultdict
from typing import Any

from overseer.llm.wire import GO_ON
from tests.crash.history import clock
from tests.support.model_server import ModelServer, Reply
from tests.support.streams import Streams

WORD_SECONDS = 0.008
BEGINNING = re.compile(r"a(\S+) g(\d+)")


def answer_words(question: str, attempt: int) -> list[str]:
    """Return the answer to the question `q…` when it is asked for the nth time, in the pieces in which it is sent."""
    token = question.split()[0][1:]
    seed = zlib.crc32(token.encode())
    count = 150 + seed % 200 if seed % 11 == 0 else 3 + seed % 60
    return [f"a{token} g{attempt}", *(f" w{n}" for n in range(count))]


def attempt_of(answer: str) -> int | None:
    """Return the number of the attempt that an answer names."""
    found = BEGINNING.match(answer)
    return int(found[2]) if found else None


def is_beginning(question: str, answer: str) -> bool:
    """Return whether the text is a beginning of an answer to the question."""
    attempt = attempt_of(answer)
    return not answer or (attempt is not None and "".join(answer_words(question, attempt)).startswith(answer))


class ScriptedModel:
    """Writes the replies of a model server. `asked` has the times at which each question came."""

    def __init__(self, model: ModelServer) -> None:
        self.asked: dict[str, list[float]] = defaultdict(list)
        self.faults: list[str] = []
        self._lock = threading.Lock()
        self._streams = Streams(WORD_SECONDS)
        model.otherwise = self.reply

    def reply(self, body: dict[str, Any]) -> Reply:
        """Begin the reply to a request."""
        contents = [str(message["content"]) for message in body["messages"]]
        with self._lock:
            if contents[-1] == GO_ON:
                pieces = self._rest(contents[-3].split("\n\n")[-1], contents[-2])
            else:
                question = contents[-1].split("\n\n")[-1]
                self.asked[question].append(clock())
                pieces = answer_words(question, len(self.asked[question]) - 1)
        return self._streams.add(pieces)

    def close(self) -> None:
        self._streams.close()

    def _rest(self, question: str, answer: str) -> list[str]:
        attempt = attempt_of(answer)
        if attempt is None or not is_beginning(question, answer):
            self.faults.append(f"the model was asked to continue {answer[:200]!r} as the answer to {question!r}")
            return [" ?"]
        return answer_words(question, attempt)[answer.count(" ") :]  # the first piece has two words
