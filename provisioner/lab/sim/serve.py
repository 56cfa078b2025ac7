"""`vllm serve`: check the options against each other, find the model, start up the way vLLM looks, listen."""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path

from . import BANNER, VERSION, hardware, weights
from .engine import Engine
from .protocol import Rules
from .server import Server, log

# The reasoning parsers that are built into vLLM 0.12.0 (nano_v3 is not: it needs the plugin).
_PARSERS = {
    "deepseek_r1", "deepseek_v3", "ernie45", "glm45", "openai_gptoss", "granite", "holo2", "hunyuan_a13b", "kimi_k2",
    "minimax_m2", "minimax_m2_append_think", "mistral", "olmo3", "qwen3", "seed_oss", "step3",
}  # fmt: skip


class StartError(Exception):
    """The server cannot start; the text is vLLM's last log line."""


def serve(options: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT (0).  1 where it cannot start."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    fault = os.environ.get("SIM_FAULT", "")
    log("INFO", f"vLLM API server version {VERSION} — this is {BANNER}")
    try:
        server = _start(options, fault)
    except StartError as error:
        log("ERROR", "EngineCore failed to start.", who="EngineCore_DP0")
        log("ERROR", str(error), who="EngineCore_DP0")
        log("ERROR", "RuntimeError: Engine core initialization failed. See root cause above.")
        return 1
    host, port = server.server_address[:2]
    log("INFO", f"Starting vLLM API server 0 on http://{host!s}:{port}")
    log("INFO", "Application startup complete.")
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    signal.signal(signal.SIGINT, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.1)
    log("INFO", "Shutting down")
    return 0


def _start(options: argparse.Namespace, fault: str) -> Server:
    model = options.model_tag or options.model
    _check_options(options)
    try:
        folder = weights.find_model(model, os.environ, options.revision)
    except weights.ModelMissingError as error:
        raise StartError(str(error)) from error
    native = weights.context_length(folder)
    context = options.max_model_len or native
    if context > native:
        raise StartError(
            f"ValueError: User-specified max_model_len ({context}) is greater than the derived max_model_len "
            f"(max_position_embeddings={native})"
        )
    found = hardware.detect()
    log("INFO", f"Simulated GPUs: {', '.join(found.gpus) or 'none seen (no nvidia-smi in this container)'}")
    parallel = options.tensor_parallel_size or 1
    if found.gpus and parallel > len(found.gpus):
        raise StartError(
            f"ValueError: World size ({parallel}) is larger than the number of available GPUs ({len(found.gpus)})."
        )
    _load(folder, fault)
    rules = Rules(
        model=model,
        names=tuple(options.served_model_name or [model]),
        context=context,
        reasoning_parser=options.reasoning_parser or "",
        auto_tools=bool(options.enable_auto_tool_choice),
        wrong=fault == "wrong-answer",
    )
    slots = options.max_num_seqs or 256
    engine = Engine(rules.names[0], found, slots=slots, context=context, tensor_parallel=parallel)
    keys = list(options.api_key or []) or [key for key in [os.environ.get("VLLM_API_KEY")] if key]
    address = (options.host or "0.0.0.0", options.port or 8000)  # noqa: S104 – vLLM's own default
    try:
        return Server(address, engine, rules, keys, die=fault == "die-on-first-request")
    except OSError as error:
        raise StartError(f"OSError: [Errno {error.errno}] {error.strerror}: {address}") from error


def _check_options(options: argparse.Namespace) -> None:
    if options.config:
        raise StartError("provision's simulated engine reads no --config file: give the flags themselves")
    if options.enable_auto_tool_choice and not options.tool_call_parser:
        raise StartError("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")
    utilization = float(options.gpu_memory_utilization or 0.9)
    if not 0 < utilization <= 1:
        raise StartError(f"ValueError: GPU memory utilization must be in (0, 1]. Got {utilization}.")
    parser, plugin = options.reasoning_parser, options.reasoning_parser_plugin
    known = set(_PARSERS)
    if plugin:
        if not Path(plugin).is_file():
            raise StartError(f"FileNotFoundError: [Errno 2] No such file or directory: '{plugin}'")
        known |= set(re.findall(r"""register_module\(\s*(?:name\s*=\s*)?["']([\w-]+)["']""", Path(plugin).read_text()))
    if parser and parser not in known:
        raise StartError(f"KeyError: invalid reasoning parser: {parser} (chose from {{ {','.join(sorted(known))} }})")


def _load(folder: Path, fault: str) -> None:
    if fault == "exit-at-start":
        raise StartError("torch.OutOfMemoryError: CUDA out of memory. (SIM_FAULT=exit-at-start)")
    shards = sorted(folder.glob("*.safetensors"))
    log("INFO", f"Loading weights from {folder} ({len(shards)} safetensors file(s))", who="EngineCore_DP0")
    end = time.monotonic() + float(os.environ.get("SIM_STARTUP_SECONDS", "1"))
    while time.monotonic() < end or fault == "never-healthy":
        log("INFO", "Loading safetensors checkpoint shards: still working", who="EngineCore_DP0")
        time.sleep(max(0.05, min(5.0, end - time.monotonic())))
        if fault == "never-healthy":
            end = time.monotonic() + 5
    size = sum(shard.stat().st_size for shard in shards)
    log("INFO", f"Model loading took {size / 2**30:.4f} GiB memory", who="EngineCore_DP0")
    sys.stdout.flush()
