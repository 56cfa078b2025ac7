"""Requests in, response objects out: the JSON shapes of vLLM 0.12's OpenAI-compatible server."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import answers
from .answers import END_OF_THINKING, Answer


class RequestError(Exception):
    """A request that the server refuses: HTTP status, OpenAI error type, message."""

    def __init__(self, status: int, kind: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": status}}


@dataclass(frozen=True)
class Rules:
    """What the server was started with, as far as requests are concerned."""

    model: str
    names: tuple[str, ...]
    context: int
    reasoning_parser: str
    auto_tools: bool
    wrong: bool


@dataclass(frozen=True)
class Generation:
    """A checked request with its answer: all that is left is to send it at the right moments."""

    id: str
    created: int
    chat: bool
    model: str
    prompt_tokens: int
    answer: Answer
    parsed: bool  # thinking goes into its own field
    stream: bool
    usage_in_stream: bool


def plan(body: dict[str, Any], *, chat: bool, rules: Rules) -> Generation:
    """Check the request as vLLM does and decide the whole answer.  Raises RequestError."""
    model = body.get("model") or rules.names[0]
    if model not in rules.names:
        raise RequestError(404, "NotFoundError", f"The model `{model}` does not exist.", "model")
    prompt = _prompt(body, chat)
    prompt_tokens = len(answers.split_tokens(prompt)) + (4 if chat else 0)
    limit = _limit(body, chat, prompt_tokens, rules.context)
    tool = _tool(body, rules) if chat else None
    if tool:
        answer = answers.tool_call(prompt, tool)
    else:
        thinking = (body.get("chat_template_kwargs") or {}).get("enable_thinking", True)
        answer = answers.answer_tokens(
            prompt,
            think=chat and bool(thinking),
            limit=limit,
            ignore_eos=bool(body.get("ignore_eos")),
            wrong=rules.wrong,
        )
    return Generation(
        id=f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}",
        created=int(time.time()),
        chat=chat,
        model=model,
        prompt_tokens=prompt_tokens,
        answer=answer,
        parsed=bool(rules.reasoning_parser),
        stream=bool(body.get("stream")),
        usage_in_stream=bool((body.get("stream_options") or {}).get("include_usage")),
    )


def response(gen: Generation) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    answer = gen.answer
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": answer.finish_reason, "stop_reason": None}
    if not gen.chat:
        choice |= {"text": "".join(answer.text), "token_ids": None, "prompt_logprobs": None}
    else:
        reasoning, content = _split(gen)
        calls = [_call(answer.tool_call)] if answer.tool_call else []
        choice["message"] = {
            "role": "assistant", "content": content, "refusal": None, "annotations": None, "audio": None,
            "function_call": None, "tool_calls": calls, "reasoning": reasoning, "reasoning_content": reasoning,
        }  # fmt: skip
    return _envelope(gen, "chat.completion" if gen.chat else "text_completion", [choice]) | {"usage": usage(gen)}


def chunks(gen: Generation, moments: Iterator[int]) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed answer: one per token, sent as `moments` lets them."""
    kind = "chat.completion.chunk" if gen.chat else "text_completion"
    if gen.chat:
        yield _chunk(gen, kind, {"role": "assistant", "content": ""}, None)
    pieces = list(_pieces(gen))
    for index in moments:
        if index < len(pieces):
            yield _chunk(gen, kind, pieces[index], None)
    yield _chunk(gen, kind, {}, gen.answer.finish_reason)
    if gen.usage_in_stream:
        yield _envelope(gen, kind, []) | {"usage": usage(gen)}


def usage(gen: Generation) -> dict[str, Any]:
    """Token counts of the request."""
    made = gen.answer.tokens
    return {
        "prompt_tokens": gen.prompt_tokens,
        "total_tokens": gen.prompt_tokens + made,
        "completion_tokens": made,
        "prompt_tokens_details": None,
    }


def _prompt(body: dict[str, Any], chat: bool) -> str:
    if chat:
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise RequestError(400, "BadRequestError", "'messages' is a required property", "messages")
        return answers.prompt_of(messages)
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return " ".join(str(part) for part in prompt)
    if not isinstance(prompt, str) or not prompt:
        raise RequestError(400, "BadRequestError", "Either prompt or prompt_embeds must be provided", "prompt")
    return prompt


def _limit(body: dict[str, Any], chat: bool, prompt_tokens: int, context: int) -> int:
    if prompt_tokens >= context:
        raise RequestError(
            400,
            "BadRequestError",
            f"This model's maximum context length is {context} tokens. However, your request has {prompt_tokens} "
            "input tokens. Please reduce the length of the input messages.",
        )
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    if asked is None:
        return context - prompt_tokens if chat else 16
    if not isinstance(asked, int) or asked < 1:
        raise RequestError(400, "BadRequestError", f"max_tokens must be at least 1, got {asked}.", "max_tokens")
    if prompt_tokens + asked > context:
        raise RequestError(
            400,
            "BadRequestError",
            f"'max_tokens' or 'max_completion_tokens' is too large: {asked}. This model's maximum context length is "
            f"{context} tokens and your request has {prompt_tokens} input tokens ({asked} > {context} - "
            f"{prompt_tokens}).",
        )
    return asked


def _tool(body: dict[str, Any], rules: Rules) -> dict[str, Any] | None:
    tools, choice = body.get("tools") or [], body.get("tool_choice", "auto")
    if not tools or choice == "none":
        return None
    if choice == "auto" and not rules.auto_tools:
        message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        raise RequestError(400, "BadRequestError", message)
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        return next((tool for tool in tools if tool["function"]["name"] == name), None)
    return dict(tools[0])


def _split(gen: Generation) -> tuple[str | None, str | None]:
    thinking, text = "".join(gen.answer.thinking), "".join(gen.answer.text)
    if not gen.parsed:
        return None, (thinking + text) or None
    return thinking.removesuffix(f"\n{END_OF_THINKING}") or None, text.lstrip() or None


def _pieces(gen: Generation) -> Iterator[dict[str, Any]]:
    if not gen.chat:
        yield from ({"text": token} for token in gen.answer.text)
        return
    for token in gen.answer.thinking:
        if not gen.parsed:
            yield {"content": token}
        elif not token.endswith(END_OF_THINKING):
            yield {"reasoning": token, "reasoning_content": token}
        else:
            yield {"content": ""}  # the mark itself is a token, and seen by nobody
    yield from ({"content": token} for token in gen.answer.text)
    if gen.answer.tool_call:
        yield {"tool_calls": [{"index": 0, **_call(gen.answer.tool_call)}]}


def _call(call: dict[str, str]) -> dict[str, Any]:
    return {"id": f"chatcmpl-tool-{uuid.uuid4().hex[:16]}", "type": "function", "function": call}


def _chunk(gen: Generation, kind: str, piece: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice: dict[str, Any] = {"index": 0, "logprobs": None, "finish_reason": finish}
    choice |= {"delta": piece} if gen.chat else {"text": piece.get("text", ""), "stop_reason": None}
    return _envelope(gen, kind, [choice])


def _envelope(gen: Generation, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": gen.id, "object": kind, "created": gen.created, "model": gen.model, "choices": choices}
