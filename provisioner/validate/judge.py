"""Whether an answer is what a server of this kind must say. Pure: answer in, (passed, detail) out."""

from __future__ import annotations

import json
from typing import Any

from provisioner.validate.api import Answer

REASONING_KEYS = ("reasoning", "reasoning_content")  # newer and older versions of vLLM
FINISHED = ("stop", "length")
ROW = 8
"""characters from which on an answer of one character alone counts as broken: what a model that computes NaN says"""


def models(answer: Answer, name: str) -> tuple[bool, str]:
    """/v1/models lists `name`."""
    data = json_of(answer)
    entries = data.get("data") if isinstance(data, dict) else None
    if answer.status != 200 or not isinstance(entries, list):
        return False, f"HTTP {answer.status}, expected a list of models"
    names = [entry.get("id") for entry in entries if isinstance(entry, dict)]
    return name in names, f"serves {', '.join(map(str, names)) or 'nothing'}; expected {name}"


def refused(answer: Answer) -> tuple[bool, str]:
    """A request without the API key is turned away."""
    return answer.status == 401, f"HTTP {answer.status} without the API key; expected 401"


def chat(answer: Answer, reasoning: bool) -> tuple[bool, str]:
    """A plain chat answer has text, a finish reason and a token count, and no thinking in its content."""
    if answer.status != 200:
        return False, f"HTTP {answer.status}, expected 200"
    data, message = json_of(answer), message_of(answer)
    text = text_of(message)
    if not text:
        return False, "neither content nor reasoning in the answer"
    if reasoning and "</think>" in (message.get("content") or ""):
        return False, "the thinking is in the content: the reasoning parser does not fit the model"
    if _one_character(text):
        return False, f"the answer is one character again and again: {text[-ROW:]!r}"
    finish = data["choices"][0].get("finish_reason")
    if finish not in FINISHED:
        return False, f"finish_reason is {finish!r}, expected one of {', '.join(FINISHED)}"
    tokens = (data.get("usage") or {}).get("completion_tokens")
    if not isinstance(tokens, int) or tokens < 1:
        return False, f"usage.completion_tokens is {tokens!r}, expected a count"
    return True, f"{tokens} tokens, finish_reason {finish}"


def streamed(lines: list[str], reasoning: bool) -> tuple[bool, str]:
    """A streamed chat answer (its lines) has chunks with text, ends with [DONE], and has no thinking in its content."""
    payloads = [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
    if not payloads or payloads[-1] != "[DONE]":
        return False, f"the stream ended without [DONE] after {len(payloads)} chunks"
    pieces: list[str] = []
    content = ""
    for payload in payloads[:-1]:
        try:
            chunk = json.loads(payload)
        except ValueError:
            return False, f"a chunk is not JSON: {payload[:200]!r}"
        if not isinstance(chunk, dict) or "error" in chunk:
            return False, f"the stream carries an error: {payload[:200]}"
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            content += delta.get("content") or ""
            if piece := text_of(delta):
                pieces.append(piece)
    if not pieces:
        return False, f"{len(payloads) - 1} chunks and no text in any"
    if reasoning and "</think>" in content:
        return False, "the thinking is in the streamed content: the reasoning parser does not fit the model"
    if _one_character("".join(pieces)):
        return False, f"the streamed answer is one character again and again: {pieces[-1]!r}"
    return True, f"{len(pieces)} chunks with text, [DONE]"


def _one_character(text: str) -> bool:
    """Whether the answer, thinking aside, is a row of one character."""
    characters = "".join(text.rpartition("</think>")[2].split())
    return len(characters) >= ROW and len(set(characters)) == 1


def message_of(answer: Answer) -> dict[str, Any]:
    """The first choice's message; {} when there is none."""
    data = json_of(answer)
    choices = data.get("choices") if isinstance(data, dict) else None
    message = choices[0].get("message") if isinstance(choices, list) and choices else None
    return message if isinstance(message, dict) else {}


def text_of(message: dict[str, Any]) -> str:
    """Content of a message or delta, or its reasoning where there is no content; "" when neither."""
    for key in ("content", *REASONING_KEYS):
        if value := message.get(key):
            return str(value)
    return ""


def json_of(answer: Answer) -> Any:
    """The body as JSON; None when it is not."""
    try:
        return json.loads(answer.text)
    except ValueError:
        return None
