"""How OpenAI's API wants a conversation and its tools written."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from overseer.domain.messages import Message, Reasoning, Text, ToolCall
from overseer.domain.tools import ToolDescription

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ENDED = "(This answer was ended here.)"
GO_ON = "Your answer was cut off. Go on exactly where it stopped: no repetition, no introduction."


def conversation(
    messages: Sequence[Message],
    *,
    system: str = "",
    tools: bool = True,
    system_role: bool = True,
    thoughts: bool = False,
) -> Iterator[Mapping[str, object]]:
    """The system prompt and the messages as the API wants them: an answer that used tools becomes one per step.

    Without `tools` what they gave is told in words; without `system_role` the first question begins with the prompt.
    With `thoughts` each answer says what was thought before it, too. A last answer that broke off in mid-text is asked
    to go on. An earlier one that ended with the results of tools gets a closing word, since strict servers take no
    question after them.
    """
    if system and system_role:
        yield {"role": "system", "content": system}
    # Questions that nothing was answered to: strict models want one user message at a time.
    asked = [system] if system and not system_role else []
    for message in messages:
        if message.role == "user":
            asked.append(message.text)
        elif steps := list(_steps(message, tools=tools, thoughts=thoughts)):
            yield {"role": "user", "content": "\n\n".join(asked)}
            yield from steps
            if steps[-1]["role"] == "tool" and message is not messages[-1]:
                yield {"role": "assistant", "content": ENDED}
            asked = []
    if _broke_off(messages[-1:], tools=tools):
        asked.append(GO_ON)
    if asked:
        yield {"role": "user", "content": "\n\n".join(asked)}


def _broke_off(last: Sequence[Message], *, tools: bool) -> bool:
    """Whether an answer is to be gone on with, other than by the results of tools."""
    parts = [part for message in last if message.role == "assistant" for part in message.parts[-1:]]
    return bool(parts) and not (tools and isinstance(parts[0], ToolCall))


def _steps(message: Message, *, tools: bool, thoughts: bool) -> Iterator[Mapping[str, object]]:
    said: list[str] = []
    thought: list[str] = []
    calls: list[ToolCall] = []
    for part in (*message.parts, None):
        if calls and not isinstance(part, ToolCall):
            step = {"tool_calls": [_call(call) for call in calls], **_thought(thought, thoughts)}
            yield {"role": "assistant", "content": "\n\n".join(said), **step}
            yield from ({"role": "tool", "tool_call_id": c.call_id, "content": c.result} for c in calls)
            said, calls, thought = [], [], []
        if isinstance(part, Text):
            said.append(part.text)
        elif isinstance(part, Reasoning):
            thought.append(part.text)
        elif isinstance(part, ToolCall) and tools:
            calls.append(part)
        elif isinstance(part, ToolCall):
            said.append(part.in_brackets)
    if said:
        yield {"role": "assistant", "content": "\n\n".join(said), **_thought(thought, thoughts)}


def _thought(thought: Sequence[str], wanted: bool) -> dict[str, object]:
    return {"reasoning_content": "\n\n".join(thought)} if wanted else {}


def _call(call: ToolCall) -> dict[str, object]:
    # Servers parse both, and would refuse the whole conversation for what one model once got wrong.
    name = call.name if TOOL_NAME.fullmatch(call.name) else "unknown_tool"
    return {"id": call.call_id, "type": "function", "function": {"name": name, "arguments": _arguments(call)}}


def _arguments(call: ToolCall) -> str:
    try:
        return call.arguments if isinstance(json.loads(call.arguments), dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"


def schema(tool: ToolDescription) -> dict[str, object]:
    """A tool as the API wants to hear of it."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
