"""How systemd reads a command line, written from systemd.syntax(7), systemd.unit(5) and systemd.service(5) alone."""

from __future__ import annotations

import re

_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
_NUMBERED = {"x": 2, "u": 4, "U": 8}


def read(line: str) -> list[str]:
    """The words that the program gets. ValueError for what systemd would refuse or replace."""
    if "\n" in line or line.endswith("\\"):
        raise ValueError("more than one line")
    return [_expanded(word) for word in _words(line)]


def _words(line: str) -> list[str]:
    words: list[str] = []
    word, quote, position = None, "", 0
    while position < len(line):
        char = line[position]
        position += 1
        if char == "\\":
            text, position = _escape(line, position)
            word = (word or "") + text
        elif quote:
            if char == quote:
                quote = ""
            else:
                word = (word or "") + char
        elif char in "\"'":
            quote, word = char, word or ""
        elif char in " \t\r":
            words += [] if word is None else [word]
            word = None
        elif char == ";" and word is None and line[position : position + 1] in ("", " "):
            raise ValueError("a second command")
        else:
            word = (word or "") + char
    if quote:
        raise ValueError("an open quote")
    return words if word is None else [*words, word]


def _escape(line: str, position: int) -> tuple[str, int]:
    char = line[position]
    if char in _NUMBERED:
        end = position + 1 + _NUMBERED[char]
        return chr(int(line[position + 1 : end], 16)), end
    if char in "01234567":
        return chr(int(line[position : position + 3], 8)), position + 3
    if char in "\\\"'":
        return char, position + 1
    return _ESCAPES[char], position + 1


def _expanded(word: str) -> str:
    """Specifiers, then variables."""
    if found := re.search(r"%[^%]|%$", word.replace("%%", "")):
        raise ValueError(f"a specifier: {found.group()}")
    word = word.replace("%%", "%")
    if found := re.search(r"\$(\{|[A-Za-z_])", word.replace("$$", "")):
        raise ValueError(f"a variable: {found.group()}")
    return word.replace("$$", "$")
