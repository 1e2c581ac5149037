"""The settings of a room: storage, and their effect on answers."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Unpack

import pytest

from overseer.domain.errors import StorageError, StorageUnavailable
from overseer.domain.events import MessagesDeleted, RoomConfigured, RoomEvent
from overseer.domain.settings import Changes, Settings
from overseer.domain.text import NEW_ROOM
from overseer.llm import ModelCut, TextDelta, ToolRequest
from overseer.rooms.chat_room import ChatRoom, Limits
from tests.rooms.conftest import MakeHarness
from tests.support.files import execute
from tests.support.room_harness import RoomHarness, ScriptedReply
from tests.support.waiting import DEADLINE

PROMPT = "Be brief.\n\N{GRINNING FACE}"
ALL = Changes(model="large", system_prompt=PROMPT, temperature=0.7)
SET = Settings("large", PROMPT, 0.7)


# Storage


def test_settings_are_stored_in_the_file_of_the_room(
    harness: RoomHarness, make_harness: MakeHarness, tmp_path: Path
) -> None:
    """They survive a kill and a clear, and a copy of the file has them."""
    assert harness.settings() == Settings() == Settings("", "", None)
    harness.configure(**ALL)
    assert harness.query("SELECT model, system_prompt, temperature FROM room") == [("large", PROMPT, 0.7)]
    harness.restart()
    harness.clear()
    assert harness.settings() == SET
    shutil.copytree(harness.directory, tmp_path / "copy")
    copy = make_harness("copy")
    copy.configure(model="small")
    assert (harness.settings().model, copy.settings()) == ("large", Settings("small", PROMPT, 0.7))


def test_configure_changes_only_the_given_settings(harness: RoomHarness) -> None:
    harness.configure(**ALL)
    harness.configure(temperature=0.0)
    harness.configure(model="")
    harness.configure()
    assert harness.settings() == Settings("", PROMPT, 0.0)
    harness.answer("one")
    assert harness.model.prompts == [(PROMPT, 0.0)]
    harness.configure(system_prompt="", temperature=None)
    assert harness.settings() == Settings()


def test_configure_from_several_threads_keeps_every_change(harness: RoomHarness) -> None:
    barrier = threading.Barrier(3)

    def configure(**changes: Unpack[Changes]) -> None:
        for _ in range(5):
            barrier.wait(DEADLINE)
            harness.configure(**changes)

    threads = [threading.Thread(target=configure, kwargs={field: value}) for field, value in ALL.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert harness.settings() == SET
    assert len(harness.events_of(RoomConfigured)) == 15


def test_configure_that_cannot_be_written_changes_nothing(harness: RoomHarness) -> None:
    """Name and settings are one transaction."""
    harness.fill_disk()
    with pytest.raises(StorageUnavailable, match="disk is full"):
        harness.configure("Cellar", system_prompt="x" * 30_000)
    harness.free_disk()
    trigger = "CREATE TRIGGER broken BEFORE UPDATE OF name ON room BEGIN SELECT raise(ABORT, 'no name'); END"
    execute(harness.file, trigger)
    with pytest.raises(StorageError, match="no name"):
        harness.configure("Cellar", **ALL)
    execute(harness.file, "DROP TRIGGER broken")
    assert (harness.name(), harness.settings(), harness.events) == ("Kitchen", Settings(), [])
    harness.configure(system_prompt="x" * 30_000)


def test_configure_with_a_name_renames_the_room(make_harness: MakeHarness) -> None:
    """The name is then a person's, which the first question does not replace. Events come after the commit."""
    harness = make_harness(by_person=False)
    seen: list[list[tuple[object, ...]]] = []

    def read(event: RoomEvent) -> None:
        if isinstance(event, RoomConfigured):
            seen.append(harness.query("SELECT name, model, temperature FROM room"))

    harness.listeners.append(read)
    harness.configure(**ALL)
    harness.configure("Cellar", temperature=None)
    assert seen == [[("Kitchen", "large", 0.7)], [("Cellar", "large", None)]]
    assert harness.events == [RoomConfigured("room")] * 2
    harness.answer("one")
    assert harness.name() == "Cellar"
    unnamed = make_harness("unnamed", by_person=False)
    unnamed.configure(**ALL)
    unnamed.answer("one")
    assert unnamed.name() == "one"


# Answers


def test_turn_uses_the_settings_from_its_start_in_every_step(harness: RoomHarness) -> None:
    """A queued turn uses those that were set meanwhile."""
    harness.configure(**ALL)
    reply = harness.ask_held("A", TextDelta("Half"))
    harness.ask("B")
    harness.configure(model="small", system_prompt="Sing.", temperature=None)
    reply.send(ToolRequest("c1", "roll_dice", "{}"))
    reply.end()
    assert harness.wait_for_end(4) == "complete"
    assert harness.model.prompts == [(PROMPT, 0.7), (PROMPT, 0.7), ("Sing.", None)]
    assert harness.picked_models == ["large", "small"]


def test_retry_resume_and_edit_use_the_current_settings(harness: RoomHarness) -> None:
    harness.answer("one", ScriptedReply(TextDelta("Half"), ModelCut("It broke off.")))
    harness.script(ScriptedReply(TextDelta(" more"), ModelCut("It broke off.")))
    commands: list[Callable[[], int]] = [harness.resume, harness.retry, lambda: harness.edit(1, "changed").answer]
    for n, command in enumerate(commands, 2):
        harness.configure(temperature=n / 10)
        number = command()
        harness.wait_for_end(number, times=2 if number == 2 else 1)
    assert [temperature for _, temperature in harness.model.prompts] == [None, 0.2, 0.3, 0.4]


def test_system_prompt_counts_against_the_context(harness: RoomHarness) -> None:
    """A prompt that fills the whole context still leaves the question."""
    harness.restart(limits=Limits(context_tokens=300))
    harness.answer("one")
    for length in (4 * 290, 32_000):
        harness.configure(system_prompt="x" * length)
        assert harness.answer("two").state == "complete"
        assert harness.model.request_texts() == ["two"]


def test_cleared_room_loses_the_name_of_its_first_question_but_no_other(make_harness: MakeHarness) -> None:
    harness = make_harness(by_person=False)
    harness.answer("Why is the sky blue?")
    harness.events.clear()
    harness.clear()
    assert harness.call(ChatRoom.summary).name == NEW_ROOM
    assert harness.events == [MessagesDeleted("room"), RoomConfigured("room")]
    harness.answer("And the sea?")
    assert harness.call(ChatRoom.summary).name == "And the sea?"
    harness.configure("Colours")
    harness.clear()
    assert harness.call(ChatRoom.summary).name == "Colours"
