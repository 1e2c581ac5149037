"""Damage an export at random places, and check what a reader makes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, get_args

from hypothesis import strategies as st

from overseer.domain.messages import Reasoning, State, Text, ToolCall
from overseer.importing.conversations import Attachment, Conversation, Role, ToolResult, Unreadable

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAsTj2FAAAAABJRU5ErkJggg=="
PICTURE = f"data:image/png;base64,{PIXEL}"


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


DAMAGE: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5e308,
    10**400,
    "",
    "x",
    "\ud800",
    "0",
    "9" * 400,
    "2026-02-30T25:00:00Z",
    "data:;base64,%%%",
    "data:",
    "[" * 3000,
    '[{"function": 1}]',
    '<details type="reasoning" duration="x">',
    [],
    {},
    ["x", None, 1, [], {}],
    {"type": "x", "text": {"value": []}},
    {"type": "tool_call", "id": [], "arguments": [{}]},
    _nested(200),
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return the containers and keys of all values within a value."""
    found, stack = [], [value]
    while stack:
        one = stack.pop()
        keys = list(one) if isinstance(one, dict) else list(range(len(one))) if isinstance(one, list) else []
        found += [(one, key) for key in keys]
        stack += [one[key] for key in keys]
    return found


@st.composite
def damaged(draw: st.DrawFn, original: Any) -> Any:
    """Return a copy in which some values are replaced, or missing."""
    value = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 4))):
        if not (found := places(value)):
            break
        container, key = found[draw(st.integers(0, len(found) - 1))]
        if isinstance(container, dict) and draw(st.integers(0, 5)) == 0:
            del container[key]
        else:
            container[key] = copy.deepcopy(draw(st.sampled_from(DAMAGE)))
    return value


class NoFiles:
    """An export that is one file."""

    def find(self, name: str) -> Callable[[], bytes] | None:
        return None

    def json(self, name: str) -> object:
        return None


class SomeFiles:
    """An export with other files."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents

    def find(self, name: str) -> Callable[[], bytes] | None:
        return (lambda: self._contents[name]) if name in self._contents else None

    def json(self, name: str) -> object:
        return None


def check(conversation: Conversation) -> None:
    """Assert that all values are of the types that are promised."""
    assert isinstance(conversation.source, str) and ":" in conversation.source
    assert isinstance(conversation.title, str) and isinstance(conversation.system_prompt, str)
    assert isinstance(conversation.model, str) and isinstance(conversation.head, str | None)
    assert isinstance(conversation.pinned, bool) and isinstance(conversation.archived, bool)
    assert isinstance(conversation.temperature, float | None)
    for time in (conversation.created_at, conversation.updated_at):
        assert isinstance(time, int | None)
    for node in conversation.nodes:
        assert isinstance(node.id, str) and node.id and isinstance(node.parent, str | None)
        assert node.role in get_args(Role) and node.state in get_args(State)
        assert isinstance(node.reason, str) and isinstance(node.model, str)
        assert isinstance(node.created_at, int | None) and isinstance(node.ended_at, int | None)
        for part in node.parts:
            check_part(part)
        for source in node.sources:
            assert isinstance(source.url, str) and isinstance(source.title, str)


def check_part(part: object) -> None:
    if isinstance(part, Text | Reasoning):
        assert isinstance(part.text, str)
        assert "\x00" not in part.text and not any("\ud800" <= one <= "\udfff" for one in part.text)
    elif isinstance(part, ToolCall):
        assert isinstance(part.call_id, str) and part.name and isinstance(part.name, str)
        assert isinstance(part.arguments, str)
    elif isinstance(part, ToolResult):
        assert isinstance(part.call_id, str) and isinstance(part.name, str) and isinstance(part.text, str)
        assert isinstance(part.failed, bool)
    else:
        assert isinstance(part, Attachment)
        assert isinstance(part.name, str) and part.name and isinstance(part.media_type, str)
        assert isinstance(part.text, str)
        if part.read is not None:
            with suppress(Unreadable):
                assert isinstance(part.read(), bytes)
