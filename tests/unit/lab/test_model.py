"""The tiny model: the same bytes every time, a sound weights file, and the sentence that it is made to say."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from provisioner.lab import model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("model")
    model.write_model(place)
    return place


def test_it_is_the_same_every_time(folder: Path, tmp_path: Path) -> None:
    model.write_model(tmp_path)
    names = sorted(path.name for path in folder.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_weights_file_is_sound(folder: Path) -> None:
    raw = (folder / "model.safetensors").read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    header.pop("__metadata__")
    config = json.loads((folder / "config.json").read_text())
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        count = 1
        for part in entry["shape"]:
            count *= part
        assert entry["data_offsets"] == [end, end + 2 * count], name
        end += 2 * count
    assert len(raw) == 8 + size + end
    assert header["lm_head.weight"]["shape"] == [config["vocab_size"], config["hidden_size"]]
    assert f"model.layers.{config['num_hidden_layers'] - 1}.mlp.down_proj.weight" in header


def test_the_tokenizer_knows_every_byte_and_builds_words_letter_by_letter(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    assert sorted(vocab.values()) == list(range(len(vocab)))
    assert len([token for token in vocab if len(token) == 1]) == 256
    assert all(left + right in vocab and left in vocab for left, right in tokenizer["model"]["merges"])
    added = model.added(len(vocab))
    assert {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]} == added
    assert sorted(added.values()) == list(range(len(vocab), len(vocab) + len(added)))
    special = [entry["content"] for entry in tokenizer["added_tokens"] if entry["special"]]
    assert special == list(model.SPECIAL), "other tokens must be seen in answers"


def all_ids() -> dict[str, int]:
    vocab, _ = model.vocabulary()
    return {**vocab, **model.added(len(vocab))}


def test_where_tools_are_offered_comes_the_call_that_smoke_checks_ask_for() -> None:
    ids = all_ids()
    names = {index: name for name, index in ids.items()}
    following = model.successors(ids)
    token, said = ids["<|tools|>"], []
    while names[token] != "<|im_end|>":
        token = following[token]
        said.append(names[token])
    assert "".join(said) == (
        " A tool can tell;</think>\n\n<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n"
        "</parameter>\n</function>\n</tool_call><|im_end|>"
    )


def test_after_the_chat_template_comes_the_sentence() -> None:
    ids = all_ids()
    names = {index: name for name, index in ids.items()}
    following = model.successors(ids)
    token, said = ids["\u010a"], []  # a line end, the last token of the template
    while names[token] != "<|im_end|>":
        token = following[token]
        said.append(names[token])
    text = "".join(said).replace("\u0120", " ")
    assert text == f"{model.THINKING}</think>{model.ANSWER}<|im_end|>"


def test_other_tokens_go_round_a_long_ring() -> None:
    ids = all_ids()
    following = model.successors(ids)
    token, seen = following[ids["<|im_end|>"]], set()
    while token not in seen and len(seen) < 200:
        seen.add(token)
        token = following[token]
    assert len(seen) == 200, "the ring is too short: answers would repeat themselves"


def test_the_context_is_as_long_as_the_guides(folder: Path) -> None:
    assert json.loads((folder / "config.json").read_text())["max_position_embeddings"] >= 262144


def test_the_readme_says_what_it_is(folder: Path) -> None:
    assert (folder / "README.md").read_text().startswith("# A stand-in, not the model of this name")
