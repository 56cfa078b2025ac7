"""The smoke checks against a real HTTP server behind a real SSH server: the way that they go on a host.

The HTTP server is the rehearsal's engine, in this process; it listens on loopback alone, as servers do by default.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from provisioner.fleet.models import Ssh
from provisioner.hosts.dial import dial
from provisioner.hosts.endpoint import Endpoint
from provisioner.hosts.ssh import SshTransport
from provisioner.lab.sim.engine import Engine
from provisioner.lab.sim.hardware import Hardware
from provisioner.lab.sim.protocol import Rules
from provisioner.lab.sim.server import Server as SimServer
from provisioner.plan.model import Benchmark, File, Server
from provisioner.validate.answers import Answers, check_answers

KEY = "sk-planted-key"
NAME = "nemotron"


@contextmanager
def served(
    *, keys: tuple[str, ...] = (), parser: str = "nano_v3", tools: bool = True, context: int = 4096
) -> Iterator[int]:
    """The engine on a port of its own."""
    engine = Engine(NAME, Hardware((), 0.0, 0.0), slots=8, context=context, tensor_parallel=1)
    rules = Rules(NAME, (NAME,), context, parser, auto_tools=tools, wrong=False)
    server = SimServer(("127.0.0.1", 0), engine, rules, list(keys), die=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def transport(endpoint: Endpoint) -> Iterator[SshTransport]:
    opened = SshTransport("gpu-01", dial(endpoint, Ssh()))
    yield opened
    opened.close()


def asked(transport: SshTransport, port: int, api_key: str | None = None) -> Answers:
    server = Server(
        name=NAME,
        unit="vllm-nemotron.service",
        container="vllm-nemotron",
        recipe="nemotron-3-nano",
        variant="fp8",
        precision="fp8",
        model_id="nvidia/Nano",
        served_model_name=NAME,
        image="vllm/vllm-openai:v0.12.0",
        host="127.0.0.1",
        port=port,
        gpus="all",
        gpu_count=1,
        argv=(),
        docker_argv=(),
        env={},
        unit_file=File(path="/etc/systemd/system/vllm-nemotron.service", content=""),
        secret_file=None,
        api_key=None,
        health_timeout_s=5,
        reasoning=True,
        tool_call_parser="qwen3_coder",
        benchmark=Benchmark(argv=(), num_prompts=1, output_len=1, timeout_s=1),
    )
    return check_answers(transport, server, api_key=api_key, secrets=[KEY])


def failed(answers: Answers) -> dict[str, str]:
    return {check.name: check.detail for check in answers.checks if not check.passed}


def test_a_server_on_loopback_is_asked_everything(transport: SshTransport) -> None:
    with served() as port:
        answers = asked(transport, port)
    assert failed(answers) == {}
    assert len(answers.checks) == 12
    assert not any(check.skipped for check in answers.checks)
    assert answers.version == "0.12.0"


def test_a_server_with_a_key(transport: SshTransport) -> None:
    with served(keys=(KEY,)) as port:
        answers = asked(transport, port, KEY)
    assert failed(answers) == {}
    assert {"API key", "wrong API key"} <= {check.name for check in answers.checks}
    assert KEY not in answers.model_dump_json()


def test_a_server_that_is_not_what_was_planned(transport: SshTransport) -> None:
    """No reasoning parser, no tools, no key: every promise that is not kept is told."""
    with served(parser="", tools=False) as port:
        answers = asked(transport, port, KEY)
    assert failed(answers) == {
        "API key": "HTTP 200 without it; expected 401",
        "wrong API key": "HTTP 200 with it; expected 401",
        "reasoning": "</think> is in the content: the reasoning parser does not fit the model",
        "streamed reasoning": "</think> is in the content: the reasoning parser does not fit the model",
        "tool call": 'HTTP 400: "auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set',
        "streamed tool call": 'HTTP 400: "auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'
        " to be set",
    }
    reasoning = next(check for check in answers.checks if check.name == "reasoning")
    assert reasoning.request.startswith(f"POST http://127.0.0.1:{port}/v1/chat/completions {{")
    assert "</think>" in reasoning.answer
    assert reasoning.log  # journalctl's words, or why there are none on this machine
