"""Reading the options out of a recorded `vllm … --help=all` text, of which `scripts/vllm_flags.py` makes the tables."""

from __future__ import annotations

import ast
import re
from typing import Any

_DEFAULT = re.compile(r".*\(default: (.*?)\)$", re.S)


def flags_of(help_text: str) -> list[dict[str, Any]]:
    """The options of an argparse help text, in its order.

    Each: {"names": ["--x", "-y"], "kind": "switch" | "boolean" | "value" | "optional" | "list"} plus
    "choices" (list of str) where the text names them and "default" (text) where it differs from "None".
    A "boolean" has a `--no-` form, an "optional" takes one value or none, a "list" takes one or more.
    """
    lines = help_text.splitlines()
    starts = [i for i, line in enumerate(lines) if re.match(r"  -{1,2}[a-z]", line)]
    flags = []
    for start in starts:
        body = []
        for line in lines[start + 1 :]:
            if not line.startswith("   "):
                break
            body.append(line.strip())
        flags.append(_flag(lines[start].strip(), " ".join(body)))
    return flags


def _flag(head: str, body: str) -> dict[str, Any]:
    head, _, trailing = head.partition("  ")  # short flags carry their description on the same line
    head, open_ended, _ = head.partition(" or name registered in ")
    names = re.findall(r"(?<![\w-])--?[a-z][\w.-]*", re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", head))
    value = head.split(",")[0].removeprefix(names[0]).strip() if not head.startswith("-h") else ""
    choices = [] if open_ended else _choices(head)  # a plugin may add names
    flag: dict[str, Any] = {"names": names, "kind": _kind(head, names, value)}
    if choices:
        flag["choices"] = choices
    found = _DEFAULT.match(f"{trailing.strip()} {body}".strip())
    if found and found[1] != "None":
        flag["default"] = found[1]
    return flag


def _kind(head: str, names: list[str], value: str) -> str:
    if any(name.startswith("--no-") and name.replace("--no-", "--", 1) in names for name in names):
        return "boolean"
    if "..." in head:
        return "list"
    if re.search(r"\s\[[A-Z_=]+\]", head):
        return "optional"
    return "value" if value else "switch"


def _choices(head: str) -> list[str]:
    braces = re.search(r"\{([^}]*)\}", head)
    if braces:
        return braces[1].split(",")
    brackets = re.search(r"\[('[^\]]*)\]", head)
    return list(ast.literal_eval(f"[{brackets[1]}]")) if brackets else []
