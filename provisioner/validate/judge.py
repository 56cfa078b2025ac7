"""Whether an answer is what a server of this kind must say. Pure: answer in, (passed, detail) out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from provisioner.validate.api import Answer

Judgement = tuple[bool, str]
REASONING_KEYS = ("reasoning", "reasoning_content")  # newer and older versions of vLLM
FINISHED = ("stop", "length")
END_OF_THINKING = "</think>"
MOST_CALLS = 8
"""of one answer: one is asked for"""
ROW = 8
"""characters from which on an answer of one character alone counts as broken: what a model that computes NaN says"""
METRICS = (
    ("vllm:num_requests_running",),
    ("vllm:num_requests_waiting",),
    ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),  # newer and older versions of vLLM
    ("vllm:prompt_tokens_total",),
    ("vllm:generation_tokens_total",),
)
"""what dashboards and alerts are made of, each under one of its names"""
_THINKING = re.compile(r"</?think>")
_SHORT = 160


def models(answer: Answer, name: str) -> Judgement:
    """/v1/models lists `name`."""
    data = json_of(answer)
    entries = data.get("data") if isinstance(data, dict) else None
    if answer.status != 200 or not isinstance(entries, list):
        return False, f"HTTP {answer.status}, expected a list of models"
    names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    return name in names, f"serves {', '.join(map(str, names)) or 'nothing'}; expected {name}"


def context_of(answer: Answer, name: str) -> int | None:
    """How many tokens a request may have, as /v1/models tells it; None when it does not."""
    data = json_of(answer)
    entries = data.get("data") if isinstance(data, dict) else None
    for entry in entries if isinstance(entries, list) else ():
        length = entry.get("max_model_len") if isinstance(entry, dict) and entry.get("id") == name else None
        if isinstance(length, int) and length > 0:
            return length
    return None


def refused(answer: Answer, sent: str) -> Judgement:
    """A request is turned away; `sent` says with what key."""
    return answer.status == 401, f"HTTP {answer.status} {sent}; expected 401"


def chat(answer: Answer) -> Judgement:
    """A plain chat answer has text that says something, and a finish reason."""
    if answer.status != 200:
        return False, f"HTTP {answer.status}, expected 200"
    text = text_of(message_of(answer))
    if not text:
        return False, "neither content nor reasoning in the answer"
    if _one_character(text):
        return False, f"the answer is one character again and again: {text[-ROW:]!r}"
    finish = finish_of(answer)
    if finish not in FINISHED:
        return False, f"finish_reason is {finish!r}, expected one of {', '.join(FINISHED)}"
    return True, f"{len(text)} characters, finish_reason {finish}"


def usage(counts: Any, limit: int) -> Judgement:
    """The token counts of an answer fit together and keep to `limit`."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    values: list[Any] = [counts.get(name) if isinstance(counts, Mapping) else None for name in names]
    for name, value in zip(names, values, strict=True):
        if not _is_count(value):
            return False, f"usage.{name} is {value!r}, expected a count"
    asked, made, total = map(int, values)
    if asked + made != total:
        return False, f"{asked} prompt and {made} answer tokens are not the {total} that total_tokens says"
    return made <= limit, f"{asked} + {made} = {total} tokens, {limit} allowed"


def full_length(answer: Answer, limit: int) -> Judgement:
    """An answer that may not end by itself is cut at exactly `limit` tokens, and says so."""
    if answer.status != 200:
        return False, f"HTTP {answer.status}, expected 200"
    made, finish = (usage_of(answer) or {}).get("completion_tokens"), finish_of(answer)
    return (made, finish) == (limit, "length"), f"{made} tokens, finish_reason {finish}; expected {limit} and length"


def reasoning(message: Mapping[str, Any]) -> Judgement:
    """The thinking of a message (or of all deltas of a stream) is in a field of its own."""
    content, key = str(message.get("content") or ""), reasoning_key(message)
    if mark := _THINKING.search(content):
        return False, f"{mark[0]} is in the content: the reasoning parser does not fit the model"
    if key is None:
        return (
            False,
            f"no thinking in {' or '.join(REASONING_KEYS)}, though it was asked for: is the parser the model's?",
        )
    if END_OF_THINKING in str(message[key]):
        return False, f"{END_OF_THINKING} is in {key}: its end is not seen, the parser does not fit"
    return True, f"{len(message[key])} characters in {key}, {len(content)} in content"


class Stream:
    """A streamed chat answer from its lines."""

    def __init__(self, lines: list[str]) -> None:
        self.problem = ""
        self.chunks = 0
        """those with text"""
        self.usage: Any = None
        self.finish: Any = None
        self.message: dict[str, Any] = {}
        """content, thinking and calls of tools, all deltas put together"""
        self.call_chunks = 0
        """those with a piece of a call"""
        payloads = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
        if not payloads or payloads[-1] != "[DONE]":
            self.problem = f"the stream ended without [DONE] after {len(payloads)} chunks"
            return
        for payload in payloads[:-1]:
            self._add(payload)
        if not self.problem and not self.chunks and not self.call_chunks:
            self.problem = f"{len(payloads) - 1} chunks and no text in any"

    def judged(self) -> Judgement:
        """It has chunks with text and ends with [DONE]."""
        if self.problem:
            return False, self.problem
        text = text_of(self.message)
        if _one_character(text):
            return False, f"the streamed answer is one character again and again: {text[-1]!r}"
        return True, f"{self.chunks} chunks with text, [DONE]"

    def _add(self, payload: str) -> None:
        try:
            chunk = json.loads(payload)
        except ValueError:
            self.problem = self.problem or f"a chunk is not JSON: {payload[:200]!r}"
            return
        if not isinstance(chunk, dict) or "error" in chunk:
            self.problem = self.problem or f"the stream carries an error: {payload[:200]}"
            return
        self.usage = chunk.get("usage") or self.usage
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self.finish = choice.get("finish_reason") or self.finish
            for piece in delta.get("tool_calls") or ():
                self._add_call(piece)
            # A server that speaks both names of the thinking says it twice: once is enough.
            key = "content" if delta.get("content") else reasoning_key(delta)
            if key is not None:
                self.message[key] = self.message.get(key, "") + str(delta[key])
                self.chunks += 1

    def _add_call(self, piece: Any) -> None:
        """Name and arguments of a call come in pieces, told apart by the call's index."""
        if not isinstance(piece, dict):
            self.problem = self.problem or f"a piece of a call is no object: {piece!r}"
            return
        self.call_chunks += 1
        calls = self.message.setdefault("tool_calls", [])
        index = piece.get("index") or 0
        while len(calls) <= index < MOST_CALLS:
            calls.append({"function": {"name": "", "arguments": ""}})
        if index >= len(calls):
            self.problem = self.problem or f"a piece of call number {index}"
            return
        for name in ("name", "arguments"):
            calls[index]["function"][name] += (piece.get("function") or {}).get(name) or ""


def tool_call(answer: Answer, function: str, parameter: str) -> Judgement:
    """The answer is a call of `function` with `parameter`."""
    if answer.status != 200:
        return False, f"HTTP {answer.status}: {error_of(answer)}"
    return called(message_of(answer), finish_of(answer), function, parameter)


def called(message: Mapping[str, Any], finish: Any, function: str, parameter: str) -> Judgement:
    """A message (or all deltas of a stream) is a call of `function` with `parameter`."""
    calls = message.get("tool_calls")
    if not calls:
        if function in str(message.get("content") or ""):
            return False, "the call is in the content: the tool call parser does not fit the model"
        words = _shortened(text_of(message))
        return False, f"the model calls no tool (finish_reason {finish}) but says {words!r}"
    first = calls[0].get("function") if isinstance(calls, list) and isinstance(calls[0], dict) else None
    name, text = (first or {}).get("name"), (first or {}).get("arguments")
    if name != function:
        return False, f"a call of {name!r}, expected {function}"
    try:
        arguments = json.loads(text or "")
    except (ValueError, TypeError):
        return False, f"the arguments of the call are not JSON: {text!r}"
    if not isinstance(arguments, dict) or not isinstance(arguments.get(parameter), str):
        return False, f"the arguments of the call lack {parameter}: {text}"
    return True, f"{function}({text})"


def too_long(answer: Answer, tokens: int) -> Judgement:
    """A prompt that is too long is refused with an error that says so, not cut off, and not the server's death."""
    words = error_of(answer)
    refused_ = 400 <= answer.status < 500 and answer.status not in (401, 404)
    detail = f"HTTP {answer.status} for a prompt of {tokens} words or more"
    if not refused_:
        return False, f"{detail}, expected an error"
    return bool(words), f"{detail}: {_shortened(words)}" if words else f"{detail} without a message"


def metrics(answer: Answer) -> Judgement:
    """/metrics has what dashboards need, and has counted the requests before."""
    if answer.status != 200:
        return False, f"HTTP {answer.status}, expected 200"
    values: dict[str, float] = {}
    for line in answer.text.splitlines():
        found = re.fullmatch(r"([A-Za-z_:][\w:]*)(?:\{.*\})? (\S+)", line)
        if found:
            values[found[1]] = values.get(found[1], 0.0) + _float(found[2])
    missing = [" or ".join(names) for names in METRICS if not set(names) & values.keys()]
    if missing:
        return False, f"{', '.join(missing)} missing among {len(values)} names"
    made = values["vllm:generation_tokens_total"]
    return made > 0, f"{len(values)} names, {made:.0f} tokens generated so far"


def message_of(answer: Answer) -> dict[str, Any]:
    """The first choice's message; {} when there is none."""
    message = _choice(answer).get("message")
    return message if isinstance(message, dict) else {}


def finish_of(answer: Answer) -> Any:
    """Why the first choice ended."""
    return _choice(answer).get("finish_reason")


def usage_of(answer: Answer) -> Any:
    """The token counts of an answer; None when it has none."""
    data = json_of(answer)
    return data.get("usage") if isinstance(data, dict) else None


def error_of(answer: Answer) -> str:
    """The message of an error, in the shape of newer or older versions; "" when there is none."""
    data = json_of(answer)
    error = data.get("error", data) if isinstance(data, dict) else None
    words = error.get("message") if isinstance(error, dict) else error
    return " ".join(words.split()) if isinstance(words, str) else ""


def text_of(message: Mapping[str, Any]) -> str:
    """Content of a message, or its reasoning where there is no content; "" when neither."""
    key = "content" if message.get("content") else reasoning_key(message)
    return str(message[key]) if key else ""


def reasoning_key(message: Mapping[str, Any]) -> str | None:
    """Under which name a message has thinking; None when it has none."""
    return next((key for key in REASONING_KEYS if message.get(key)), None)


def json_of(answer: Answer) -> Any:
    """The body as JSON; None when it is not."""
    try:
        return json.loads(answer.text)
    except ValueError:
        return None


def _choice(answer: Answer) -> dict[str, Any]:
    data = json_of(answer)
    choices = data.get("choices") if isinstance(data, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    return choice if isinstance(choice, dict) else {}


def _one_character(text: str) -> bool:
    """Whether the answer, thinking aside, is a row of one character."""
    characters = "".join(text.rpartition("</think>")[2].split())
    return len(characters) >= ROW and len(set(characters)) == 1


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _shortened(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[:_SHORT]}…"


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
