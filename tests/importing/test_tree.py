"""The nodes of a conversation become the messages of a room."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from overseer.domain.messages import File, Message, Part, Reasoning, Text, ToolCall
from overseer.domain.text import NEW_ROOM
from overseer.importing import tree
from overseer.importing.conversations import Attachment, Content, Conversation, Node, Role, ToolResult, Unreadable
from overseer.importing.tree import CIRCLE, NO_ANSWER, NO_QUESTION, NO_RESULT, new_room
from overseer.storage import message_tree, room_rows
from overseer.storage.new_room import NewRoom
from overseer.storage.room_writer import RoomWriter
from tests.support.pictures import GIF

IDS = st.sampled_from("abcdefghij")
NODES = st.lists(
    st.builds(
        Node,
        id=IDS,
        parent=st.none() | IDS | st.just("unknown"),
        role=st.sampled_from(["user", "assistant", "assistant", "tool", "system"]),
        parts=st.lists(
            st.builds(Text, st.sampled_from(["one", "two", " "]))
            | st.builds(ToolCall, st.sampled_from(["", "c1"]), st.just("f"), st.just("{}"))
            | st.builds(ToolResult, st.sampled_from(["", "c1"]), st.sampled_from(["", "f"]), st.just("done")),
            max_size=2,
        ),
        created_at=st.none() | st.integers(1, 9),
        hidden=st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


def node(name: str, parent: str | None, role: Role, *parts: Content | str, **more: object) -> Node:
    texts: list[Content] = [Text(part) if isinstance(part, str) else part for part in parts]
    return Node(name, parent, role, texts, **more)  # type: ignore[arg-type]


def room_of(*nodes: Node, **more: object) -> NewRoom:
    return new_room(Conversation("test:1", nodes=list(nodes), **more))[0]  # type: ignore[arg-type]


def outline(room: NewRoom) -> list[tuple[int, int | None, str, str]]:
    """Return each message as number, parent, role and words."""
    return [(one.number, one.parent, one.role, one.text or one.reason) for one in room.messages]


def parts_of(*contents: Content) -> Sequence[Part]:
    return room_of(node("a", None, "user", "Hi"), node("b", "a", "assistant", *contents)).messages[1].parts


def test_exchange_becomes_a_question_and_an_answer() -> None:
    room = room_of(
        node("a", None, "user", "Hi", created_at=10),
        node("b", "a", "assistant", "Hello", created_at=20, ended_at=30, model="m"),
        title="A  title",
        created_at=5,
    )
    assert outline(room) == [(1, None, "user", "Hi"), (2, 1, "assistant", "Hello")]
    assert room.messages[1] == Message(
        2, "assistant", "complete", (Text("Hello"),), model="m", created_at=20, ended_at=30, parent=1
    )
    assert (room.name, room.created_at, room.head, room.sources) == ("A title", 5, 2, {1: "a", 2: "b"})


def test_room_without_a_title_is_named_after_its_first_question() -> None:
    assert room_of(node("a", None, "user", "**Hi** there")).name == "Hi there"
    assert room_of(node("a", None, "assistant", "Hi"), title="\u200b").name == NO_QUESTION.strip()
    assert room_of(node("a", None, "user", Attachment("x.pdf")), title=" ").name == "[file: x.pdf]"
    assert room_of(node("a", None, "user", "```"), title=" ").name == NEW_ROOM


def test_nodes_of_assistant_and_tools_become_one_answer() -> None:
    room = room_of(
        node("a", None, "user", "What is 6 × 7?"),
        node("b", "a", "assistant", Reasoning("Let me see"), ToolCall("c", "python", '{"code": "6*7"}'), model="m"),
        node("t", "b", "tool", ToolResult("c", "python", "42")),
        node("d", "t", "assistant", "It is 42."),
    )
    assert room.messages[1].parts == (
        Reasoning("Let me see"),
        ToolCall("c", "python", '{"code": "6*7"}', "42", "done"),
        Text("It is 42."),
    )
    assert (room.messages[1].model, room.sources[2]) == ("m", "d")


def test_result_goes_to_its_call_by_id_then_by_name_then_to_the_last() -> None:
    calls = [ToolCall("c1", "f", "{}"), ToolCall("c2", "g", "{}"), ToolCall("", "h", "{}")]
    found = parts_of(
        *calls, ToolResult("c1", "", "1"), ToolResult("", "g", "2", failed=True), ToolResult("", "other", "3")
    )
    assert [(part.result, part.state) for part in found if isinstance(part, ToolCall)] == [
        ("1", "done"),
        ("2", "failed"),
        ("3", "done"),
    ]
    assert parts_of(calls[0]) == (ToolCall("c1", "f", "{}", NO_RESULT, "abandoned"),)
    assert parts_of(ToolResult("c9", "f", "alone")) == (ToolCall("c9", "f", "{}", "alone", "done"),)


def test_missing_questions_and_answers_are_named() -> None:
    room = room_of(
        node("a", None, "assistant", "Welcome"),
        node("b", "a", "user", "One"),
        node("c", "b", "user", "Two"),
    )
    assert outline(room) == [
        (1, None, "user", NO_QUESTION),
        (2, 1, "assistant", "Welcome"),
        (3, 2, "user", "One"),
        (4, 3, "assistant", NO_ANSWER),
        (5, 4, "user", "Two"),
        (6, 5, "assistant", NO_ANSWER),
    ]
    assert room.sources == {2: "a", 3: "b", 5: "c"}
    assert new_room(Conversation("x", nodes=[node("a", None, "user", "Hi")]))[1] == 1


def test_branches_become_versions_and_the_head_is_kept() -> None:
    nodes = [
        node("q", None, "user", "Q", created_at=1),
        node("a1", "q", "assistant", "A1", created_at=2),
        node("q2", "a1", "user", "Q2", created_at=3),
        node("b", "q2", "assistant", "B", created_at=4),
        node("a2", "q", "assistant", "A2", created_at=9),
    ]
    room = room_of(*nodes, head="b")
    assert outline(room) == [
        (1, None, "user", "Q"),
        (2, 1, "assistant", "A1"),
        (3, 2, "user", "Q2"),
        (4, 3, "assistant", "B"),
        (5, 1, "assistant", "A2"),
    ]
    assert room.head == 4
    assert room_of(*nodes).head == 5  # the newest
    assert room_of(*nodes, head="q2").head == 4
    assert room_of(*nodes, head="nowhere").head == 5


def test_answer_that_branches_is_told_from_its_beginning_in_each_version() -> None:
    room = room_of(
        node("q", None, "user", "Q"),
        node("call", "q", "assistant", ToolCall("c", "f", "{}")),
        node("result", "call", "tool", ToolResult("c", "f", "42")),
        node("one", "result", "assistant", "One"),
        node("two", "result", "assistant", "Two"),
    )
    call = ToolCall("c", "f", "{}", "42", "done")
    assert [one.parts for one in room.messages[1:]] == [(call, Text("One")), (call, Text("Two"))]
    assert [one.parent for one in room.messages[1:]] == [1, 1]


def test_answer_that_goes_on_beside_a_question_goes_on_after_a_placeholder() -> None:
    room = room_of(
        node("q", None, "user", "Q"),
        node("a", "q", "assistant", "A"),
        node("q2", "a", "user", "Q2"),
        node("more", "a", "assistant", "More"),
    )
    assert (3, 2, "user", "Q2") in outline(room)
    number = next(number for number, _, _, words in outline(room) if words == NO_QUESTION)
    assert (number, 2, "user", NO_QUESTION) in outline(room)
    assert any(parent == number and words == "More" for _, parent, _, words in outline(room))


def test_hidden_and_empty_nodes_are_left_out_and_system_nodes_become_the_system_prompt() -> None:
    room = room_of(
        node("root", None, "system"),
        node("s", "root", "system", "Be brief."),
        node("h", "s", "user", "hidden", hidden=True),
        node("q", "h", "user", "Q"),
        node("empty", "q", "assistant"),
        node("a", "empty", "assistant", "A"),
        node("s2", "a", "system", "Be kind."),
        system_prompt="Be brief.",
        model="m",
        temperature=9.0,
        pinned=True,
    )
    assert outline(room) == [(1, None, "user", "Q"), (2, 1, "assistant", "A")]
    assert (room.settings.system_prompt, room.settings.model) == ("Be brief.\n\nBe kind.", "m")
    assert (room.settings.temperature, room.settings.pinned) == (None, True)


def test_conversation_without_messages_is_unreadable() -> None:
    for nodes in ([], [node("s", None, "system", "Be brief.")], [node("h", None, "user", "x", hidden=True)]):
        with pytest.raises(Unreadable, match="no messages"):
            new_room(Conversation("test:1", nodes=nodes))


def test_circle_is_cut() -> None:
    nodes = [node("a", "c", "user", "A"), node("b", "a", "assistant", "B"), node("c", "b", "user", "C")]
    room, count, notes = new_room(Conversation("test:1", nodes=nodes))
    assert (count, notes) == (3, [CIRCLE])
    assert [one.text for one in room.messages][:3] == ["A", "B", "C"]
    hidden = [node("a", "b", "user", "A", hidden=True), node("b", "a", "user", "B", hidden=True)]
    assert outline(room_of(*hidden, node("q", "a", "user", "Q")))[0] == (1, None, "user", "Q")


def test_chain_of_many_messages_takes_no_recursion_and_linear_room() -> None:
    many = 20_000
    nodes = [node("0", None, "user", "Q")]
    for index in range(1, many):
        nodes.append(node(str(index), str(index - 1), "assistant", "A"))
        if index % 2:  # each other one begins a version
            nodes.append(node(f"v{index}", str(index - 1), "assistant", "V"))
    room = room_of(*nodes)
    assert sum(len(one.text) for one in room.messages) < 30 * many


def test_files_are_kept_once_and_pictures_are_recognised_by_content() -> None:
    room = room_of(
        node(
            "a",
            None,
            "user",
            "Look",
            Attachment("a/b.txt", "image/gif", lambda: GIF, "A dot"),
            Attachment("c.pdf", "", lambda: b"%PDF"),
            Attachment("d.svg", "image/svg+xml", lambda: b"<svg>"),
            Attachment("lost.png"),
        )
    )
    text, picture, pdf, svg, lost = room.messages[0].parts
    assert isinstance(picture, File) and isinstance(pdf, File) and isinstance(svg, File)
    assert (picture.media_type, picture.width, picture.height, picture.name) == ("image/gif", 2, 1, "a b.txt")
    assert (picture.text, pdf.media_type, svg.media_type) == ("A dot", "application/pdf", "application/octet-stream")
    assert lost == Text("[file: lost.png]") and text == Text("Look")
    assert set(room.contents.values()) == {GIF, b"%PDF", b"<svg>"}


def test_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> bytes:
        raise Unreadable("It is not in the zip.")

    monkeypatch.setattr(tree, "MAX_CONTENT_BYTES", 5)
    attachments = [Attachment("x.bin", "", broken), Attachment("y.bin", "", lambda: b"123456")]
    room, _, notes = new_room(Conversation("t", nodes=[node("a", None, "user", *attachments)]))
    assert room.messages[0].text == "[file: x.bin]\n\n[file: y.bin]"
    assert notes[0] == "The file x.bin was left out. It is not in the zip."
    assert notes[1].startswith("The file y.bin was left out: the files of one room have at most")


def test_text_is_cleaned_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "MAX_TEXT_CHARS", 10)
    (part,) = parts_of(Text("a\x00b\ud800" + "c" * 20))
    assert isinstance(part, Text)
    assert part.text == "a\ufffdb\ufffdcccccc\n\n[The rest, 14 characters, is too long to be imported.]"


@given(NODES, IDS | st.none())
def test_any_nodes_become_a_sound_room(nodes: list[Node], head: str | None) -> None:
    """Questions and answers alternate, and every node that is shown is in the message that it became."""
    try:
        room, count, _ = new_room(Conversation("test:1", nodes=nodes, head=head))
    except Unreadable:
        return
    roles = {one.number: one.role for one in room.messages}
    for index, one in enumerate(room.messages, 1):
        assert one.number == index
        assert one.parent is None or one.parent < index
        assert (roles[one.parent] if one.parent else "assistant") != one.role
    assert roles[room.head or 0] == "assistant"
    answered = {one.parent for one in room.messages if one.role == "assistant"}
    assert answered == {one.number for one in room.messages if one.role == "user"}
    assert len(set(room.sources.values())) == len(room.sources) == count
    first = {one.id: one for one in reversed(nodes)}
    shown = {one.id for one in first.values() if not one.hidden and one.role != "system" and one.parts}
    assert set(room.sources.values()) <= shown
    words = " ".join(one.text for one in room.messages)
    for given_node in first.values():
        if given_node.id in shown:
            assert all(part.text in words for part in given_node.parts if isinstance(part, Text) and part.text.strip())


@given(NODES)
def test_any_room_is_written_and_read_as_it_is(tmp_path_factory: pytest.TempPathFactory, nodes: list[Node]) -> None:
    try:
        room = new_room(Conversation("test:1", nodes=nodes))[0]
    except Unreadable:
        return
    directory = tmp_path_factory.mktemp("room")
    path = directory / "room.sqlite"
    summary = RoomWriter(directory / "empty.sqlite").write(path, room)
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        assert message_tree.faults(db) == []
        found = [room_rows.select_message(db, one.number) for one in room.messages]
        sources = db.execute("SELECT number, source FROM messages WHERE source IS NOT NULL").fetchall()
        assert db.execute("SELECT head FROM room").fetchone()[0] == room.head
    assert [one and (one.role, one.parent, one.parts) for one in found] == [
        (one.role, one.parent, one.parts) for one in room.messages
    ]
    assert dict(map(tuple, sources)) == room.sources
    assert summary.messages + summary.hidden == len(room.messages)
    assert {part.name for part in directory.iterdir()} == {"empty.sqlite", "room.sqlite"}


def test_file_of_a_room_is_private(tmp_path: Path) -> None:
    path = tmp_path / "room.sqlite"
    RoomWriter(tmp_path / "empty.sqlite").write(path, room_of(node("a", None, "user", "Hi")))
    assert path.stat().st_mode & 0o777 == 0o600
