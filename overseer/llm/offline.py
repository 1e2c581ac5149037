"""The offline responder: scripted demo answers that stream, contain Markdown and use the tools.

With it, the app can be tried without an account, a key or a download.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable, Iterator, Sequence

from overseer.domain.context import ModelContext
from overseer.domain.messages import Message, ToolCall
from overseer.domain.tools import ToolDescription
from overseer.llm import Delta, ReasoningDelta, TextDelta, ToolRequest

HELP = """\
To use a real model, restart Overseer with one of these:

```sh
# Ollama: detected automatically
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
This is a scripted demo answer of the **offline responder**: no language model is connected. \
Your message was:

{quote}

{help}
You can try everything without one. Ask

- *what time is it?* or *roll a die with 20 sides* to see a tool call,
- for *a long answer*, and press **Stop** while it streams,
- anything in a second tab: both tabs show every word.
"""

PARAGRAPH = """\
## Part {n}

The answer streams word by word to every tab that shows this room. Stop ends it within a second and keeps \
what has arrived. If you close the tab, the answer continues.

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
    """A Model that follows a few rules and sends one word every `pace` seconds."""

    name = "offline responder"
    offline = True
    context = ModelContext()

    def __init__(self, *, pace: float = 0.02) -> None:
        self._pace = pace

    def note_prompt(self, *, estimated: int, counted: int) -> None:
        """Do nothing: this model counts no tokens."""

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
    """A Reply that waits between words. `close` ends the wait."""

    def __init__(self, deltas: Iterator[Delta], pace: float) -> None:
        self._deltas = deltas
        self._pace = pace
        self._closed = threading.Event()

    def __iter__(self) -> Iterator[Delta]:
        for delta in self._deltas:
            if self._closed.wait(self._pace):
                return
            yield delta

    def answers_ahead(self) -> int:
        return 0

    def close(self) -> None:
        self._closed.set()


def _deltas(history: Sequence[Message], tools: Iterable[ToolDescription]) -> Iterator[Delta]:
    question = next((m.text for m in reversed(history) if m.role == "user"), "")
    calls = [part for part in history[-1].parts if isinstance(part, ToolCall)] if history else []
    if calls:
        yield from _words("\n".join(_result_text(call) for call in calls))
    elif requests := list(_tool_requests(question, {tool.name for tool in tools})):
        for word in f"You asked for {' and '.join(request.name for request in requests)}.".split(" "):
            yield ReasoningDelta(word + " ")
        yield from requests
    elif re.search(r"\blong\b", question, re.I):
        parts = 12
        yield from _words(
            "# A long answer\n\n" + "".join(PARAGRAPH.format(n=n, parts=parts) for n in range(1, parts + 1))
        )
    else:
        quote = "\n".join("> " + line for line in question[:500].splitlines())
        yield from _words(ABOUT.format(quote=quote, help=HELP))


def _tool_requests(question: str, names: set[str]) -> Iterator[ToolRequest]:
    if re.search(r"\b(time|date|clock|day is it)\b", question, re.I) and "get_current_time" in names:
        yield ToolRequest("call-time", "get_current_time", "{}")
    if re.search(r"\b(roll|dice|die|d\d+)\b", question, re.I) and "roll_dice" in names:
        sides = re.search(r"\bd?(\d{1,4})\b", question)
        yield ToolRequest("call-roll", "roll_dice", json.dumps({"sides": int(sides[1])} if sides else {}))


def _result_text(call: ToolCall) -> str:
    if call.state != "done":
        return f"`{call.name}` did not work: {call.result}\n"
    if call.name == "get_current_time":
        return f"It is now **{call.result}** where this server runs.\n"
    return f"The die shows **{call.result}**.\n"


def _words(text: str) -> Iterator[Delta]:
    return (TextDelta(word) for word in re.findall(r"\s*\S+\s*?(?=\s|$)|\s+$", text))
