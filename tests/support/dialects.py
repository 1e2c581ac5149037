"""The dialects of OpenAI's API: how each server streams an answer, reports an error and refuses a request."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from overseer.domain.messages import Part, Reasoning, Text, ToolCall
from tests.support.model_server import Reply

Json = dict[str, Any]
ERROR_MESSAGE = "GPU on fire"
TOKENS_IN, TOKENS_OUT = 21, 34
SIGNATURE: Json = {"google": {"thought_signature": "c2lnbmF0dXJl"}}


@dataclass(frozen=True, slots=True)
class Refused:
    """An error response of a server: status, body and headers."""

    status: int
    body: Json | bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def reply(self) -> Reply:
        """Return the scripted reply."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        content_type = "application/json" if body.lstrip()[:1] == b"{" else "text/event-stream"
        return Reply(body, status=self.status, headers={"Content-Type": content_type, **self.headers})


@dataclass(frozen=True, slots=True)
class Dialect:
    """The streaming format of one server.

    `encode_reasoning` and `encode_call` return deltas, `encode_error` the bytes of an error within an answer. Token
    counts come in a chunk of their own, in the last chunk of the answer, or nowhere.
    """

    name: str
    encode_reasoning: Callable[[str], Iterable[Json]] | None
    encode_call: Callable[[int, ToolCall], Iterable[Json]]
    encode_error: Callable[[Dialect], bytes]
    head: Json
    usage_in: Literal["own chunk", "last chunk", "nowhere"] = "own chunk"
    first_delta: Json | None = field(default_factory=lambda: {"role": "assistant", "content": ""})
    choice_fields: Json = field(default_factory=dict)  # further fields of every choice
    usage_fields: Json = field(default_factory=dict)  # further fields beside the token counts
    keep_alive: bytes = b""
    data: bytes = b"data: "
    line_end: bytes = b"\n"
    sends_done: bool = True
    repeats_text: bool = False  # in a whole message at the end
    refuses: Mapping[str, Refused] = field(default_factory=dict)

    def event(self, data: object) -> bytes:
        """Return an event."""
        written = json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode()
        return self.data + written + self.line_end * 2

    def chunk(self, delta: Json, *, finish: str | None = None, **more: object) -> bytes:
        """Return an event with a delta."""
        return self.event(
            {
                **self.head,
                "choices": [{"index": 0, "delta": delta, "finish_reason": finish, **self.choice_fields}],
                **more,
            }
        )

    def part_events(self, *parts: Part) -> Iterator[bytes]:
        """Yield the events of these parts, without an end."""
        if self.first_delta is not None:
            yield self.chunk(self.first_delta)
        calls = 0
        for part in parts:
            if isinstance(part, Text):
                yield from (self.chunk({"content": piece}) for piece in pieces(part.text))
            elif isinstance(part, Reasoning):
                assert self.encode_reasoning is not None
                yield from map(self.chunk, self.encode_reasoning(part.text))
            elif isinstance(part, ToolCall):
                yield from map(self.chunk, self.encode_call(calls, part))
                calls += 1

    def end_events(self, finish: str = "stop") -> Iterator[bytes]:
        """Yield the events that end an answer."""
        usage = {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT, "total_tokens": TOKENS_IN + TOKENS_OUT}
        if self.usage_in == "last chunk":
            yield self.chunk({}, finish=finish, usage=usage, **self.usage_fields)
        else:
            yield self.chunk({}, finish=finish)
        if self.usage_in == "own chunk":
            yield self.event({**self.head, "choices": [], "usage": usage, **self.usage_fields})
        if self.sends_done:
            yield self.data + b"[DONE]" + self.line_end * 2

    def stream(self, *parts: Part) -> bytes:
        """Return a whole answer."""
        finish = "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"
        repeated = [self.repeated_text(*parts)] if self.repeats_text else []
        events = [*self.part_events(*parts), *repeated, *self.end_events(finish)]
        return self.keep_alive + self.keep_alive.join(events)

    def repeated_text(self, *parts: Part) -> bytes:
        """Return an event with the whole text."""
        message = {"role": "assistant", "content": "".join(part.text for part in parts if isinstance(part, Text))}
        choices = [{"index": 0, "message": message, "finish_reason": None}]
        return self.event({**self.head, "object": "chat.completion", "choices": choices})

    def cut(self, *parts: Part) -> bytes:
        """Return an answer that stops without an end."""
        return self.keep_alive.join(self.part_events(*parts))

    def broken(self, *parts: Part) -> bytes:
        """Return an answer that ends with an error."""
        return self.cut(*parts) + self.encode_error(self)


def pieces(text: str) -> Iterator[str]:
    """Yield the text in tokens of five characters."""
    yield from (text[at : at + 5] for at in range(0, len(text), 5))


# Reasoning


def reasoning_content(text: str) -> Iterator[Json]:
    yield from ({"reasoning_content": piece} for piece in pieces(text))


def deepseek_reasoning(text: str) -> Iterator[Json]:
    yield from ({"content": None, "reasoning_content": piece} for piece in pieces(text))


def reasoning(text: str) -> Iterator[Json]:
    yield from ({"role": "assistant", "content": "", "reasoning": piece} for piece in pieces(text))


def reasoning_twice(text: str) -> Iterator[Json]:
    """OpenRouter sends reasoning in two fields at once."""
    for piece in pieces(text):
        details = [{"type": "reasoning.text", "text": piece, "format": "unknown", "index": 0}]
        yield {"role": "assistant", "content": "", "reasoning": piece, "reasoning_details": details}


def think_tags(text: str) -> Iterator[Json]:
    """Put reasoning in tags within the content. Each tag is a token of its own, with blank lines around it."""
    for piece in ("<think>", "\n", *pieces(text), "\n", "</think>", "\n\n"):
        yield {"role": "assistant", "content": piece}


def think_tags_in_halves(text: str) -> Iterator[Json]:
    """Put reasoning in tags that are split between tokens."""
    yield from ({"content": piece} for piece in pieces(f"<think>{text}</think>\n\n"))


def thought_tags(text: str) -> Iterator[Json]:
    """Gemini, if it is asked for its thoughts."""
    yield {"role": "assistant", "content": f"<thought>{text}</thought>"}


def typed_parts(text: str) -> Iterator[Json]:
    """Mistral sends lists of typed parts."""
    for piece in pieces(text):
        yield {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": piece}]}]}


# Tool calls


def in_pieces(no_arguments: Sequence[object]) -> Callable[[int, ToolCall], Iterator[Json]]:
    """Send id and name, then the arguments with the index only. `no_arguments` are the fragments if there are none."""

    def called(index: int, call: ToolCall) -> Iterator[Json]:
        first, *rest = ["", *pieces(call.arguments)] if call.arguments else no_arguments
        function = {"name": call.name} if first is ... else {"name": call.name, "arguments": first}
        yield {"tool_calls": [{"index": index, "id": call.call_id, "type": "function", "function": function}]}
        for piece in rest:
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}

    return called


def in_pieces_with_nulls(index: int, call: ToolCall) -> Iterator[Json]:
    """LiteLLM repeats every field as null."""
    function: Json = {"name": call.name, "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": call.call_id, "type": "function", "function": function}]}
    for piece in pieces(call.arguments or "{}"):
        function = {"name": None, "arguments": piece}
        yield {"tool_calls": [{"index": index, "id": None, "type": "function", "function": function}]}


def whole_and_always_0(index: int, call: ToolCall) -> Iterator[Json]:
    """Ollama sends each call in one fragment, always with index 0."""
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    tool_call = {"id": call.call_id, "index": 0, "type": "function", "function": function}
    yield {"role": "assistant", "content": "", "tool_calls": [tool_call]}


def whole_and_signed(index: int, call: ToolCall) -> Iterator[Json]:
    """Gemini signs the first call, and wants the signature back."""
    function = {"name": call.name, "arguments": call.arguments or "{}"}
    tool_call: Json = {"id": call.call_id, "index": index, "type": "function", "function": function}
    if index == 0:
        tool_call["extra_content"] = SIGNATURE
    yield {"role": "assistant", "tool_calls": [tool_call]}


def after_an_empty_object(index: int, call: ToolCall) -> Iterator[Json]:
    """Bedrock begins the arguments with an empty object. This gateway sends the name in two pieces."""
    function = {"name": call.name[:4], "arguments": ""}
    yield {"tool_calls": [{"index": index, "id": call.call_id, "type": "function", "function": function}]}
    yield {"tool_calls": [{"index": index, "function": {"name": call.name[4:], "arguments": "{}"}}]}
    for piece in pieces(call.arguments):
        yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def whole_without_index(index: int, call: ToolCall) -> Iterator[Json]:
    """Send each call in one fragment, without an index and with an empty id."""
    function = {"name": call.name, "arguments": call.arguments or None}
    yield {"tool_calls": [{"id": "", "type": "function", "function": function}]}


# Errors within an answer


def error_event(error: object, *, last: bytes = b"") -> Callable[[Dialect], bytes]:
    return lambda dialect: dialect.event({"error": error}) + last


def openrouter_error(dialect: Dialect) -> bytes:
    error = {"code": "server_error", "message": ERROR_MESSAGE}
    return dialect.chunk({"content": ""}, finish="error", error=error)


def lm_studio_error(dialect: Dialect) -> bytes:
    return b"event: error\n" + dialect.event({"error": {"message": ERROR_MESSAGE}, "message": ERROR_MESSAGE})


def llama_cpp_old_error(dialect: Dialect) -> bytes:
    """An older llama.cpp sends an SSE field named "error"."""
    error = {"code": 500, "message": ERROR_MESSAGE, "type": "server_error"}
    return b"error: " + json.dumps(error).encode() + b"\n\n"


def vllm_old_error(dialect: Dialect) -> bytes:
    error = {"object": "error", "message": ERROR_MESSAGE, "type": "InternalServerError", "param": None, "code": 500}
    return dialect.event(error) + b"data: [DONE]\n\n"


def minimax_error(dialect: Dialect) -> bytes:
    return dialect.event({"choices": None, "base_resp": {"status_code": 1013, "status_msg": ERROR_MESSAGE}})


def gemini_error(dialect: Dialect) -> bytes:
    return dialect.event([{"error": {"code": 500, "message": ERROR_MESSAGE, "status": "INTERNAL"}}])


def gateway_error(dialect: Dialect) -> bytes:
    return dialect.event({"code": 50001, "msg": ERROR_MESSAGE})


# The servers


def openai_error(message: str, *, param: str | None = None, code: object = None, type_: str = "") -> Json:
    return {
        "error": {"message": message, "type": type_ or "invalid_request_error", "param": param, "code": code},
    }


def head(call_id: str, model: str, **more: object) -> Json:
    return {"id": call_id, "object": "chat.completion.chunk", "created": 1_750_000_000, "model": model, **more}


OPENAI = Dialect(
    "OpenAI",
    encode_reasoning=None,
    encode_call=in_pieces(["", "{}"]),
    encode_error=error_event({"message": ERROR_MESSAGE, "type": "server_error", "param": None, "code": None}),
    head=head("chatcmpl-B9", "gpt-4o", system_fingerprint="fp_1", service_tier="default", usage=None),
    first_delta={"role": "assistant", "content": "", "refusal": None},
    choice_fields={"logprobs": None},
    refuses={
        "tools": Refused(
            400,
            openai_error(
                "Unsupported parameter: 'tools' is not supported with this model.",
                param="tools",
                code="unsupported_parameter",
            ),
        ),
        "stream_options": Refused(400, openai_error("Unrecognized request argument supplied: stream_options")),
        "temperature": Refused(
            400,
            openai_error(
                "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is "
                "supported.",
                param="temperature",
                code="unsupported_value",
            ),
        ),
        "system": Refused(
            400,
            openai_error(
                "Unsupported value: 'messages[0].role' does not support 'system' with this model.",
                param="messages[0].role",
                code="unsupported_value",
            ),
        ),
        "overflow": Refused(
            400,
            openai_error(
                "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens. "
                "Please reduce the length of the messages.",
                param="messages",
                code="context_length_exceeded",
            ),
        ),
        "busy": Refused(
            429,
            openai_error(
                "Rate limit reached for gpt-4o in organization org-1 on requests per min (RPM): Limit 3, Used 3, "
                "Requested 1. Please try again in 20s. Visit https://platform.openai.com/account/rate-limits to learn "
                "more. You can increase your rate limit by adding a payment method to your account at "
                "https://platform.openai.com/account/billing.",
                code="rate_limit_exceeded",
                type_="requests",
            ),
            {"Retry-After": "0"},
        ),
        "unknown model": Refused(
            404, openai_error("The model `x` does not exist or you do not have access to it.", code="model_not_found")
        ),
    },
)

OLLAMA = Dialect(
    "Ollama",
    encode_reasoning=reasoning,
    encode_call=whole_and_always_0,
    encode_error=error_event({"message": ERROR_MESSAGE, "type": "api_error", "param": None, "code": None}),
    head=head("chatcmpl-719", "qwen3", system_fingerprint="fp_ollama"),
    first_delta={"role": "assistant", "content": ""},
    refuses={
        "tools": Refused(400, openai_error("registry.ollama.ai/library/gemma:latest does not support tools")),
        "overflow": Refused(400, openai_error("the input length exceeds the context length")),
        "busy": Refused(
            503, openai_error("server busy, please try again.  maximum pending requests exceeded", type_="api_error")
        ),
        "unknown model": Refused(404, openai_error('model "x" not found, try pulling it first', type_="not_found")),
    },
)

OLLAMA_OLD = replace(
    OLLAMA, name="Ollama, older", encode_reasoning=think_tags, usage_in="last chunk", first_delta=None, refuses={}
)

LLAMA_CPP = Dialect(
    "llama.cpp",
    encode_reasoning=reasoning_content,
    encode_call=in_pieces(["{", "}"]),
    encode_error=error_event({"code": 500, "message": ERROR_MESSAGE, "type": "server_error"}),
    head=head("chatcmpl-XR", "gpt-oss", system_fingerprint="b6000"),
    first_delta={"role": "assistant", "content": None},
    usage_fields={"timings": {"prompt_n": TOKENS_IN, "predicted_n": TOKENS_OUT, "predicted_per_second": 52.0}},
    refuses={
        "tools": Refused(
            500, {"error": {"code": 500, "message": "tools param requires --jinja flag", "type": "server_error"}}
        ),
        "system": Refused(
            500,
            {
                "error": {
                    "code": 500,
                    "message": "\n------------\nWhile executing CallExpression at line 1, column 67 in source:\n"
                    "...{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not s..."
                    "\n                                                   ^\n"
                    "Error: Jinja Exception: System role not supported",
                    "type": "server_error",
                }
            },
        ),
        "overflow": Refused(
            400,
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size, try increasing it",
                    "type": "exceed_context_size_error",
                    "n_prompt_tokens": 4476,
                    "n_ctx": 4096,
                }
            },
        ),
        "busy": Refused(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    },
)

LLAMA_CPP_OLD = replace(
    LLAMA_CPP,
    name="llama.cpp, older",
    encode_reasoning=think_tags_in_halves,
    encode_call=whole_without_index,
    encode_error=llama_cpp_old_error,
    usage_in="last chunk",
    first_delta=None,
    sends_done=False,
    refuses={},
)

VLLM = Dialect(
    "vLLM",
    encode_reasoning=reasoning_content,
    encode_call=in_pieces([..., "{}"]),
    encode_error=error_event(
        {"message": ERROR_MESSAGE, "type": "InternalServerError", "param": None, "code": 500}, last=b"data: [DONE]\n\n"
    ),
    head=head("chatcmpl-5f", "qwen3"),
    choice_fields={"logprobs": None, "stop_reason": None},
    refuses={
        "tools": Refused(
            400,
            openai_error(
                '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
                type_="BadRequestError",
                code=400,
            ),
        ),
        "stream_options": Refused(
            400,
            {
                "object": "error",
                "message": "[{'type': 'extra_forbidden', 'loc': ('body', 'stream_options'), 'msg': 'Extra inputs are "
                "not permitted', 'input': {'include_usage': True}}]",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
        ),
        "system": Refused(400, openai_error("System role not supported", type_="BadRequestError", code=400)),
        "overflow": Refused(
            400,
            openai_error(
                "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4500 in the "
                "messages, 500 in the completion). Please reduce the length of the messages or completion.",
                type_="BadRequestError",
                code=400,
            ),
        ),
        "unknown model": Refused(
            404, openai_error("The model `x` does not exist.", type_="NotFoundError", param="model", code=404)
        ),
    },
)

VLLM_OLD = replace(VLLM, name="vLLM, older", encode_error=vllm_old_error, refuses={})

LM_STUDIO = Dialect(
    "LM Studio",
    encode_reasoning=lambda text: ({"reasoning": piece} for piece in pieces(text)),
    encode_call=in_pieces([""]),
    encode_error=lm_studio_error,
    head=head("chatcmpl-k3", "qwen3-8b", system_fingerprint="qwen3-8b"),
    first_delta={"role": "assistant"},
    choice_fields={"logprobs": None},
    refuses={
        "system": Refused(
            200,  # LM Studio reports every error of a streamed request in the stream
            b'event: error\ndata: {"error":{"message":"Error rendering prompt with jinja template: \\"System role not '
            b'supported\\". This is usually an issue with the template."},"message":"Error rendering prompt"}\n\n',
        ),
        "overflow": Refused(
            200,
            b'event: error\ndata: {"error":{"message":"Trying to keep the first 9000 tokens when context the overflows.'
            b" However, the model is loaded with context length of only 4096 tokens, which is not enough. Try to "
            b'load the model with a larger context length, or provide a shorter input"},"message":"Trying"}\n\n',
        ),
        "unknown model": Refused(404, openai_error('Model "x" not found.', param="model", code="model_not_found")),
    },
)

LM_STUDIO_OLD = replace(LM_STUDIO, name="LM Studio, older", encode_reasoning=think_tags, usage_in="nowhere", refuses={})

OPENROUTER = Dialect(
    "OpenRouter",
    encode_reasoning=reasoning_twice,
    encode_call=in_pieces(["", ""]),
    encode_error=openrouter_error,
    head=head("gen-17", "deepseek/deepseek-r1", provider="DeepInfra"),
    first_delta=None,
    choice_fields={"native_finish_reason": None, "logprobs": None},
    keep_alive=b": OPENROUTER PROCESSING\n\n",
    refuses={
        "tools": Refused(
            404,
            {
                "error": {
                    "message": "No endpoints found that support tool use. To learn more about provider routing, visit: "
                    "https://openrouter.ai/docs/provider-routing",
                    "code": 404,
                }
            },
        ),
        "system": Refused(
            400,
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 400,
                    "metadata": {
                        "raw": '{"error": {"code": 400, "message": "Developer instruction is not enabled for '
                        'models/gemma-3-27b-it", "status": "INVALID_ARGUMENT"}}',
                        "provider_name": "Google AI Studio",
                    },
                }
            },
        ),
        "overflow": Refused(
            400,
            {
                "error": {
                    "message": "This endpoint's maximum context length is 8192 tokens. However, you requested about "
                    "9000 tokens (9000 of text input). Please reduce the length of either one, or use the "
                    '"middle-out" transform to compress your prompt automatically.',
                    "code": 400,
                    "metadata": {"provider_name": None},
                }
            },
        ),
        "busy": Refused(
            429,
            {
                "error": {
                    "message": "Provider returned error",
                    "code": 429,
                    "metadata": {
                        "raw": "x is temporarily rate-limited upstream. Please retry shortly, or add your own key to "
                        "accumulate your rate limits: https://openrouter.ai/settings/integrations",
                        "provider_name": "Chutes",
                    },
                }
            },
            {"Retry-After": "0"},
        ),
        "unknown model": Refused(400, {"error": {"message": "x is not a valid model ID", "code": 400}}),
    },
)

DEEPSEEK = Dialect(
    "DeepSeek",
    encode_reasoning=deepseek_reasoning,
    encode_call=in_pieces(["", "{}"]),
    encode_error=error_event({"message": ERROR_MESSAGE, "type": "server_error", "param": None, "code": "server_error"}),
    head=head("930c60df", "deepseek-chat", system_fingerprint="fp_0623"),
    usage_in="last chunk",
    first_delta={"role": "assistant", "content": None, "reasoning_content": ""},
    choice_fields={"logprobs": None},
    keep_alive=b": keep-alive\n\n",
    refuses={
        "tools": Refused(
            400,
            openai_error("deepseek-reasoner does not support Function Calling", code="invalid_request_error"),
        ),
        "overflow": Refused(
            400,
            openai_error(
                "This model's maximum context length is 131072 tokens. However, you requested 140000 tokens (140000 in "
                "the messages, 0 in the completion). Please reduce the length of the messages or completion.",
                code="invalid_request_error",
            ),
        ),
        "busy": Refused(429, openai_error("Rate limit reached", type_="rate_limit"), {"Retry-After": "0"}),
        "unknown model": Refused(400, openai_error("Model Not Exist", code="invalid_request_error")),
    },
)

LITELLM = Dialect(
    "LiteLLM",
    encode_reasoning=reasoning_content,
    encode_call=in_pieces_with_nulls,
    encode_error=error_event({"message": ERROR_MESSAGE, "type": "None", "param": "None", "code": "500"}),
    head=head("chatcmpl-e4", "gemma"),
    first_delta={"role": "assistant", "content": ""},
    refuses={
        "tools": Refused(
            400,
            openai_error(
                "litellm.UnsupportedParamsError: ollama does not support parameters: ['tools'], for model=gemma. To "
                "drop these, set `litellm.drop_params=True` or for proxy:\n\n`litellm_settings:\n drop_params: true`\n"
                ". \n If you want to use these params dynamically send allowed_openai_params=['tools'] in your "
                "request.. Received Model Group=gemma",
                type_="None",
                code="400",
            ),
        ),
        "temperature": Refused(
            400,
            openai_error(
                "litellm.UnsupportedParamsError: gpt-5 models (including gpt-5-codex) don't support temperature=0.7. "
                "Only temperature=1 is supported. To drop unsupported params set `litellm.drop_params = True`",
                type_="None",
                code="400",
            ),
        ),
        "overflow": Refused(
            400,
            openai_error(
                "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: "
                "OpenAIException - This model's maximum context length is 8192 tokens.",
                code="400",
            ),
        ),
        "busy": Refused(
            429,
            openai_error(
                "litellm.RateLimitError: RateLimitError: OpenAIException - slow down", type_="throttling_error"
            ),
            {"Retry-After": "0"},
        ),
        "unknown model": Refused(
            400,
            openai_error(
                "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models "
                "for your key.",
                param="model",
                code="400",
            ),
        ),
    },
)

LLAMA_CPP_PYTHON = Dialect(
    "llama-cpp-python",
    encode_reasoning=think_tags_in_halves,
    encode_call=in_pieces(["", "{}"]),
    encode_error=error_event({"message": ERROR_MESSAGE, "type": "internal_server_error", "param": None, "code": None}),
    head=head("chatcmpl-4a", "model.gguf"),
    usage_in="nowhere",
    first_delta={"role": "assistant"},
    keep_alive=b": ping - 2025-06-01 12:00:00+00:00\r\n\r\n",
    line_end=b"\r\n",
    refuses={
        "stream_options": Refused(
            422,
            {
                "detail": [
                    {
                        "type": "extra_forbidden",
                        "loc": ["body", "stream_options"],
                        "msg": "Extra inputs are not permitted",
                        "input": {"include_usage": True},
                    }
                ]
            },
        ),
        "overflow": Refused(
            400,
            openai_error(
                "This model's maximum context length is 512 tokens. However, you requested 900 tokens (900 in the "
                "messages, None in the completion). Please reduce the length of the messages or completion.",
                param="messages",
                code="context_length_exceeded",
            ),
        ),
    },
)

GATEWAY = Dialect(
    "a gateway",
    encode_reasoning=reasoning,
    encode_call=in_pieces([None]),
    encode_error=error_event(ERROR_MESSAGE),
    head=head("1", "x"),
    usage_in="last chunk",
    keep_alive=b"data:: keepalive\n\nevent:ping\n\n:\n\n",
    data=b"data:",
)

MISTRAL = Dialect(
    "Mistral",
    encode_reasoning=typed_parts,
    encode_call=in_pieces(["{}"]),
    encode_error=error_event({"object": "error", "message": ERROR_MESSAGE, "type": "internal_error", "code": "1000"}),
    head=head("d1", "magistral-small-2509", p="abcd"),
    usage_in="last chunk",
    refuses={
        "stream_options": Refused(
            422,
            {
                "object": "error",
                "message": {
                    "detail": [
                        {
                            "type": "extra_forbidden",
                            "loc": ["body", "stream_options"],
                            "msg": "Extra inputs are not permitted",
                            "input": {"include_usage": True},
                        }
                    ]
                },
                "type": "invalid_request_error",
                "param": None,
                "code": None,
            },
        ),
        "order": Refused(
            400,
            {
                "object": "error",
                "message": "Unexpected role 'user' after role 'tool'",
                "type": "invalid_request_message_order",
                "param": None,
                "code": "3230",
            },
        ),
    },
)

GEMINI = Dialect(
    "Gemini",
    encode_reasoning=thought_tags,
    encode_call=whole_and_signed,
    encode_error=gemini_error,
    head=head("aB-1", "gemini-3-flash"),
    usage_in="last chunk",
    first_delta=None,
    refuses={
        "stream_options": Refused(
            400,
            b'[{\n  "error": {\n    "code": 400,\n    "message": "Invalid JSON payload received. Unknown name '
            b'\\"stream_options\\": Cannot find field.",\n    "status": "INVALID_ARGUMENT"\n  }\n}\n]',
        ),
        "system": Refused(
            400,
            {
                "error": {
                    "code": 400,
                    "message": "Developer instruction is not enabled for models/gemma-3-27b-it",
                    "status": "INVALID_ARGUMENT",
                }
            },
        ),
    },
)

MINIMAX = Dialect(
    "MiniMax",
    encode_reasoning=think_tags,
    encode_call=in_pieces(["{}"]),
    encode_error=minimax_error,
    head=head("05", "MiniMax-M2", base_resp={"status_code": 0, "status_msg": ""}, input_sensitive=False),
    repeats_text=True,
)

BEDROCK = Dialect(
    "a gateway to Bedrock",
    encode_reasoning=lambda text: ({"content": piece} for piece in pieces(f"<reasoning>{text}</reasoning>\n")),
    encode_call=after_an_empty_object,
    encode_error=gateway_error,
    head=head("br", "anthropic.claude"),
    usage_in="nowhere",
    refuses={
        "temperature": Refused(400, {"statusCode": 400, "message": ["property temperature should not exist"]}),
        "tools": Refused(400, {"error": "Bad Request", "message": "This model doesn't support tool use."}),
    },
)

DIALECTS = (
    OPENAI,
    OLLAMA,
    OLLAMA_OLD,
    LLAMA_CPP,
    LLAMA_CPP_OLD,
    VLLM,
    VLLM_OLD,
    LM_STUDIO,
    LM_STUDIO_OLD,
    OPENROUTER,
    DEEPSEEK,
    LITELLM,
    LLAMA_CPP_PYTHON,
    GATEWAY,
    MISTRAL,
    GEMINI,
    MINIMAX,
    BEDROCK,
)


def that_refuse(*whats: str) -> list[tuple[Dialect, str]]:
    """Return the pairs of a dialect and the thing among `whats` that it refuses."""
    return [(dialect, what) for dialect in DIALECTS for what in whats if what in dialect.refuses]
