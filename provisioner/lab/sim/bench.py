"""`vllm bench serve`: send random prompts over HTTP, measure, print vLLM's block and write its JSON."""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import random
import sys
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from . import BANNER, weights
from .benchreport import result_of, write_result

_WORDS = ("alpha", "bravo", "delta", "echo", "golf", "hotel", "india", "kilo", "lima", "mike", "oscar", "papa")


class BenchError(Exception):
    """The benchmark cannot run; exit 1."""


@dataclass
class Outcome:
    """One request. Times in seconds; `started` on the monotonic clock."""

    started: float
    prompt_tokens: int
    ok: bool = False
    latency: float = 0.0
    ttft: float = 0.0
    itl: list[float] = field(default_factory=list)
    output_tokens: int = 0
    text: str = ""
    error: str = ""


def bench(options: argparse.Namespace) -> int:
    """Exit code: 0 even when every request failed, as with vLLM; 1 when the server never became ready."""
    print_line(f"vllm bench serve — {BANNER}")
    target = _target(options)
    prompts = [_prompt(options, number) for number in range(options.num_prompts or 1000)]
    tokens = options.random_output_len or 128
    length = options.random_input_len or 1024

    def ask(prompt: str) -> Outcome:
        return _request(target, options, prompt, length, tokens)

    _ready(options, lambda: ask(prompts[0]))
    if options.num_warmups:
        print_line(f"Warming up with {options.num_warmups} requests...")
        _spread(ask, [prompts[0]] * options.num_warmups, options.max_concurrency, 0.0)
        print_line("Warmup run completed.")
    print_line("Starting main benchmark run...")
    rate = options.request_rate if options.request_rate is not None else float("inf")
    print_line(f"Traffic request rate: {rate}")
    print_line(f"Maximum request concurrency: {options.max_concurrency}")
    began = time.monotonic()
    outcomes = _spread(ask, prompts, options.max_concurrency, 0.0 if rate == float("inf") else 1 / rate)
    result = result_of(options, outcomes, time.monotonic() - began)
    if options.save_result or options.append_result:
        write_result(options, result, outcomes)
    return 0


def print_line(text: str) -> None:
    """One line on stdout, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@dataclass(frozen=True)
class _Target:
    host: str
    port: int
    path: str
    chat: bool
    model: str


def _target(options: argparse.Namespace) -> _Target:
    if not options.model:
        raise BenchError("provision's simulated engine needs --model")
    if (options.dataset_name or "random") != "random":
        raise BenchError("provision's simulated engine knows --dataset-name random alone")
    backend, endpoint = options.backend or "openai", options.endpoint or "/v1/completions"
    if backend not in {"openai", "vllm", "openai-chat"}:
        raise BenchError(f"provision's simulated engine has no backend {backend}")
    chat = backend == "openai-chat"
    if chat != endpoint.endswith("chat/completions"):
        kind, want = ("Chat Completions", "chat/completions") if chat else ("Completions", "completions")
        raise BenchError(f"ValueError: OpenAI {kind} API URL must end with one of: {want}.")
    try:  # vLLM loads the tokenizer here, and fails where the cache has none
        weights.find_model(options.tokenizer or options.model, os.environ)
    except weights.ModelMissingError as error:
        raise BenchError(str(error)) from error
    url = urllib.parse.urlsplit(options.base_url or f"http://{options.host or '127.0.0.1'}:{options.port or 8000}")
    name = options.served_model_name or options.model
    return _Target(url.hostname or "127.0.0.1", url.port or 80, url.path.rstrip("/") + endpoint, chat, name)


def _prompt(options: argparse.Namespace, number: int) -> str:
    dice = random.Random((options.seed or 0) * 1_000_003 + number)  # noqa: S311 – repeatable prompts
    return " ".join(dice.choice(_WORDS) for _ in range(options.random_input_len or 1024))


def _ready(options: argparse.Namespace, ask: Callable[[], Outcome]) -> None:
    timeout = 600 if options.ready_check_timeout_sec is None else options.ready_check_timeout_sec
    if timeout <= 0:
        print_line("Skipping endpoint ready check.")
        return
    print_line("Starting initial single prompt test run...")
    print_line(f"Waiting for endpoint to become up in {timeout} seconds")
    end = time.monotonic() + timeout
    while not (outcome := ask()).ok:
        if time.monotonic() > end:
            raise BenchError(
                "ValueError: Initial test run failed - Please make sure benchmark arguments are correctly specified. "
                f"Error: {outcome.error}"
            )
        time.sleep(min(1.0, timeout))
    print_line("Initial test run completed.")


def _spread(ask: Callable[[str], Outcome], prompts: list[str], concurrency: int | None, pause: float) -> list[Outcome]:
    """Send all prompts, at most `concurrency` at a time, the starts `pause` seconds apart."""
    outcomes: list[Outcome | None] = [None] * len(prompts)
    work: Iterator[int] = iter(range(len(prompts)))
    lock = threading.Lock()
    began = time.monotonic()

    def send() -> None:
        while True:
            with lock:
                number = next(work, None)
            if number is None:
                return
            wait = began + number * pause - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            outcomes[number] = ask(prompts[number])

    threads = [threading.Thread(target=send) for _ in range(min(concurrency or len(prompts), len(prompts)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [outcome for outcome in outcomes if outcome is not None]


def _request(target: _Target, options: argparse.Namespace, prompt: str, length: int, tokens: int) -> Outcome:
    body: dict[str, Any] = {"model": target.model, "stream": True, "stream_options": {"include_usage": True}}
    if target.chat:
        body |= {"messages": [{"role": "user", "content": prompt}], "max_completion_tokens": tokens}
    else:
        body |= {"prompt": prompt, "max_tokens": tokens}
    body["temperature"] = options.temperature if options.temperature is not None else 0.0
    if options.ignore_eos:
        body["ignore_eos"] = True
    if options.extra_body:
        body |= json.loads(options.extra_body)
    headers = {"Content-Type": "application/json", "x-request-id": f"bench-{uuid.uuid4().hex[:8]}"}
    if os.environ.get("OPENAI_API_KEY"):
        headers["Authorization"] = f"Bearer {os.environ['OPENAI_API_KEY']}"
    outcome = Outcome(time.monotonic(), length)
    connection = http.client.HTTPConnection(target.host, target.port, timeout=6 * 3600)
    try:
        connection.request("POST", target.path, json.dumps(body), headers)
        answer = connection.getresponse()
        if answer.status != 200:
            outcome.error = f"{answer.reason}: {answer.read(2000).decode(errors='replace')}"
            return outcome
        _read(answer, outcome)
    except (OSError, http.client.HTTPException, ValueError) as error:
        outcome.error = f"{type(error).__name__}: {error}"
    finally:
        connection.close()
    return outcome


def _read(answer: http.client.HTTPResponse, outcome: Outcome) -> None:
    last = outcome.started
    pieces = 0
    for line in itertools.takewhile(lambda line: line, iter(answer.readline, b"")):
        text = line.decode().strip().removeprefix("data: ")
        if not text or text == "[DONE]":
            continue
        event = json.loads(text)
        now = time.monotonic()
        if event.get("usage"):
            outcome.output_tokens = event["usage"]["completion_tokens"]
        if not event["choices"] or event["choices"][0].get("finish_reason"):
            continue
        choice = event["choices"][0]
        delta = choice.get("delta") or {}
        if "role" in delta:  # the opening chunk carries no token
            continue
        pieces += 1
        if not outcome.ttft:
            outcome.ttft = now - outcome.started
        else:
            outcome.itl.append(now - last)
        last = now
        outcome.text += choice.get("text") or delta.get("content") or ""
        outcome.latency = now - outcome.started
    outcome.ok = pieces > 0
    outcome.output_tokens = outcome.output_tokens or pieces
    if not outcome.ok:
        outcome.error = "Never received a valid chunk to calculate TTFT. This response will be marked as failed!"
