"""Requests and answers of the simulated engine."""

from __future__ import annotations

from typing import Any

import pytest

from provisioner.lab.sim import protocol
from provisioner.lab.sim.protocol import Rules

RULES = Rules("org/model", ("short",), 100, "nano_v3", True, False)
HELLO = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]},
    },
}


def chat(rules: Rules = RULES, **body: Any) -> dict[str, Any]:
    return protocol.response(protocol.plan({"messages": HELLO, **body}, chat=True, rules=rules))


def message(**body: Any) -> dict[str, Any]:
    found: dict[str, Any] = chat(**body)["choices"][0]["message"]
    return found


def test_thinking_has_its_own_field() -> None:
    answer = chat(model="short")
    said = answer["choices"][0]["message"]
    assert said["reasoning"] == "The user wants an answer. I keep it short."
    assert said["content"] == "The capital of France is Paris."
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {
        "prompt_tokens": 11,
        "completion_tokens": 16,
        "total_tokens": 27,
        "prompt_tokens_details": None,
    }


def test_without_a_parser_the_thinking_stays_in_the_content() -> None:
    plain = Rules("m", ("m",), 100, "", True, False)
    said = chat(rules=plain)["choices"][0]["message"]
    assert said["reasoning"] is None
    assert "</think>" in said["content"]


def test_thinking_can_be_switched_off() -> None:
    said = message(chat_template_kwargs={"enable_thinking": False})
    assert (said["reasoning"], said["content"]) == (None, "The capital of France is Paris.")


def test_max_tokens_cuts_and_says_so() -> None:
    answer = chat(max_tokens=3)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["choices"][0]["message"]["content"] is None
    assert answer["usage"]["completion_tokens"] == 3


@pytest.mark.parametrize("chat_request", [True, False])
def test_ignore_eos_writes_exactly_as_much_as_asked(chat_request: bool) -> None:
    body = {"messages": HELLO, "prompt": "a", "max_tokens": 77, "ignore_eos": True}
    gen = protocol.plan(body, chat=chat_request, rules=RULES)
    assert (gen.answer.tokens, gen.answer.finish_reason) == (77, "length")


def test_streamed_and_plain_say_the_same() -> None:
    gen = protocol.plan(
        {"messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}, chat=True, rules=RULES
    )
    chunks = list(protocol.chunks(gen, iter(range(gen.answer.tokens))))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content") or "" for delta in deltas) == "The capital of France is Paris."
    assert "".join(delta.get("reasoning", "") for delta in deltas) == "The user wants an answer. I keep it short."
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["usage"] == protocol.usage(gen)


def test_a_tool_is_called_with_typed_arguments() -> None:
    answer = chat(messages=[{"role": "user", "content": "Weather in Paris?"}], tools=[TOOL])["choices"][0]
    assert answer["finish_reason"] == "tool_calls"
    assert answer["message"]["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city": "Paris"}'}


def test_tool_choice_none_is_obeyed() -> None:
    assert message(tools=[TOOL], tool_choice="none")["tool_calls"] == []


def test_a_wrong_answer_is_wrong() -> None:
    wrong = Rules("m", ("m",), 100, "x", True, True)
    assert set(chat(rules=wrong)["choices"][0]["message"]["content"]) == {"!"}


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"model": "other"}, 404, "The model `other` does not exist."),
        ({"messages": []}, 400, "'messages' is a required property"),
        ({"max_tokens": 0}, 400, "max_tokens must be at least 1, got 0."),
        ({"max_tokens": -1}, 400, "max_tokens must be at least 1, got -1."),
        (
            {"max_tokens": 90},
            400,
            "'max_tokens' or 'max_completion_tokens' is too large: 90. This model's maximum context length is 100 "
            "tokens and your request has 11 input tokens (90 > 100 - 11).",
        ),
        (
            {"messages": [{"role": "user", "content": "word " * 200}]},
            400,
            "This model's maximum context length is 100 tokens. However, your request has 206 input tokens. Please "
            "reduce the length of the input messages.",
        ),
    ],
)
def test_refusals(body: dict[str, Any], status: int, text: str) -> None:
    with pytest.raises(protocol.RequestError) as refused:
        chat(**body)
    assert refused.value.status == status
    assert refused.value.body["error"]["message"] == text


def test_auto_tools_need_the_flag() -> None:
    with pytest.raises(protocol.RequestError) as refused:
        chat(rules=Rules("m", ("m",), 100, "", False, False), tools=[TOOL])
    assert (
        str(refused.value) == '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    )
