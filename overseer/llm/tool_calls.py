"""The tool calls of a streamed answer, joined from their fragments."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, count
from typing import Any

from overseer.llm import ModelError, ToolRequest
from overseer.llm.call_extras import SIGNATURE_IN_ID, CallExtras

MAX_TOOL_NAME_CHARS = 200
UNKNOWN_TOOL = "unknown_tool"  # instead of a longer name
MAX_CALL_ID_CHARS = 200  # of a longer one, the hash is used
MAX_SIGNED_ID_CHARS = 64_000  # of an id that contains a signature
MAX_CALLS = 32  # in one step
MAX_ARGUMENTS_CHARS = 400_000  # of all calls in one step
WHITE_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(slots=True)
class _Call:
    call_id: str
    index: object
    name: str = ""
    arguments: list[str] = field(default_factory=list)
    extras: CallExtras = field(default_factory=CallExtras)

    @property
    def has_arguments(self) -> bool:
        return any(self.arguments)

    def add_name(self, name: str) -> None:
        """Add a piece of the name. Some servers repeat it in every fragment."""
        if name != self.name:
            self.name = name = self.name + name
        if len(name) > MAX_TOOL_NAME_CHARS:
            self.name = UNKNOWN_TOOL  # not a part of it, which might be a part of the key


class ToolCalls:
    """Joins the fragments of tool calls, however the server numbers them. `model` is the one that was asked."""

    def __init__(self, model: str = "") -> None:
        self._model = model
        self._calls: list[_Call] = []
        self._length = 0

    def __bool__(self) -> bool:
        return bool(self._calls)

    def add(self, fragments: object) -> None:
        """Add the fragments of one chunk. Raises ModelError over MAX_CALLS or MAX_ARGUMENTS_CHARS."""
        named: list[_Call] = []
        for fragment in fragments if isinstance(fragments, list) else [fragments]:
            if isinstance(fragment, dict):
                self._add(fragment, named)

    def requests(self) -> Iterator[ToolRequest]:
        """Yield the complete calls, in order. Raises ModelError over MAX_CALLS."""
        taken: set[str] = set()
        for call in self._calls:
            extra = call.extras.encode(self._model)
            for arguments in _split("".join(call.arguments).strip()):
                if len(taken) == MAX_CALLS:
                    raise _too_many()
                call_id = _unique(call.call_id, taken)
                taken.add(call_id)
                yield ToolRequest(call_id, call.name, arguments, extra)
                extra = ""  # Gemini signs the first one of several calls

    def _add(self, fragment: Mapping[str, Any], named: list[_Call]) -> None:
        """Add a fragment. `named` are the calls that earlier fragments of the chunk named."""
        function = fragment.get("function")
        function = function if isinstance(function, dict) else {}
        name = str(function.get("name") or "")
        call = self._find(str(fragment.get("id") or ""), fragment.get("index"), name, named)
        if name:
            call.add_name(name)
            named.append(call)
        call.extras.add(fragment, function)
        arguments = function.get("arguments")
        if isinstance(arguments, dict | list):
            arguments = json.dumps(arguments)
        call.arguments.append(str(arguments or ""))
        self._length += len(call.arguments[-1])
        if len(self._calls) > MAX_CALLS or self._length > MAX_ARGUMENTS_CHARS:
            raise _too_many()

    def _find(self, call_id: str, index: object, name: str, named: list[_Call]) -> _Call:
        """Return the call that a fragment belongs to.

        A new id with a name begins a call, whatever its index: some servers number every call 0, others none. So does
        an id with another index. Without an id, a new index begins a call, and so does a name after arguments,
        or a second one in the same chunk.
        """
        signed = SIGNATURE_IN_ID in call_id
        if len(call_id) > (MAX_SIGNED_ID_CHARS if signed else MAX_CALL_ID_CHARS):
            call_id, signed = hashlib.sha256(call_id.encode(errors="replace")).hexdigest(), False
        same_index = [call for call in self._calls if None in (index, call.index) or call.index == index]
        if call_id:
            found = [call for call in same_index if call.call_id == call_id]
            if not (found or name or index is None):
                found = same_index  # an older vLLM sends another id with every fragment
        else:
            found = [call for call in same_index[-1:] if not name or not (call.has_arguments or call in named)]
        if found:
            return found[-1]
        taken = {call.call_id for call in self._calls}
        generated = (f"call-{number}" for number in count(len(self._calls)))
        call = _Call(call_id or next(one for one in generated if one not in taken), index)
        call.extras.keep_id = signed
        self._calls.append(call)
        return call


def _split(arguments: str) -> list[str]:
    """Return the arguments of each call that was sent as one, usually one.

    Gemini's proxies send the arguments of several calls in one. Bedrock's begin with an empty object.
    """
    if arguments in ("", "null"):
        return ["{}"]
    objects: list[str] = []
    at = 0
    try:
        while at < len(arguments) and len(objects) <= MAX_CALLS:
            value, end = json.JSONDecoder().raw_decode(arguments, at)
            if isinstance(value, str) and value.startswith("{") and end == len(arguments):
                return _split(value)  # encoded twice
            if not isinstance(value, dict):
                return [arguments]
            objects += [arguments[at:end]] if value else []
            at = end + len(WHITE_SPACE.match(arguments, end)[0])  # type: ignore[index]
    except (ValueError, RecursionError):
        return [arguments]
    return objects or ["{}"]


def _unique(call_id: str, taken: set[str]) -> str:
    candidates = chain([call_id], (f"{call_id}-{number}" for number in count(2)))
    return next(one for one in candidates if one not in taken)


def _too_many() -> ModelError:
    return ModelError("The model requested too many tool calls at once. Retry, or rephrase your message.")
