"""YAML with line numbers: plain data, and on demand the place of any key or value in the file.

Only the composed nodes are kept; places are looked up when there is something to say about them, so that a file with
thousands of hosts costs no more than its parsing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from provisioner.errors import InputError, Problem
from provisioner.fleet.keypath import Key, dotted

_TAG = "tag:yaml.org,2002:"
_MOST_VALUES = 1_000_000
"""values after aliases are written out; a file of some kilobytes can otherwise ask for more than any memory"""


class Document:
    """A YAML file: `data` as plain dicts, lists and scalars, and where everything in it stands."""

    def __init__(self, file: Path, root: Node | None) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self._root = root
        self._made: dict[int, tuple[Any, int]] = {}
        self._open: set[int] = set()
        self.data: Any = self._construct(root, ())[0] if root is not None else None

    def add(self, path: Key, reason: str, hint: str | None = None) -> None:
        """Notes a problem with the key at `path`, or as near to it as the file goes."""
        line, column = self.place(path)
        self.problems.append(Problem(self.file, line, column, dotted(path), reason, hint))

    def place(self, path: Key) -> tuple[int, int]:
        """Line and column (from 1) of the key or list item at `path`; of its nearest parent where it is not there."""
        node, mark = self._root, None
        for part in path:
            found = _child(node, part)
            if found is None:
                break
            mark, node = found
        if mark is None:
            return (1, 1) if self._root is not None else (0, 0)
        return mark.line + 1, mark.column + 1

    def text(self, path: Key) -> str:
        """A scalar as it is written: `13.10` stays that, where a number would be 13.1."""
        node = self._root
        for part in path:
            found = _child(node, part)
            if found is None:
                raise KeyError(dotted(path))
            node = found[1]
        if not isinstance(node, ScalarNode):
            raise TypeError(f"{dotted(path)} is not a scalar")
        return str(node.value)

    def _construct(self, node: Node, path: Key) -> tuple[Any, int]:
        """The value of a node, and how many values it stands for with its aliases written out."""
        if isinstance(node, ScalarNode):
            return self._scalar(node, path), 1
        if id(node) in self._made:
            return self._made[id(node)]
        if id(node) in self._open:
            raise self._fatal(node, path, "contains itself", "an alias must not stand inside what it repeats")
        self._open.add(id(node))
        made = self._mapping(node, path) if isinstance(node, MappingNode) else self._sequence(node, path)
        self._open.discard(id(node))
        if made[1] > _MOST_VALUES:
            raise self._fatal(node, path, f"more than {_MOST_VALUES} values once aliases are written out")
        self._made[id(node)] = made
        return made

    def _sequence(self, node: Node, path: Key) -> tuple[list[Any], int]:
        self._check_tag(node, path, "seq")
        made = [self._construct(item, (*path, index)) for index, item in enumerate(node.value)]
        return [value for value, _ in made], 1 + sum(size for _, size in made)

    def _mapping(self, node: Node, path: Key) -> tuple[dict[str, Any], int]:
        self._check_tag(node, path, "map")
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        total = 1
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._at(key_node, path, "a key must be a single word")
                continue
            key = str(key_node.value)
            value, size = self._construct(value_node, (*path, key))
            total += size
            if key_node.tag == f"{_TAG}merge" or (key == "<<" and key_node.style is None):
                # The mapping's own keys win over merged ones, earlier merged ones over later.
                merged = {**self._merged(value_node, value, path), **merged}
            elif key in own:
                self._at(key_node, (*path, key), "duplicate key", f"first given in line {lines[key]}")
            else:
                own[key], lines[key] = value, key_node.start_mark.line + 1
        return {**merged, **own}, total

    def _merged(self, node: Node, value: Any, path: Key) -> dict[str, Any]:
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, dict) for part in parts):
            self._at(node, (*path, "<<"), "expected a mapping, or a list of mappings, to merge")
            return {}
        return {key: item for part in reversed(parts) for key, item in part.items()}

    def _scalar(self, node: ScalarNode, path: Key) -> Any:
        text, kind = str(node.value), str(node.tag).removeprefix(_TAG)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() in ("true", "yes", "on")
        if kind in ("int", "float"):
            return _number(text, kind)
        if kind not in ("str", "timestamp", "merge", "value"):
            self._unknown_tag(node, path)
        return text

    def _check_tag(self, node: Node, path: Key, kind: str) -> None:
        if str(node.tag) != _TAG + kind:
            self._unknown_tag(node, path)

    def _unknown_tag(self, node: Node, path: Key) -> None:
        tag = _short(str(node.tag).replace(_TAG, "!!"))
        self._at(node, path, f"tag {tag} is not known here", "write the value without a tag")

    def _at(self, node: Node, path: Key, reason: str, hint: str | None = None) -> None:
        self.problems.append(_problem(self.file, node.start_mark, path, reason, hint))

    def _fatal(self, node: Node, path: Key, reason: str, hint: str | None = None) -> InputError:
        return InputError([*self.problems, _problem(self.file, node.start_mark, path, reason, hint)])


def read_document(file: Path) -> Document:
    """Reads a YAML file. Raises InputError for a file that cannot be read or is no YAML.

    What is wrong but leaves the rest readable (duplicate keys, unknown tags) is in `problems` of the result.
    """
    try:
        text = _decoded(file, file.read_bytes())
    except OSError as error:
        raise InputError([Problem(file, 0, 0, "", _os_reason(error))]) from error
    try:
        yaml = YAML(typ="safe", pure=True)
        yaml.composer.warn_double_anchors = False  # YAML allows it, and a warning is no answer
        return Document(file, yaml.compose(text))
    except RecursionError as error:
        raise InputError([Problem(file, 0, 0, "", "nested too deeply")]) from error
    except YAMLError as error:
        raise InputError([_yaml_problem(file, error, text)]) from error


def _decoded(file: Path, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2].decode("utf-8", errors="replace")) + 1
        raise InputError([Problem(file, line, column, "", "is not UTF-8", "save the file as UTF-8")]) from error


def _os_reason(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a directory, expected a fleet file"
    return f"cannot be read: {error.strerror or error}"


def _yaml_problem(file: Path, error: YAMLError, text: str) -> Problem:
    if isinstance(error, ReaderError):
        before = text[: text.find(chr(error.character))] if isinstance(error.character, int) else ""
        line, column = before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1
        return Problem(file, line, column, "", "a control character is not allowed here")
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
    reason = getattr(error, "problem", None) or "nothing known"
    if "another document" in reason:
        return Problem(file, line, column, "", "a second document begins here", "remove the `---`: a file is one")
    return Problem(file, line, column, "", f"is not YAML: {_short(reason, 120)}", _yaml_hint(reason, text, line))


def _yaml_hint(reason: str, text: str, line: int) -> str | None:
    lines = text.splitlines()
    written = lines[line - 1] if 0 < line <= len(lines) else ""
    indent = written[: len(written) - len(written.lstrip())]
    if "\\t" in reason or "\t" in reason or "\t" in indent:
        return "indent with spaces, not tabs"
    if "[" in written and ":" in written:
        return "quote a range inside brackets: ['gpu-[01:16]']"
    return None


def _child(node: Node | None, part: str | int) -> tuple[Any, Node] | None:
    """Mark and node of one step down; aliases and merges are followed."""
    if isinstance(node, SequenceNode) and isinstance(part, int) and 0 <= part < len(node.value):
        return node.value[part].start_mark, node.value[part]
    if isinstance(node, MappingNode):
        return next(((key.start_mark, value) for key, value in _entries(node) if key.value == part), None)
    return None


def _entries(node: Node) -> Iterator[tuple[Node, Node]]:
    yield from node.value
    for key, value in node.value:
        if isinstance(key, ScalarNode) and key.value == "<<":
            for part in value.value if isinstance(value, SequenceNode) else [value]:
                if isinstance(part, MappingNode):
                    yield from _entries(part)


def _number(text: str, kind: str) -> Any:
    """A number, or the text itself where YAML calls it one and Python cannot hold it."""
    plain = text.replace("_", "")
    try:
        if kind == "float":
            return float(plain.replace(".inf", "inf").replace(".Inf", "inf").replace(".nan", "nan"))
        return int(plain, 0 if plain.lstrip("+-")[:2].lower() in ("0x", "0o", "0b") else 10)
    except ValueError:
        return text


def _problem(file: Path, mark: Any, path: Key, reason: str, hint: str | None) -> Problem:
    return Problem(file, mark.line + 1, mark.column + 1, dotted(path), reason, hint)


def _short(text: str, most: int = 60) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"
