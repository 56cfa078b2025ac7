"""The command line of vLLM 0.12.0: the recorded flag tables as argparse parsers, with argparse's own errors."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import BANNER, VERSION

_HERE = Path(__file__).parent
_INTEGERS = {
    "--port", "--max-num-seqs", "--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size",
    "--num-prompts", "--num-warmups", "--max-concurrency", "--random-input-len", "--random-output-len",
    "--random-prefix-len", "--ready-check-timeout-sec", "--seed", "--api-server-count",
}  # fmt: skip
_FLOATS = {"--gpu-memory-utilization", "--request-rate", "--burstiness", "--random-range-ratio", "--temperature"}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The parsed command line; `command` is "serve" or "bench serve".  Exits 2 as argparse does on bad input."""
    parser = argparse.ArgumentParser(prog="vllm", description=f"vLLM CLI — {BANNER}", allow_abbrev=False)
    parser.add_argument("-v", "--version", action="version", version=VERSION)
    commands = parser.add_subparsers(required=True, metavar="{serve,bench}")

    serve = commands.add_parser("serve", usage="vllm serve [model_tag] [options]", allow_abbrev=False, add_help=False)
    serve.add_argument("model_tag", nargs="?")
    _add_flags(serve, "serve_flags.json")
    serve.set_defaults(command="serve")

    bench = commands.add_parser("bench", allow_abbrev=False)
    kinds = bench.add_subparsers(required=True, metavar="{serve}")
    bench_serve = kinds.add_parser("serve", usage="vllm bench serve [options]", allow_abbrev=False, add_help=False)
    _add_flags(bench_serve, "bench_flags.json")
    bench_serve.set_defaults(command="bench serve")

    return parser.parse_args([_dashed(word) for word in argv])


def human_int(text: str) -> int:
    """Whole numbers as vLLM takes them for --max-model-len: 4096, 4k (4000), 4K (4096), 1.5M."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", text)
    if not found or ("." in found[1] and not found[2].islower()):
        raise argparse.ArgumentTypeError(f"invalid human_readable_int value: {text!r}")
    power = " kmg".index(found[2].lower()) if found[2] else 0
    return int(float(found[1]) * (1024 if found[2].isupper() else 1000) ** power)


def _add_flags(parser: argparse.ArgumentParser, table: str) -> None:
    for flag in json.loads((_HERE / table).read_text()):
        names, kind, default = flag["names"], flag["kind"], flag.get("default")
        if "--help" in names:
            parser.add_argument(*names, action="help")
            continue
        if kind == "switch":
            parser.add_argument(*names, action="store_true")
        elif kind == "boolean":
            positive = [name for name in names if not name.startswith("--no-")]
            parser.add_argument(*positive, action=argparse.BooleanOptionalAction, default=default == "True")
        else:
            options: dict[str, Any] = {"nargs": {"list": "+", "optional": "?"}.get(kind), "type": _type(names[0])}
            if "choices" in flag and options["type"] is str:
                options["choices"] = flag["choices"]
            if default and default[0] not in "[{(":
                options["default"] = default if re.fullmatch(r"[\w./:-]+", default) else None
            parser.add_argument(*names, **options)


def _type(name: str) -> Callable[[str], Any]:
    if name == "--max-model-len":
        return human_int
    return int if name in _INTEGERS else float if name in _FLOATS else str


def _dashed(word: str) -> str:
    """vLLM takes --max_model_len for --max-model-len."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value
