"""The commands of the palette, and which of them match what was typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MIN_FUZZY_CHARS = 3


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its name, the selector of the element that a click on it presses, and other words for it.

    It is offered only where there is what it `needs`. One with a `link` presses none: it leads to this endpoint.
    """

    name: str
    press: str
    synonyms: str = ""
    needs: Literal["", "room", "kept", "temporary", "answer", "archive", "password"] = ""
    link: str = ""


COMMANDS = (
    Command("New room", "#new-room", "chat conversation create start add"),
    Command("New temporary room", "#new-temporary", "chat conversation create start add private incognito"),
    Command("Archived rooms", "#rooms-archived a", "list old hidden", "archive"),
    Command("Choose the model", "#header .picker > summary", "switch change select llm", "room"),
    Command("Room settings", "#header .settings > summary", "system prompt temperature instructions options", "room"),
    Command("Rename this room", "#header [data-rename]", "name title change", "room"),
    Command("Pin or unpin this room", "#header [name=pinned]", "favorite star keep top", "room"),
    Command("Archive or unarchive this room", "#header [name=archived]", "hide put away done restore", "kept"),
    Command("Keep this temporary room", "#header [name=temporary]", "save permanent", "temporary"),
    Command("Fork this room", "#header [data-fork]", "copy duplicate clone branch", "room"),
    Command("Search this room", "#header [data-search]", "find messages text", "room"),
    Command("Export this room", "", "download save markdown json sqlite backup", "room", "exports.list_formats"),
    Command("Share this room", "#header [href$='/shares']", "publish link public snapshot live", "room"),
    Command("Print this room", "#header [data-print]", "paper pdf", "room"),
    Command("Clear this room", "#header [data-clear]", "messages remove empty reset", "room"),
    Command("Delete this room", "#header [data-delete]", "remove erase", "room"),
    Command("Stop the answer", "#composer [data-stop]", "cancel abort end", "answer"),
    Command("Import conversations", "", "upload restore move chatgpt claude webui", link="imports.show_imports"),
    Command("Export all rooms", "", "download save zip backup", link="exports.export_all"),
    Command("Theme: Light", "#theme-light", "mode appearance color colour bright"),
    Command("Theme: Dark", "#theme-dark", "mode appearance color colour night"),
    Command("Theme: System", "#theme-system", "mode appearance color colour automatic"),
    Command("Keyboard shortcuts", "#open-keys", "keys help hotkeys"),
    Command("Log-ins", "#log-ins", "sessions devices security", "password"),
    Command("Log out", "#log-out", "sign exit leave", "password"),
)


def matching_commands(q: str, available: set[str]) -> list[Command]:
    """Return the commands that match every word of `q` and need nothing, or something `available`.

    A word matches the beginning of a word of the name or of a synonym. A word of MIN_FUZZY_CHARS or more also matches
    letters of the name in their order; such commands come last.
    """
    typed = q.casefold().replace(":", " ").split()
    found = [one for one in COMMANDS if one.needs in {"", *available} and all(_matches(word, one) for word in typed)]
    return sorted(found, key=lambda one: not all(_begins_a_word(word, one) for word in typed))


def _matches(word: str, command: Command) -> bool:
    if _begins_a_word(word, command):
        return True
    return len(word) >= MIN_FUZZY_CHARS and _is_subsequence(word, command.name.casefold())


def _begins_a_word(word: str, command: Command) -> bool:
    words = f"{command.name} {command.synonyms}".casefold().replace(":", " ").split()
    return any(one.startswith(word) for one in words)


def _is_subsequence(letters: str, text: str) -> bool:
    rest = iter(text)
    return all(letter in rest for letter in letters)
