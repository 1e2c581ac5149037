"""Conversations of Grok: those of the list "conversations" in `prod-grok-backend.json`.

A conversation has its messages as `responses`, each again in an object. What was attached is in the zip as
`prod-mc-asset-server/<id>/content`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from overseer.domain.messages import Reasoning, Source, Text, ToolCall
from overseer.importing import contents, values
from overseer.importing.conversations import Attachment, Content, Conversation, Files, Node, Unreadable
from overseer.importing.values import identifier, items, mapping, text

NAME = "Grok"
ASSET_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
RENDER = re.compile(r"( ?)<grok:render\b([^<>]*)>((?:(?!</?grok:render\b).)*)</grok:render>", re.DOTALL)
CARD_ID = re.compile(r'\bcard_id="([^"<>]*)"')
CARD = re.compile(r"<xai:tool_usage_card\b[^<>]*>((?:(?!</?xai:tool_usage_card>).)*)</xai:tool_usage_card>", re.DOTALL)
CARD_FIELD = re.compile(
    r"<xai:(tool_name|tool_args|tool_usage_card_id)>\s*(?:<!\[CDATA\[)?((?:(?!\]\]>|</?xai:).)*)(?:\]\]>)?\s*</xai:\1>",
    re.DOTALL,
)
FAILED = "Grok reported an error: {words}"
CUT = "The answer ends before it is complete."


def recognizes(item: Mapping[str, Any]) -> bool:
    """Return whether this is a conversation."""
    return isinstance(item.get("responses"), list) and isinstance(item.get("conversation"), dict)


def read(item: Mapping[str, Any], files: Files) -> Conversation:
    """Return the conversation. Raises Unreadable if it is empty."""
    about = mapping(item.get("conversation"))
    wrapped = map(mapping, items(item.get("responses")))
    responses = [found for found in (mapping(one.get("response")) or one for one in wrapped) if found]
    if not responses:
        raise Unreadable("It has no messages.", "responses")
    ids = contents.unique(
        _id(one) or values.digest(index, text(one.get("message"))) for index, one in enumerate(responses)
    )
    known, nodes, last = set(ids), list[Node](), None
    is_tree = any(_reference(one) in known for one in responses)
    for node_id, one in zip(ids, responses, strict=True):
        parent = _reference(one)
        nodes.append(_node(node_id, (parent if parent in known else None) if is_tree else last, one, files))
        last = node_id
    conversation_id = _id(about) or values.digest(text(about.get("create_time")), ids[0])
    head = identifier(contents.plain(about.get("leaf_response_id")))
    return Conversation(
        source=f"grok:{conversation_id}",
        title=text(about.get("title")),
        nodes=nodes,
        head=head if head in known else None,
        created_at=_time(about.get("create_time")),
        updated_at=_time(about.get("modify_time")),
        system_prompt=text(about.get("custom_instructions")),
        pinned=about.get("starred") is True,
    )


def _id(value: Mapping[str, Any]) -> str | None:
    return identifier(contents.plain(value.get("_id"))) or identifier(contents.plain(value.get("id")))


def _reference(response: Mapping[str, Any]) -> str | None:
    return identifier(contents.plain(response.get("parent_response_id")))


def _time(value: object) -> int | None:
    return values.milliseconds(contents.plain(value))


def _node(node_id: str, parent: str | None, response: Mapping[str, Any], files: Files) -> Node:
    sender = text(response.get("sender")).lower()
    is_question = sender in ("human", "user")
    parts: list[Content] = []
    sources: list[Source] = []
    if not is_question:
        parts += _thinking(response)
    cards = _cards(response)
    if words := text(response.get("message")) or text(response.get("query")):
        if not is_question:
            words = RENDER.sub(lambda found: _rendered(found, cards, sources), words)
        parts.append(Text(words))
    parts += _files(response, files)
    for key in ("cited_web_search_results", *(() if cards else ("web_search_results",))):
        found = [
            contents.source(mapping(one).get("url"), mapping(one).get("title")) for one in items(response.get(key))
        ]
        sources += filter(None, found)
        if sources:
            break
    error = "" if is_question else text(response.get("error"))
    is_partial = not is_question and response.get("partial") is True
    return Node(
        node_id,
        parent,
        "user" if is_question else "system" if sender == "system" else "assistant",
        parts,
        created_at=_time(response.get("create_time")),
        model="" if is_question else text(response.get("model")) or (sender if sender.startswith("grok") else ""),
        state="failed" if error else "interrupted" if is_partial else "complete",
        reason=FAILED.format(words=error[:500]) if error else CUT if is_partial else "",
        sources=list(dict.fromkeys(sources)),
    )


def _thinking(response: Mapping[str, Any]) -> Iterator[Content]:
    """Yield the reasoning before an answer, and the calls of tools in it."""
    start, end = _time(response.get("thinking_start_time")), _time(response.get("thinking_end_time"))
    seconds = (end - start) / 1000 if start is not None and end is not None and end >= start else None
    traces = [text(response.get("thinking_trace"))]
    traces += [text(mapping(one).get("thinking_trace")) for one in items(response.get("agent_thinking_traces"))]
    for trace in dict.fromkeys(filter(None, traces)):
        at = 0
        for found in CARD.finditer(trace):
            if trace[at : found.start()].strip():
                yield Reasoning(trace[at : found.start()].strip(), seconds)
                seconds = None
            yield from _call(found[1])
            at = found.end()
        if trace[at:].strip():
            yield Reasoning(trace[at:].strip(), seconds)
            seconds = None


def _call(card: str) -> Iterator[Content]:
    fields = dict(CARD_FIELD.findall(card))
    name = fields.get("tool_name", "").strip() or "tool"
    yield ToolCall(
        fields.get("tool_usage_card_id", "").strip(), name, contents.arguments(fields.get("tool_args"), name)
    )


def _cards(response: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return what the marks in a text stand for, by their ids."""
    cards: dict[str, Mapping[str, Any]] = {}
    for one in items(response.get("card_attachments_json")):
        if isinstance(one, str):
            try:
                one = json.loads(one)
            except (ValueError, RecursionError):
                continue
        card = mapping(one)
        cards[text(card.get("id"))] = card
    return cards


def _rendered(found: re.Match[str], cards: Mapping[str, Mapping[str, Any]], sources: list[Source]) -> str:
    """Return a link instead of a mark. Without what it stands for, nothing."""
    card_id = CARD_ID.search(found[2])
    card = cards.get(card_id[1], values.NOTHING) if card_id else values.NOTHING
    page = contents.source(card.get("url"), card.get("title"))
    if page is None:
        return ""
    sources.append(page)
    return f" ({contents.link(page)})"


def _files(response: Mapping[str, Any], files: Files) -> Iterator[Attachment]:
    known = {text(mapping(one).get("asset_id")): mapping(one) for one in _metadata(response)}
    for one in items(response.get("file_attachments")):
        given = mapping(one)
        asset_id = text(given.get("id") or given.get("asset_id") or given.get("file_id") or given.get("fileMetadataId"))
        asset_id = asset_id or text(one)
        given = given or known.get(asset_id, values.NOTHING)
        name = text(given.get("name") or given.get("file_name") or given.get("fileName")) or asset_id
        yield Attachment(name, text(given.get("mime_type") or given.get("fileMimeType")), _asset(asset_id, files))
    for one in items(response.get("generated_image_urls")):
        url = text(one)
        found = [read for asset_id in reversed(ASSET_ID.findall(url)) if (read := _asset(asset_id, files))]
        name = url.partition("?")[0].rsplit("/", 1)[-1] or "picture.jpg"
        yield Attachment(name, "", found[0] if found else None, text(response.get("query")))


def _metadata(response: Mapping[str, Any]) -> Sequence[object]:
    return items(response.get("file_attachments_metadata")) or items(response.get("fileAttachmentsMetadata"))


def _asset(asset_id: str, files: Files) -> Callable[[], bytes] | None:
    return files.find(f"{asset_id}/content") if ASSET_ID.fullmatch(asset_id) else None
