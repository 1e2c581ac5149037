"""What the strictest model servers require of a request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest


def assert_legal(messages: Sequence[Mapping[str, Any]]) -> None:
    """Assert what the strictest servers require of the messages of a request."""
    rest = messages[messages[0]["role"] == "system" :]
    assert all(message["role"] in ("user", "assistant", "tool") for message in rest)
    assert all(message["content"].strip() for message in messages if message["role"] != "assistant")
    assert rest and rest[0]["role"] == "user" and rest[-1]["role"] in ("user", "tool")
    waiting: list[str] = []  # ids of calls that have no result yet
    ids: list[str] = []
    before = ""
    for message in rest:
        role, calls = message["role"], message.get("tool_calls")
        if role == "tool":
            assert before in ("tool", "assistant") and message["tool_call_id"] == waiting.pop(0)
        else:
            assert not waiting
            assert role == ("assistant" if before in ("user", "tool") else "user")
        assert message["content"].strip() if message["content"] is not None else calls
        assert calls is None or calls
        for call in calls or ():
            ids.append(call["id"])
            waiting.append(call["id"])
            assert re.fullmatch(r"[A-Za-z0-9]{9}|\w+__thought__[\w=]+", call["id"]) and call["type"] == "function"
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", call["function"]["name"])
            arguments = json.loads(call["function"]["arguments"], parse_constant=lambda name: pytest.fail(name))
            assert isinstance(arguments, dict)
        before = role
    assert not waiting and len(set(ids)) == len(ids)
    json.dumps(messages, allow_nan=False)
