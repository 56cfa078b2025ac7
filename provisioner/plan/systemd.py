"""Text for systemd unit files. Values are data: nothing in them is expanded by systemd."""

from __future__ import annotations

from collections.abc import Sequence

_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r", "%": "%%", "$": "$$"}
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_=./:,@+")


def exec_line(argv: Sequence[str]) -> str:
    """One `Exec…=` value that systemd splits back into exactly `argv` (systemd.service(5), "Command lines")."""
    return " ".join(_word(word) for word in argv)


def text(value: str) -> str:
    """A one-line value (such as Description=) without specifiers."""
    return " ".join(value.split()).replace("%", "%%")


def _word(word: str) -> str:
    if word and set(word) <= _PLAIN:
        return word
    return '"' + "".join(_escape(char) for char in word) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if ord(char) < 32 or ord(char) == 127:
        return f"\\x{ord(char):02x}"
    return char
