"""The built-in responder: no language model, but it streams, writes Markdown and uses the tools.

It lets the whole app be tried with no account, no key and no download.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence

from overseer.domain.messages import Message, ToolCall
from overseer.domain.tools import ToolDescription
from overseer.llm import Delta, ReasoningDelta, TextDelta, ToolRequest

HELP = """\
To talk to a real one, stop the server and start it again with one of these:

```sh
# Ollama: nothing to set, it is found by itself
ollama run llama3.2

# llama.cpp
OPENAI_BASE_URL=http://127.0.0.1:8080/v1 make run

# OpenAI
OPENAI_API_KEY=… OPENAI_MODEL=gpt-4o-mini make run

# OpenRouter
OPENAI_BASE_URL=https://openrouter.ai/api/v1 OPENAI_API_KEY=… OPENAI_MODEL=… make run
```
"""

ABOUT = """\
This is the **offline responder**: no language model is connected, so nobody read your question. \
It came through well, though:

{quote}

{help}
Until then you can try everything here. Ask me

- *what time is it?* or *roll a die with 20 sides* to see a tool at work,
- for *a long answer*, and press **Stop** while it grows,
- anything else, from a second tab: both see every word.
"""

PARAGRAPH = """\
## Part {n}

Words arrive one at a time, and every tab that shows this room gets each of them. Stop ends this within a \
second and keeps what was said; close the tab and it goes on without you.

| measured | here |
|---|---:|
| part | {n} of {parts} |
| rooms in this file | 1 |

```python
def part(n: int) -> str:
    return f"part {{n}} of {parts}"
```

"""


class OfflineResponder:
    """A Model that answers from a few rules, one word every `pace` seconds."""

    name = "offline responder"
    offline = True

    def __init__(self, *, pace: float = 0.02) -> None:
        self._pace = pace

    def answer(
        self,
        history: Sequence[Message],
        tools: Iterable[ToolDescription],
        *,
        system: str = "",
        temperature: float | None = None,
    ) -> OfflineReply:
        return OfflineReply(_deltas(history, tools), self._pace)


class OfflineReply:
    """A Reply that waits between words, and wakes at once when it is closed."""

    def __init__(self, deltas: Iterator[Delta], pace: float) -> None:
        self._deltas = deltas
        self._pace = pace
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Delta]:
        for delta in self._deltas:
            if self._closed.wait(self._pace):
                return
            yield delta

    def close(self) -> None:
        self._closed.set()


def _deltas(history: Sequence[Message], tools: Iterable[ToolDescription]) -> Iterator[Delta]:
    question = next((m.text for m in reversed(history) if m.role == "user"), "")
    calls = [part for part in history[-1].parts if isinstance(part, ToolCall)] if history else []
    if calls:
        yield from _words("\n".join(_told(call) for call in calls))
    elif wanted := list(_wanted(question, {tool.name for tool in tools})):
        for word in f"You asked for {' and '.join(request.name for request in wanted)}.".split(" "):
            yield ReasoningDelta(word + " ")
        yield from wanted
    elif re.search(r"\blong\b", question, re.I):
        parts = 12
        yield from _words(
            "# A long answer\n\n" + "".join(PARAGRAPH.format(n=n, parts=parts) for n in range(1, parts + 1))
        )
    else:
        quote = "\n".join("> " + line for line in question[:500].splitlines())
        yield from _words(ABOUT.format(quote=quote, help=HELP))


def _wanted(question: str, names: set[str]) -> Iterator[ToolRequest]:
    if re.search(r"\b(time|date|clock|day is it)\b", question, re.I) and "get_current_time" in names:
        yield ToolRequest("call-time", "get_current_time", "{}")
    if re.search(r"\b(roll|dice|die|d\d+)\b", question, re.I) and "roll_dice" in names:
        sides = re.search(r"\bd?(\d{1,4})\b", question)
        yield ToolRequest("call-roll", "roll_dice", json.dumps({"sides": int(sides[1])} if sides else {}))


def _told(call: ToolCall) -> str:
    if call.state != "done":
        return f"`{call.name}` did not work: {call.result}\n"
    if call.name == "get_current_time":
        return f"It is now **{call.result}** where this server runs.\n"
    return f"The die shows **{call.result}**.\n"


def _words(text: str) -> Iterator[Delta]:
    return (TextDelta(word) for word in re.findall(r"\s*\S+\s*?(?=\s|$)|\s+$", text))
