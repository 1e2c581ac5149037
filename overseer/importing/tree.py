"""Turn the nodes of a conversation into the messages of a room.

A room reads question, answer, question, answer. So what the assistant and its tools wrote after a question becomes one
answer, and where a question or an answer is missing, a sentence stands in its place. All walks are loops, since a
chain of nodes may be long, and take time in proportion to the nodes.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from overseer.domain.addresses import split_url
from overseer.domain.messages import CallState, File, Message, Part, Reasoning, Source, State, Text, ToolCall
from overseer.domain.pictures import identify
from overseer.domain.settings import MAX_MODEL_CHARS, MAX_SYSTEM_PROMPT_CHARS, MAX_TEMPERATURE, Settings
from overseer.domain.text import MAX_NAME_CHARS, NEW_ROOM, Invalid, clean, name_from_text, room_name
from overseer.importing.conversations import Attachment, Conversation, Node, ToolResult, Unreadable
from overseer.importing.media import media_type_of
from overseer.storage.new_room import NewRoom

MAX_NODES = 200_000
MAX_COPIES = 4  # times that the nodes may be copied, where versions of an answer begin alike
MAX_TEXT_CHARS = 4_000_000  # of a part
MAX_CONTENT_BYTES = 200_000_000  # of all files of a conversation
MAX_SOURCES = 500
NO_QUESTION = "(The export has no question here.)"
NO_ANSWER = "The export has no answer to this question."
NO_RESULT = "The export has no result of this call."
CUT = "\n\n[The rest, {left:,} characters, is too long to be imported.]"
CIRCLE = "Messages followed each other in a circle, which was cut."


@dataclass(slots=True)
class Group:
    """Nodes that become one message, after the group `parent`."""

    is_question: bool
    parent: int | None
    nodes: list[Node] = field(default_factory=list)
    at: int = 0  # the time that orders the messages


def new_room(conversation: Conversation) -> tuple[NewRoom, int, list[str]]:
    """Return the room, the number of its messages that are of the export, and sentences about what was not kept.

    Raises Unreadable if there is nothing to import.
    """
    if len(conversation.nodes) > MAX_NODES:
        raise Unreadable(f"It has more than {MAX_NODES:,} messages.")
    return _Builder(conversation).build()


class _Builder:
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._notes = list(conversation.notes)
        self._nodes: dict[str, Node] = {}
        for node in conversation.nodes:
            self._nodes.setdefault(node.id, node)
        self._groups: list[Group] = []
        self._ending: dict[str, int] = {}  # the group that ends with a node
        self._contents: dict[str, bytes] = {}
        self._content_bytes = 0
        self._files_left_out: dict[str, str] = {}

    def build(self) -> tuple[NewRoom, int, list[str]]:
        """Return what `new_room` does."""
        conversation = self._conversation
        shown = [node for node in self._nodes.values() if not _is_left_out(node)]
        if not shown:
            raise Unreadable("It has no messages.")
        parents = self._shown_parents(shown)
        order = self._in_order(shown, parents)
        self._make_groups(order, parents)
        numbers = self._numbers()
        start = conversation.created_at or next((node.created_at for node in order if node.created_at), None)
        messages, sources, count = self._messages(numbers, start or conversation.updated_at or 0)
        head = numbers[self._head_group(parents)]
        return (
            NewRoom(
                name=self._name(messages),
                source=conversation.source,
                created_at=start or conversation.updated_at or messages[0].created_at,
                settings=self._settings(),
                messages=messages,
                sources=sources,
                head=head,
                contents=self._contents,
            ),
            count,
            [*self._notes, *self._files_left_out.values()],
        )

    # The tree without what is left out

    def _shown_parents(self, shown: Sequence[Node]) -> dict[str, str | None]:
        """Return for each shown node the shown one that it follows."""
        found: dict[str, str | None] = {}  # also for nodes that are left out
        for node in shown:
            at, path, seen = node.parent, [], {node.id}
            while at is not None and at in self._nodes and at not in found and _is_left_out(self._nodes[at]):
                if at in seen:
                    at = None  # a circle of nodes that are left out
                    break
                seen.add(at)
                path.append(at)
                at = self._nodes[at].parent
            if at is not None and at not in self._nodes:
                at = None
            if at is not None and _is_left_out(self._nodes[at]):
                at = found[at]
            for one in path:
                found[one] = at
            found[node.id] = at
        return {node.id: found[node.id] for node in shown}

    def _in_order(self, shown: Sequence[Node], parents: dict[str, str | None]) -> list[Node]:
        """Return the nodes by time, each after its parent. A circle is cut at its first node in the file."""
        children: dict[str | None, list[str]] = {}
        for node in shown:
            children.setdefault(parents[node.id], []).append(node.id)
        position = {node.id: index for index, node in enumerate(shown)}
        order: list[Node] = []
        left = dict.fromkeys(position)  # in the order of the file

        def walk(starts: Sequence[str], earliest: int) -> None:
            heap = [(max(earliest, self._nodes[one].created_at or 0), position[one], one) for one in starts]
            heapq.heapify(heap)
            while heap:
                at, _, one = heapq.heappop(heap)
                if one not in left:
                    continue
                del left[one]
                order.append(self._nodes[one])
                for child in children.get(one, ()):
                    # One without a time comes right after its parent.
                    heapq.heappush(heap, (max(at, self._nodes[child].created_at or 0), position[child], child))

        walk(children.get(None, []), 0)
        while left:
            first = next(iter(left))
            parents[first] = None
            if CIRCLE not in self._notes:
                self._notes.append(CIRCLE)
            walk([first], 0)
        return order

    # Questions and answers

    def _make_groups(self, order: Sequence[Node], parents: dict[str, str | None]) -> None:
        """Put the nodes into groups."""
        continuing: dict[str, int] = {}  # how many nodes of the assistant follow one
        asked_after: set[str] = set()
        for node in order:
            parent = parents[node.id]
            if parent is not None:
                if node.role == "user":
                    asked_after.add(parent)
                else:
                    continuing[parent] = continuing.get(parent, 0) + 1
        copies = MAX_COPIES * len(order) + 1000
        chains: dict[str, tuple[int | None, list[Node]]] = {}  # the group before a chain of nodes, and the chain
        for node in order:
            parent = parents[node.id]
            if node.role == "user":
                before = None if parent is None else self._answer_ending(parent)
                self._ending[node.id] = self._add(Group(True, before, [node]))
                continue
            if parent in chains:
                before, chain = chains[parent]
                if continuing[parent] > 1:
                    chain = list(chain)
                    copies -= len(chain)
                chain.append(node)
            else:
                before, chain = self._question_ending(parent), [node]
            is_end = node.id in asked_after or not continuing.get(node.id)
            if is_end or (continuing[node.id] > 1 and copies < 0):
                self._ending[node.id] = self._add(Group(False, before, chain))
            else:
                chains[node.id] = before, chain

    def _answer_ending(self, node_id: str) -> int:
        """Return the answer that ends with a node, to be followed by a question."""
        group = self._ending[node_id]
        return self._answer_to(group) if self._groups[group].is_question else group

    def _answer_to(self, question: int) -> int:
        """Return a group that stands for the missing answer to a question."""
        key = f"\0answer {question}"
        if key not in self._ending:
            self._ending[key] = self._add(Group(False, question))
        return self._ending[key]

    def _question_ending(self, node_id: str | None) -> int:
        """Return the question that ends with a node, to be followed by an answer."""
        if node_id is not None and node_id in self._ending and self._groups[self._ending[node_id]].is_question:
            return self._ending[node_id]
        key = f"\0question {node_id}"
        if key not in self._ending:
            before = None if node_id is None else self._ending[node_id]
            self._ending[key] = self._add(Group(True, before))
        return self._ending[key]

    def _add(self, group: Group) -> int:
        before = 0 if group.parent is None else self._groups[group.parent].at
        group.at = max(before, next((node.created_at for node in group.nodes if node.created_at), before))
        self._groups.append(group)
        return len(self._groups) - 1

    def _numbers(self) -> dict[int, int]:
        """Return the number of each group. Questions without an answer get one."""
        answered = {group.parent for group in self._groups if not group.is_question}
        for index in [index for index, group in enumerate(self._groups) if group.is_question]:
            if index not in answered:
                self._answer_to(index)
        children: dict[int | None, list[int]] = {}
        for index, group in enumerate(self._groups):
            children.setdefault(group.parent, []).append(index)
        numbers: dict[int, int] = {}
        heap = [(self._groups[index].at, index) for index in children.get(None, ())]
        heapq.heapify(heap)
        while heap:
            at, index = heapq.heappop(heap)
            numbers[index] = len(numbers) + 1
            for child in children.get(index, ()):
                heapq.heappush(heap, (max(at, self._groups[child].at), child))
        return numbers

    def _head_group(self, parents: dict[str, str | None]) -> int:
        """Return the group at the end of the shown path, which is an answer."""
        at, seen = self._conversation.head, set[str]()
        while at is not None and at in self._nodes and at not in seen:
            seen.add(at)
            if at in self._ending:
                group = self._ending[at]
                return self._newest_answer(group) if self._groups[group].is_question else group
            if at in parents:  # within an answer: go to its end
                return self._newest_end_below(at, parents)
            at = self._nodes[at].parent
        answers = [index for index, group in enumerate(self._groups) if not group.is_question]
        return max(answers, key=lambda index: (self._groups[index].at, index))

    def _newest_answer(self, question: int) -> int:
        return max(index for index, group in enumerate(self._groups) if group.parent == question)

    def _newest_end_below(self, node_id: str, parents: dict[str, str | None]) -> int:
        """Return the newest answer that has a node in it."""
        return max(index for index, group in enumerate(self._groups) if any(node.id == node_id for node in group.nodes))

    # Messages

    def _messages(self, numbers: dict[int, int], start: int) -> tuple[list[Message], dict[int, str], int]:
        messages, sources, count, times = [], {}, 0, dict[int | None, int]()
        for index, number in sorted(numbers.items(), key=lambda one: one[1]):
            group = self._groups[index]
            created_at = next((node.created_at for node in group.nodes if node.created_at), None)
            created_at = created_at or times.get(group.parent) or start
            parent = None if group.parent is None else numbers[group.parent]
            if group.is_question:
                message = self._question(group, number, created_at)
            else:
                message = self._answer(group, number, created_at)
            times[index] = message.ended_at or created_at
            messages.append(replace(message, parent=parent))
            if group.nodes:
                sources[number] = group.nodes[-1].id
                count += 1
        return messages, sources, count

    def _question(self, group: Group, number: int, created_at: int) -> Message:
        parts: list[Part] = []
        for part in self._parts(group.nodes):
            if isinstance(part, ToolCall):
                parts.append(Text(part.in_brackets))
            else:
                parts.append(Text(part.text) if isinstance(part, Reasoning) else part)
        if not any(isinstance(part, Text) and part.text.strip() for part in parts):
            parts.insert(0, Text(NO_QUESTION if not parts else ""))
            parts = [part for part in parts if not isinstance(part, Text) or part.text]
        return Message(number, "user", "complete", tuple(parts), created_at=created_at)

    def _answer(self, group: Group, number: int, created_at: int) -> Message:
        if not group.nodes:
            return Message(
                number, "assistant", "stopped", (), reason=NO_ANSWER, created_at=created_at, ended_at=created_at
            )
        last = group.nodes[-1]
        state: State = last.state if last.state in ("complete", "stopped", "failed", "interrupted") else "interrupted"
        ended_at = next((node.ended_at or node.created_at for node in reversed(group.nodes) if node.created_at), None)
        cited = dict.fromkeys(source for node in group.nodes for source in node.sources)
        return Message(
            number,
            "assistant",
            state,
            tuple(self._parts(group.nodes)),
            reason=clean(last.reason)[:2000],
            model=next((_model(node.model) for node in reversed(group.nodes) if node.model), ""),
            created_at=created_at,
            ended_at=max(created_at, ended_at or created_at),
            sources=tuple(_clean_sources(list(cited)[:MAX_SOURCES])),
        )

    def _parts(self, nodes: Sequence[Node]) -> list[Part]:
        """Return the parts of nodes, with the results of tools in their calls."""
        parts: list[Part] = []
        waiting: list[int] = []  # the positions of the calls without a result
        for content in (content for node in nodes for content in node.parts):
            if isinstance(content, ToolResult):
                self._give_result(parts, waiting, content)
            elif isinstance(content, Attachment):
                parts.append(self._file(content))
            elif isinstance(content, ToolCall):
                if content.state == "running":
                    waiting.append(len(parts))
                parts.append(_clean_call(content))
            elif content.text.strip():
                parts.append(replace(content, text=_cut(content.text)))
        for position in waiting:
            call = parts[position]
            assert isinstance(call, ToolCall)
            parts[position] = replace(call, state="abandoned", result=NO_RESULT)
        return list(_joined(parts))

    def _give_result(self, parts: list[Part], waiting: list[int], found: ToolResult) -> None:
        """Put a result into the call that waits for it, or add a call."""
        calls = [(position, parts[position]) for position in reversed(waiting)]
        wanted = [at for at, call in calls if isinstance(call, ToolCall) and found.call_id == call.call_id != ""]
        if not wanted and not found.call_id:
            named = [at for at, call in calls if isinstance(call, ToolCall) and found.name in ("", call.name)]
            wanted = named or [at for at, _ in calls]
        result = _cut(found.text)
        outcome: CallState = "failed" if found.failed else "done"
        if wanted:
            call = parts[wanted[0]]
            assert isinstance(call, ToolCall)
            waiting.remove(wanted[0])
            parts[wanted[0]] = replace(call, result=result, state=outcome)
            return
        name = clean(found.name)[:200] or "tool"
        parts.append(ToolCall(clean(found.call_id)[:200], name, "{}", result, outcome))

    def _file(self, attachment: Attachment) -> Part:
        """Return the file, or its name in brackets if the export has no content of it."""
        name = " ".join(clean(attachment.name).replace("/", " ").replace("\\", " ").split())[:200]
        if attachment.read is None:
            return Text(f"[file: {name or 'without a name'}]")
        try:
            content = attachment.read()
        except Unreadable as error:
            self._files_left_out.setdefault(name, f"The file {name} was left out. {error}")
            return Text(f"[file: {name or 'without a name'}]")
        sha256 = hashlib.sha256(content).hexdigest()
        if sha256 not in self._contents:
            self._content_bytes += len(content)
            if self._content_bytes > MAX_CONTENT_BYTES:
                limit = MAX_CONTENT_BYTES // 1_000_000
                self._files_left_out.setdefault(
                    name, f"The file {name} was left out: the files of one room have at most {limit} MB."
                )
                return Text(f"[file: {name or 'without a name'}]")
            self._contents[sha256] = content
        description = clean(attachment.text)[:2000]
        if picture := identify(content):
            return File(sha256, picture.media_type, description, picture.width, picture.height, name)
        return File(sha256, media_type_of(name, attachment.media_type), description, name=name)

    # The room

    def _name(self, messages: Sequence[Message]) -> str:
        title = " ".join(clean(self._conversation.title).split())[:MAX_NAME_CHARS]
        first = next((message.text for message in messages if message.role == "user"), "")
        for name in (title, name_from_text(first[:2000]), NEW_ROOM):
            try:
                return room_name(name)
            except Invalid:
                continue
        return NEW_ROOM

    def _settings(self) -> Settings:
        conversation = self._conversation
        prompts = dict.fromkeys(
            part.text.strip()
            for node in self._nodes.values()
            if node.role == "system" and not node.hidden
            for part in node.parts
            if isinstance(part, Text) and part.text.strip()
        )
        given = [clean(conversation.system_prompt).strip(), *map(clean, prompts)]
        prompt = "\n\n".join(dict.fromkeys(filter(None, given)))
        if len(prompt) > MAX_SYSTEM_PROMPT_CHARS:
            prompt = prompt[:MAX_SYSTEM_PROMPT_CHARS]
            self._notes.append(f"The system prompt was cut after {MAX_SYSTEM_PROMPT_CHARS:,} characters.")
        temperature = conversation.temperature
        if temperature is not None and not 0 <= temperature <= MAX_TEMPERATURE:
            temperature = None
        return Settings(_model(conversation.model), prompt, temperature, conversation.pinned, conversation.archived)


def _is_left_out(node: Node) -> bool:
    return node.hidden or node.role == "system" or not (node.parts or node.reason)


def _joined(parts: Sequence[Part]) -> Iterator[Part]:
    """Join texts that follow each other, and reasoning that does."""
    last: Part | None = None
    for part in parts:
        if isinstance(last, Text) and isinstance(part, Text):
            last = Text(f"{last.text.rstrip()}\n\n{part.text.lstrip()}")
        elif isinstance(last, Reasoning) and isinstance(part, Reasoning):
            seconds = (
                None if last.seconds is None and part.seconds is None else (last.seconds or 0) + (part.seconds or 0)
            )
            last = Reasoning(f"{last.text.rstrip()}\n\n{part.text.lstrip()}", seconds)
        else:
            if last is not None:
                yield last
            last = part
    if last is not None:
        yield last


def _cut(text: str) -> str:
    text = clean(text).replace("\r\n", "\n").replace("\r", "\n")
    return text if len(text) <= MAX_TEXT_CHARS else text[:MAX_TEXT_CHARS] + CUT.format(left=len(text) - MAX_TEXT_CHARS)


def _model(name: str) -> str:
    return " ".join(clean(name).split())[:MAX_MODEL_CHARS]


def _clean_call(call: ToolCall) -> ToolCall:
    return ToolCall(
        clean(call.call_id)[:200],
        clean(call.name)[:200] or "tool",
        _cut(call.arguments) or "{}",
        _cut(call.result),
        call.state,
    )


def _clean_sources(sources: Sequence[Source]) -> Iterator[Source]:
    for source in sources:
        url = split_url(source.url)
        if url is not None and url.scheme in ("http", "https") and url.hostname:
            yield Source(clean(source.url)[:2000], clean(source.title)[:500])
