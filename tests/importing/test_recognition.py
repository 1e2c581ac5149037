"""Each conversation is of one format only, and other JSON of an export of none."""

from __future__ import annotations

from typing import Any

import pytest

from overseer.importing.formats import ai_studio, chat_ui, chatgpt, claude, grok
from tests.importing import test_ai_studio, test_chat_ui, test_chatgpt, test_claude, test_grok

FORMATS = (chatgpt, claude, grok, ai_studio, chat_ui)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (test_chatgpt.EVERYTHING, chatgpt),
        (test_claude.EVERYTHING, claude),
        (test_claude.DESIGN, claude),
        (test_grok.EVERYTHING, grok),
        (test_ai_studio.EVERYTHING, ai_studio),
        (test_chat_ui.EVERYTHING, chat_ui),
    ],
)
def test_recognition_finds_one_format(item: dict[str, Any], expected: object) -> None:
    assert [one for one in FORMATS if one.recognizes(item)] == [expected]


@pytest.mark.parametrize(
    "item",
    [
        {"id": "user-1", "email": "a@example.org", "phone_number": None},  # user.json
        {"file-1.dat": "a.png"},  # conversation_asset_file_names.json
        {"version": 1, "files": [{"name": "conversations.json"}]},  # export_manifest.json
        {"chats": []},  # group_chats.json
        {"id": "s", "conversation_id": "c", "title": "T", "is_anonymous": True},  # shared_conversations.json
        {"id": "f", "conversation_id": "c", "rating": "thumbs_up", "create_time": "2026", "content": "{}"},
        {"id": "m", "input": {"messages": []}, "output": {}, "metadata": {}, "title": "T"},  # model_comparisons.json
        {"uuid": "u", "full_name": "N", "email_address": "a@example.org"},  # users.json
        {"uuid": "p", "name": "P", "docs": [], "prompt_template": "", "created_at": "2026"},  # projects.json
        {"conversations_memory": "m", "project_memories": {}, "account_uuid": "u"},  # memories.json
        {"user": {"email": "a@example.org"}, "sessions": []},  # prod-mc-auth-mgmt-api.json
        {"_id": "a", "name": "A", "modelId": "m", "preprompt": "p", "createdAt": "2026"},  # assistants.json
        {"role": "user", "content": "Q"},
    ],
)
def test_recognition_leaves_other_json_of_an_export(item: dict[str, Any]) -> None:
    assert not [one for one in FORMATS if one.recognizes(item)]
