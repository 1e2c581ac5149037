"""Conversations and tools in the format of OpenAI's API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from overseer.domain.messages import Message, Reasoning, Text, ToolCall
from overseer.domain.tools import ToolDescription

TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ENDED_NOTE = "(This answer was ended here.)"
GO_ON = "Your answer was cut off. Go on exactly where it stopped: no repetition, no introduction."


def conversation(
    messages: Sequence[Message],
    *,
    system: str = "",
    tools: bool = True,
    system_role: bool = True,
    reasoning: bool = False,
) -> Iterator[Mapping[str, object]]:
    """Yield the system prompt and the messages for the API. An answer that used tools becomes one message per step.

    Without `tools`, calls and results become text. Without `system_role`, the first question begins with the system
    prompt. With `reasoning`, each answer includes its reasoning. If the last answer was cut off within its text, a
    user message asks to continue it. An earlier answer that ends with tool results gets a closing message, since
    strict servers reject a question after a result.
    """
    if system and system_role:
        yield {"role": "system", "content": system}
    # Consecutive questions are joined: strict models require that user and assistant messages alternate.
    questions = [system] if system and not system_role else []
    for message in messages:
        if message.role == "user":
            questions.append(message.text)
        elif steps := list(_steps(message, tools=tools, reasoning=reasoning)):
            yield {"role": "user", "content": "\n\n".join(questions)}
            yield from steps
            if steps[-1]["role"] == "tool" and message is not messages[-1]:
                yield {"role": "assistant", "content": ENDED_NOTE}
            questions = []
    if _is_cut_off(messages[-1:], tools=tools):
        questions.append(GO_ON)
    if questions:
        yield {"role": "user", "content": "\n\n".join(questions)}


def _is_cut_off(last: Sequence[Message], *, tools: bool) -> bool:
    """Return whether the last message is an answer to continue, other than by sending the results of tools."""
    parts = [part for message in last if message.role == "assistant" for part in message.parts[-1:]]
    return bool(parts) and not (tools and isinstance(parts[0], ToolCall))


def _steps(message: Message, *, tools: bool, reasoning: bool) -> Iterator[Mapping[str, object]]:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for part in (*message.parts, None):
        if calls and not isinstance(part, ToolCall):
            step = {"tool_calls": [_call(call) for call in calls], **_reasoning(thoughts, reasoning)}
            yield {"role": "assistant", "content": "\n\n".join(texts), **step}
            yield from ({"role": "tool", "tool_call_id": c.call_id, "content": c.result} for c in calls)
            texts, calls, thoughts = [], [], []
        if isinstance(part, Text):
            texts.append(part.text)
        elif isinstance(part, Reasoning):
            thoughts.append(part.text)
        elif isinstance(part, ToolCall) and tools:
            calls.append(part)
        elif isinstance(part, ToolCall):
            texts.append(part.in_brackets)
    if texts:
        yield {"role": "assistant", "content": "\n\n".join(texts), **_reasoning(thoughts, reasoning)}


def _reasoning(thoughts: Sequence[str], wanted: bool) -> dict[str, object]:
    return {"reasoning_content": "\n\n".join(thoughts)} if wanted else {}


def _call(call: ToolCall) -> dict[str, object]:
    # Servers parse both fields, and would reject the whole conversation because of one invalid call.
    name = call.name if TOOL_NAME.fullmatch(call.name) else "unknown_tool"
    return {"id": call.call_id, "type": "function", "function": {"name": name, "arguments": _arguments(call)}}


def _arguments(call: ToolCall) -> str:
    try:
        return call.arguments if isinstance(json.loads(call.arguments), dict) else "{}"
    except (ValueError, RecursionError):
        return "{}"


def tool_schema(tool: ToolDescription) -> dict[str, object]:
    """Return a tool in the format of the API."""
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}
