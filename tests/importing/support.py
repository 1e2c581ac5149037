"""What tests of readers use: files of an export, and mutations of its values."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from hypothesis import strategies as st

from overseer.importing.conversations import Attachment, Conversation, Node, ToolResult, Unreadable
from overseer.importing.values import identifier


class MemoryFiles:
    """The files of an export, by their names."""

    def __init__(self, contents: Mapping[str, bytes] | None = None, json: Mapping[str, object] | None = None) -> None:
        self._contents, self._json = dict(contents or {}), dict(json or {})

    def find(self, name: str) -> Callable[[], bytes] | None:
        """Return what reads the file with this name, or whose name begins with it."""
        found = next((key for key in sorted(self._contents) if key == name or key.startswith(name)), None)
        return None if found is None else lambda: self._contents[found]

    def json(self, name: str) -> object:
        """Return the content of a JSON file."""
        return self._json.get(name)


NO_FILES = MemoryFiles()
STRANGE: st.SearchStrategy[Any] = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        -1,
        1.5,
        float("inf"),
        10**400,
        10**5000,
        "",
        "x",
        "\ud800\x00",
        "\ue200cite\ue202x\ue201",
        [],
        {},
    ]
    + [[None, 1, "x", {}], {"a": {"b": [1]}}, [[[["x"]]]], {"text": {"text": 1}}, "9" * 400, "【1†x】", "a" * 5000]
)


def paths_of(value: object) -> list[tuple[str | int, ...]]:
    """Return the path of each value within a value."""
    found: list[tuple[str | int, ...]] = []
    left: list[tuple[tuple[str | int, ...], object]] = [((), value)]
    while left:
        path, one = left.pop()
        if path:
            found.append(path)
        pairs = one.items() if isinstance(one, dict) else enumerate(one) if isinstance(one, list) else ()
        left.extend(((*path, key), inner) for key, inner in pairs)
    return found


@st.composite
def mutations(draw: st.DrawFn, item: Mapping[str, Any]) -> dict[str, Any]:
    """Draw the item with some of its values replaced or removed."""
    mutated: Any = copy.deepcopy(item)
    for _ in range(draw(st.integers(1, 4))):
        paths = paths_of(mutated)
        if not paths:
            break
        *way, last = draw(st.sampled_from(sorted(paths, key=repr)))
        at = mutated
        for key in way:
            at = at[key]
        if isinstance(at, dict) and draw(st.booleans()):
            del at[last]
        else:
            at[last] = copy.deepcopy(draw(STRANGE))
    return dict(mutated)


def check_reader(reader: ModuleType, item: Mapping[str, Any], files: MemoryFiles = NO_FILES) -> None:
    """Check that a reader makes a usable conversation of any value, or says why it does not."""
    reader.recognizes(item)
    try:
        conversation = reader.read(item, files)
    except Unreadable as error:
        assert str(error)
        return
    assert isinstance(conversation, Conversation)
    assert identifier(conversation.source)
    for node in conversation.nodes:
        assert isinstance(node.id, str)
        assert node.parent is None or isinstance(node.parent, str)
        for part in node.parts:
            if isinstance(part, Attachment) and part.read is not None:
                try:
                    assert isinstance(part.read(), bytes)
                except Unreadable:
                    continue
            elif isinstance(part, Attachment):
                assert isinstance(part.name, str)
            else:
                assert isinstance(part.text if not hasattr(part, "arguments") else part.arguments, str)


def shown(conversation: Conversation) -> list[Node]:
    """Return the nodes that are not hidden."""
    return [node for node in conversation.nodes if not node.hidden]


def node_of(conversation: Conversation, node_id: str) -> Node:
    """Return the node with this id."""
    return next(node for node in conversation.nodes if node.id == node_id)


def result_of(node: Node) -> ToolResult:
    """Return the first result of a tool in a node."""
    return next(part for part in node.parts if isinstance(part, ToolResult))
