"""What the stand-in says: tokens are words, answers are canned, and nothing is random."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

END_OF_THINKING = "</think>"
_FILLER = (
    " The", " simulated", " engine", " keeps", " writing", " words", " because", " the", " request", " asked",
    " it", " not", " to", " stop", " early.",
)  # fmt: skip
_KNOWN = (
    (r"capital of france", "The capital of France is Paris."),
    (r"\b2\s*\+\s*2\b|two plus two", "2 + 2 = 4."),
    (r"\b17\s*[*×x]\s*23\b", "17 × 23 = 391."),
)


@dataclass(frozen=True)
class Answer:
    """Tokens in their order: first the thinking, then the text (or a tool call, which is sent as one)."""

    thinking: tuple[str, ...]
    text: tuple[str, ...]
    tool_call: dict[str, str] | None = None
    finish_reason: str = "stop"

    @property
    def tokens(self) -> int:
        """Generated tokens, the end-of-thinking mark included."""
        call = len(split_tokens(json.dumps(self.tool_call))) if self.tool_call else 0
        return len(self.thinking) + len(self.text) + call


def split_tokens(text: str) -> list[str]:
    """A token is a word with the space before it."""
    return re.findall(r"\s*\S+|\s+$", text)


def prompt_of(messages: list[dict[str, Any]]) -> str:
    """The text that a chat template makes of messages, near enough for counting."""
    return "\n".join(f"{message.get('role')}: {_plain(message.get('content'))}" for message in messages)


def answer_tokens(prompt: str, *, think: bool, limit: int, ignore_eos: bool, wrong: bool) -> Answer:
    """The answer to a prompt, cut at `limit` tokens; with `ignore_eos` exactly `limit` tokens long."""
    thinking = split_tokens(f"The user wants an answer. I keep it short.\n{END_OF_THINKING}") if think else []
    words = ["!"] * 24 if wrong else split_tokens(_reply(prompt))
    stream: Iterator[str] = itertools.chain(words, itertools.cycle(_FILLER)) if ignore_eos else iter(words)
    thought = thinking[:limit]
    said = list(itertools.islice(stream, max(limit - len(thought), 0)))
    complete = not ignore_eos and len(thought) == len(thinking) and len(said) == len(words)
    return Answer(tuple(thought), tuple(said), finish_reason="stop" if complete else "length")


def tool_call(prompt: str, tool: dict[str, Any]) -> Answer:
    """A call of the tool, its required parameters filled from the prompt by type."""
    function = tool["function"]
    schema = function.get("parameters") or {}
    wanted = schema.get("required") or list(schema.get("properties", {}))
    arguments = {name: _argument(prompt, schema.get("properties", {}).get(name, {})) for name in wanted}
    call = {"name": function["name"], "arguments": json.dumps(arguments)}
    return Answer((), (), call, finish_reason="tool_calls")


def _reply(prompt: str) -> str:
    for pattern, reply in _KNOWN:
        if re.search(pattern, prompt, re.I):
            return reply
    last = " ".join(prompt.rsplit("user: ", 1)[-1].split()[:12])
    return f"This is provision's simulated engine; it computes no model. It read: {last}"


def _argument(prompt: str, schema: dict[str, Any]) -> Any:
    if schema.get("enum"):
        return schema["enum"][0]
    numbers = re.findall(r"\d+", prompt)
    kind = schema.get("type", "string")
    if kind in {"integer", "number"}:
        return int(numbers[-1]) if numbers else 1
    if kind == "boolean":
        return True
    if kind in {"array", "object"}:
        return [] if kind == "array" else {}
    names = re.findall(r"\b[A-Z][a-z]+\b", prompt)
    return names[-1] if names else "example"


def _plain(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content or ""
