from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.plan.systemd import exec_line, text

from .systemd_words import read

# An argument of a program holds anything but NUL.
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
PARTS = ["{{", "}}", "$(", "${HOME}", "$HOME", "%h", "%%", "$$", '"', "'", "\\", " ", ";", "\n", "#"]
TRICKY = st.lists(st.sampled_from(PARTS)).map("".join)


@given(st.lists(WORDS | TRICKY))
def test_systemd_splits_the_line_back_into_the_same_words(words: list[str]) -> None:
    assert read(exec_line(["/usr/bin/docker", *words])) == ["/usr/bin/docker", *words]


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("--port=8000", "--port=8000"),
        ("vllm/vllm-openai:v0.12.0@sha256", "vllm/vllm-openai:v0.12.0@sha256"),
        ("", '""'),
        ("a b", '"a b"'),
        ('"device=0,1"', '"\\"device=0,1\\""'),
        ("it's", '"it\'s"'),
        ("100%", '"100%%"'),
        ("$(reboot) ${HOME}", '"$$(reboot) $${HOME}"'),
        ("{{ x }}", '"{{ x }}"'),
        ("a\\nb", '"a\\\\nb"'),
        ("a\nb\tc\rd", '"a\\nb\\tc\\rd"'),
        ("\x01\x7f", '"\\x01\\x7f"'),
        ("größe → ∞", '"größe → ∞"'),
        (";", '";"'),
        ("#", '"#"'),
    ],
)
def test_words_as_they_are_written(word: str, written: str) -> None:
    assert exec_line([word]) == written
    assert read(written) == [word]


@pytest.mark.parametrize("line", ["%h", "$HOME", "${HOME}", '"a', "a ; b", "a\nb", "a\\"])
def test_the_reader_of_these_tests_refuses_what_systemd_would_replace(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read(line)


def test_text_is_one_line_without_specifiers() -> None:
    assert text("  vLLM\n server %h ") == "vLLM server %%h"
