"""Conversations and tools in the format of OpenAI's API, as the strictest servers require them.

After the system prompt, user and assistant messages alternate and the first one is the user's. The results of tools
follow the message that called them. No content is blank. Call ids have nine letters or digits, as Mistral's API and
chat templates require.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count

from overseer.domain.messages import File, Message, Text, ToolCall
from overseer.domain.tools import ToolDescription
from overseer.llm.call_extras import SIGNATURE_IN_ID, extras_for

Json = dict[str, object]

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
CALL_ID = re.compile(r"[A-Za-z0-9]{9}")
ENDED_NOTE = "(This answer was ended here.)"
OPENING_NOTE = "(The conversation before this answer was left out.)"
NO_RESULT = "(no result)"
GO_ON = "Your answer was cut off. Go on exactly where it stopped: no repetition, no introduction."


@dataclass(slots=True)
class _Step:
    """What the assistant said at once: texts, reasoning, and then calls with their results."""

    texts: list[str] = field(default_factory=list)
    thoughts: list[str] = field(default_factory=list)
    calls: list[ToolCall] = field(default_factory=list)


def conversation(
    messages: Sequence[Message],
    *,
    model: str = "",
    system: str = "",
    tools: bool = True,
    system_role: bool = True,
    reasoning: bool = False,
) -> Iterator[Mapping[str, object]]:
    """Yield the system prompt and the messages for the API. An answer that used tools becomes one message per step.

    `model` is the model that is asked: only it gets back the extra fields of its calls. Without `tools`, calls and
    results become text. Without `system_role`, the first question begins with the system prompt. With `reasoning`,
    each answer includes its reasoning. If the conversation ends within the text of an answer, a user message asks to
    continue it. Between the result of a tool and a question there is a closing message of the assistant.
    """
    system = system if system.strip() else ""
    if system and system_role:
        yield {"role": "system", "content": system}
    ids = _CallIds(model)
    previous: str | _Step | None = None
    for turn in _alternating(messages, "" if system_role else system, tools=tools):
        if isinstance(turn, str):
            if isinstance(previous, _Step) and previous.calls:
                yield {"role": "assistant", "content": ENDED_NOTE}
            yield {"role": "user", "content": turn}
        else:
            yield from _step_messages(turn, ids, reasoning=reasoning)
        previous = turn


def _alternating(messages: Sequence[Message], system: str, *, tools: bool) -> Iterator[str | _Step]:
    """Yield questions and steps. Neighbours of one kind are merged, except after the results of tools."""
    question = system
    step: _Step | None = None
    begun = False
    for turn in _turns(messages, tools=tools):
        if isinstance(turn, str):
            if step is not None:
                yield step
                step = None
            question = "\n\n".join(filter(None, (question, turn)))
            continue
        if step is None:
            if question or not begun:
                yield question or OPENING_NOTE
            step, question, begun = turn, "", True
        elif step.calls:
            yield step
            step = turn
        else:
            step.texts += turn.texts
            step.thoughts += turn.thoughts
            step.calls = turn.calls
    if step is not None:
        yield step
        question = "" if step.calls else GO_ON
    if question or not begun:
        yield question or OPENING_NOTE


def _turns(messages: Sequence[Message], *, tools: bool) -> Iterator[str | _Step]:
    """Yield the text of each question and the steps of each answer, without those that are blank."""
    for message in messages:
        if message.role == "assistant":
            yield from _steps(message, tools=tools)
        elif message.text.strip():
            yield message.text


def _steps(message: Message, *, tools: bool) -> Iterator[_Step]:
    step = _Step()
    for part in message.parts:
        if step.calls and not isinstance(part, ToolCall):
            yield step
            step = _Step()
        if isinstance(part, ToolCall) and tools:
            step.calls.append(part)
        elif isinstance(part, ToolCall | File):
            step.texts.append(part.in_brackets)
        elif part.text.strip():
            (step.texts if isinstance(part, Text) else step.thoughts).append(part.text)
    if step.texts or step.calls:
        yield step


def _step_messages(step: _Step, ids: _CallIds, *, reasoning: bool) -> Iterator[Json]:
    # Without text the content is null: DeepSeek requires the field, and others reject an empty text.
    message: Json = {"role": "assistant", "content": "\n\n".join(step.texts) or None}
    if reasoning:
        message["reasoning_content"] = "\n\n".join(step.thoughts)
    if step.calls:
        message["tool_calls"] = calls = [_call(call, ids) for call in step.calls]
        results = [call.result if call.result.strip() else NO_RESULT for call in step.calls]
        yield message
        for call, result in zip(calls, results, strict=True):
            yield {"role": "tool", "tool_call_id": call["id"], "content": result}
    else:
        yield message


class _CallIds:
    """Assigns each call of a conversation an id of its own. The same conversation gets the same ids."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._taken: set[str] = set()

    def assign(self, call_id: str, *, keep: bool) -> str:
        """Return the id that is sent for a call: its own if `keep` or if every server accepts it."""
        own = [call_id] if keep or CALL_ID.fullmatch(call_id) else []
        found = next(one for one in chain(own, _other_ids(call_id)) if one not in self._taken)
        self._taken.add(found)
        return found


def _other_ids(call_id: str) -> Iterator[str]:
    for number in count():
        yield hashlib.sha256(f"{number} {call_id}".encode(errors="replace")).hexdigest()[:9]


def _call(call: ToolCall, ids: _CallIds) -> Json:
    # Servers parse both fields, and would reject the whole conversation because of one invalid call.
    name = call.name if TOOL_NAME.fullmatch(call.name) else "unknown_tool"
    extras = extras_for(ids.model, call.extra)
    call_id = ids.assign(call.call_id, keep=extras.keep_id and SIGNATURE_IN_ID in call.call_id)
    function = {**extras.function, "name": name, "arguments": _arguments(call)}
    return {**extras.call, "id": call_id, "type": "function", "function": function}


def _arguments(call: ToolCall) -> str:
    """Return the arguments if they are an object that any JSON parser reads, else an empty object."""
    try:
        value = json.loads(call.arguments)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # neither infinite numbers nor lone surrogates
    except (ValueError, RecursionError):
        return "{}"
    return call.arguments if isinstance(value, dict) else "{}"


def tool_schema(tool: ToolDescription) -> Json:
    """Return a tool in the format of the API."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
