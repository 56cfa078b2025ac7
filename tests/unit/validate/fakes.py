"""A host that answers from a script: commands by their beginnings, HTTP by path. No process, no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from provisioner.hosts.transport import Result
from provisioner.plan.model import Benchmark, File, HostPlan, Server

Handler = Callable[[str, dict[str, str], bytes], bytes]


def server(**changes: Any) -> Server:
    values: dict[str, Any] = {
        "name": "nemotron",
        "unit": "vllm-nemotron.service",
        "container": "vllm-nemotron",
        "recipe": "nemotron-3-nano",
        "variant": "bf16",
        "precision": "bf16",
        "model_id": "nvidia/Tiny",
        "served_model_name": "tiny",
        "image": "vllm/vllm-openai:v0.32.0",
        "host": "0.0.0.0",
        "port": 8000,
        "gpus": "all",
        "gpu_count": 2,
        "argv": ("nvidia/Tiny",),
        "docker_argv": ("docker", "run"),
        "env": {},
        "unit_file": File(path="/etc/systemd/system/vllm-nemotron.service", content=""),
        "secret_file": None,
        "api_key": None,
        "health_timeout_s": 30,
        "reasoning": True,
        "tool_call_parser": "qwen3_coder",
        "benchmark": Benchmark(argv=("bench", "serve", "--port", "8000"), num_prompts=20, output_len=16, timeout_s=60),
    }
    return Server(**{**values, **changes})


def host_plan(*servers: Server) -> HostPlan:
    return HostPlan(
        host="gpu-01",
        platform="linux/amd64",
        hardware="h200",
        hardware_name="2 × NVIDIA H200",
        simulated=True,
        docker_source="auto",
        docker_config={},
        images=(),
        cache_dir="/var/lib/vllm/huggingface",
        plugin_dir="/var/lib/vllm/plugins",
        hub_endpoint=None,
        hub_token=None,
        weights=(),
        plugins=(),
        servers=servers,
        image_min_free_gib=30,
    )


def http(status: int, body: Any, content_type: str = "application/json") -> bytes:
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n"
    return (head + "Connection: close\r\n\r\n").encode() + data


def sse(*payloads: str) -> bytes:
    body = b"".join(_chunk(f"data: {payload}\n\n".encode()) for payload in payloads) + _chunk(b"")
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + body


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


class FakeChannel:
    """Answers when the whole request has been sent; gives three bytes at a time, as a slow network may."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._sent = b""
        self._reply: bytes | None = None
        self.closed = False

    def settimeout(self, timeout: float | None, /) -> None:
        assert timeout is not None

    def sendall(self, data: bytes, /) -> None:
        self._sent += data

    def recv(self, nbytes: int, /) -> bytes:
        assert not self.closed, "read after close: the rest of the answer would be lost"
        if self._reply is None:
            head, _, body = self._sent.partition(b"\r\n\r\n")
            first, *rest = head.decode().split("\r\n")
            headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
            self._reply = self._handler(first.split(" ")[1], headers, body)
        piece, self._reply = self._reply[: min(nbytes, 3)], self._reply[min(nbytes, 3) :]
        return piece

    def close(self) -> None:
        self.closed = True


class FakeHost:
    """A `Transport`. `commands` maps the beginning of a command (after `sudo -n `) to a result, or to a list of results
    given one after the other (the last one stays); an unknown command is an error of the test."""

    host = "gpu-01"

    def __init__(self, commands: dict[str, Any], handler: Handler | None = None) -> None:
        self.commands = {key: list(value) if isinstance(value, list) else value for key, value in commands.items()}
        self.handler = handler
        self.ran: list[str] = []
        self.stdins: list[str] = []
        self.channels: list[FakeChannel] = []
        self.targets: list[tuple[str, int]] = []

    def run(
        self,
        command: str,
        *,
        stdin: bytes | str | None = None,
        timeout_s: float,
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        assert timeout_s > 0
        command = command.removeprefix("sudo -n ")
        self.ran.append(command)
        if stdin is not None:
            self.stdins.append(stdin if isinstance(stdin, str) else stdin.decode())
        for beginning, results in self.commands.items():
            if command.startswith(beginning):
                result = results
                if isinstance(results, list):
                    result = results.pop(0) if len(results) > 1 else results[0]
                if isinstance(result, BaseException):
                    raise result
                result = Result(0, result, "") if isinstance(result, str) else result
                for line in result.stdout.splitlines():
                    if on_line:
                        on_line(line)
                return result
        raise AssertionError(f"unexpected command: {command}")

    def put(self, content: bytes, path: str, *, mode: int = 0o644) -> None:
        raise AssertionError("validation writes no files this way")

    def get(self, path: str) -> bytes:
        raise AssertionError("validation reads as root")

    def open_tcp(self, host: str, port: int, timeout_s: float) -> FakeChannel:
        self.targets.append((host, port))
        if self.handler is None:
            raise ConnectionRefusedError("connection refused")
        self.channels.append(FakeChannel(self.handler))
        return self.channels[-1]

    def close(self) -> None:
        return None


def state(
    active: str = "active",
    sub: str = "running",
    *,
    restarts: int = 0,
    load: str = "loaded",
    job: str = "",
    log: str = "",
) -> str:
    unit = f"LoadState={load}\nActiveState={active}\nSubState={sub}\nResult=success\nNRestarts={restarts}\nJob={job}\n"
    return f"{unit}\n{log}\n"


USAGE = {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}
CHAT = {
    "choices": [{"message": {"content": None, "reasoning": "A GPU computes."}, "finish_reason": "length"}],
    "usage": USAGE,
}
MODELS = {"data": [{"id": "tiny", "max_model_len": 100}]}
CHUNKS = (
    '{"choices": [{"delta": {"role": "assistant", "content": ""}}]}',
    '{"choices": [{"delta": {"reasoning": "A"}}]}',
    '{"choices": [{"delta": {"reasoning": " GPU"}, "finish_reason": "length"}]}',
    json.dumps({"choices": [], "usage": USAGE}),
    "[DONE]",
)
CALL = {"id": "call-1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'}}
CALL_CHUNKS = (
    {"index": 0, "id": "call-1", "type": "function", "function": {"name": "get_weather", "arguments": ""}},
    {"index": 0, "function": {"arguments": '{"city": '}},
    {"index": 0, "function": {"arguments": '"Paris"}'}},
)
TOO_LONG = {"error": {"message": "This model's maximum context length is 100 tokens.", "code": 400}}
METRICS = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="tiny"} 0.0
vllm:num_requests_waiting{engine="0",model_name="tiny"} 0.0
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.0
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 40.0
vllm:generation_tokens_total{engine="0",model_name="tiny"} 16.0
"""


def kind_of(path: str, headers: dict[str, str], body: bytes) -> str:
    """Which check a request belongs to, as answers.py names it."""
    if path != "/v1/chat/completions":
        key = headers.get("authorization")
        named = {"/v1/models": "served name", "/metrics": "metrics"}.get(path, path)
        return {None: named, "Bearer provision-wrong-key": "wrong API key"}.get(key, named)
    asked = json.loads(body)
    if asked.get("tools"):
        return "streamed tool call" if asked.get("stream") else "tool call"
    if asked.get("ignore_eos"):
        return "max_tokens"
    if asked["max_tokens"] == 1:
        return "too long a prompt"
    return "streamed chat" if asked.get("stream") else "plain chat"


def well(path: str, headers: dict[str, str], body: bytes) -> bytes:
    """A server that does everything right."""
    if path == "/health":
        return http(200, "")
    if path == "/version":
        return http(200, {"version": "0.32.0"})
    replies = {
        "served name": http(200, MODELS),
        "wrong API key": http(401, {"error": "Unauthorized"}),
        "plain chat": http(200, CHAT),
        "streamed chat": sse(*CHUNKS),
        "max_tokens": http(200, CHAT),
        "tool call": http(200, {"choices": [{"message": {"tool_calls": [CALL]}, "finish_reason": "tool_calls"}]}),
        "streamed tool call": sse(
            *(json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}) for piece in CALL_CHUNKS), "[DONE]"
        ),
        "too long a prompt": http(400, TOO_LONG),
        "metrics": http(200, METRICS, "text/plain"),
    }
    return replies[kind_of(path, headers, body)]
