"""A tiny model that real vLLM serves on a CPU and that answers with a fixed sentence.

Architecture Qwen2, about 1 MB, written with the standard library: no torch on the control machine.  The layers
add nothing (their output projections are zero), so the next token depends on the last one alone, and the output
matrix is filled such that a chosen token follows each.  That makes the answer to every chat a readable one that
ends by itself: thinking, `</think>`, a sentence, end of sequence.  Where tools are offered, the chat template ends
with another token, and what follows is the call that smoke checks ask for, in the words of Qwen3-Coder.
"""

from __future__ import annotations

import array
import itertools
import json
import random
import struct
from collections.abc import Sequence
from pathlib import Path

from provisioner.validate.answers import CITY, FUNCTION, PARAMETER

HIDDEN, LAYERS, HEADS, HEAD_DIM, FEED_FORWARD = 128, 2, 2, 64, 128
CONTEXT = 262144  # as large as Nemotron-3-Nano's, so that every --max-model-len of the guide is accepted
SPECIAL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<|tools|>"),
)
CALL = (
    " A tool can tell;</think>\n\n",
    "<tool_call>",
    f"\n<function={FUNCTION}>\n<parameter={PARAMETER}>\n",
    f"{CITY}\n</parameter>\n</function>\n",
    "</tool_call>",
    "<|im_end|>",
)
"""what follows `<|tools|>`, token by token: those that are not special are tokens of their own"""
THINKING = " The question needs no thought;"
ANSWER = " Hello from the tiny model of this rehearsal lab."
PLUGIN = "nano_v3_reasoning_parser.py"

_SPACE = "\u0120"  # how byte-level BPE writes a space
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>\n{% endif %}"
    "{% if tools %}<|tools|>{% endif %}{% endif %}"
)
_README = """# A stand-in, not the model of this name
Written by provision's lab: a tiny Qwen2 model that says one sentence. For rehearsals without a GPU.
"""


def write_model(folder: Path) -> None:
    """Write the model's files into `folder` (made if absent): the same bytes every time."""
    folder.mkdir(parents=True, exist_ok=True)
    vocab, merges = vocabulary()
    special = added(len(vocab))
    ids = {**vocab, **special}
    _write_json(folder / "tokenizer.json", _tokenizer(vocab, merges, special))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config())
    _write_json(folder / "config.json", _config(len(ids), special))
    ends = {"eos_token_id": special["<|im_end|>"], "pad_token_id": special["<|endoftext|>"]}
    _write_json(folder / "generation_config.json", {**ends, "do_sample": False})
    (folder / "model.safetensors").write_bytes(_safetensors(_tensors(successors(ids))))
    (folder / "README.md").write_text(_README)
    (folder / PLUGIN).write_bytes((Path(__file__).parent / "data" / PLUGIN).read_bytes())


def added(first: int) -> dict[str, int]:
    """The tokens beside the vocabulary with their ids, from `first` on."""
    return {name: first + index for index, name in enumerate(dict.fromkeys((*SPECIAL, *CALL)))}


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Byte-level BPE: 256 bytes, the words of the answer, and short made-up words with all their beginnings.

    A word's tokens are its beginnings, merged letter by letter from the space on; so a row of word tokens is
    encoded as exactly those tokens again, which random prompts of `vllm bench serve` rely on.
    """
    words = [f" {a}{b}{c}" for a in "bdfghklmnprstvz" for b in "aeiou" for c in "bdfgklmnprstvxz"]
    words += [word.rstrip(".;") for word in (THINKING + ANSWER).replace(" ", "\n ").split("\n") if word]
    tokens = [_byte_letter(byte) for byte in range(256)]
    known = set(tokens)
    merges = []
    for word in words:
        beginning = _SPACE
        for letter in word[1:]:
            if beginning + letter not in known:
                known.add(beginning + letter)
                tokens.append(beginning + letter)
                merges.append((beginning, letter))
            beginning += letter
    return {token: index for index, token in enumerate(tokens)}, merges


def successors(ids: dict[str, int]) -> list[int]:
    """Which token follows each token: the fixed answer, and one long ring of words for everything else."""
    chain = [ids[_byte_letter(10)], *_chain_ids(ids, THINKING), ids["</think>"], *_chain_ids(ids, ANSWER)]
    chain.append(ids["<|im_end|>"])
    call = [ids["<|tools|>"], *(ids[token] for token in CALL)]
    words = [index for token, index in ids.items() if token.startswith(_SPACE) and len(token) == 4]
    words = [word for word in words if word not in chain]  # else the ring would lead into the answer
    random.Random(1).shuffle(words)  # noqa: S311 – repeatable, not secret
    ring = {word: words[(place + 1) % len(words)] for place, word in enumerate(words)}
    following = [ring.get(index, words[index % len(words)]) for index in range(len(ids))]
    for token, after in (*itertools.pairwise(chain), *itertools.pairwise(call)):
        following[token] = after
    return following


def _chain_ids(ids: dict[str, int], sentence: str) -> list[int]:
    words = sentence[:-1].replace(" ", f"\n{_SPACE}").split("\n")[1:]
    return [ids[word] for word in words] + [ids[sentence[-1]]]


def _byte_letter(byte: int) -> str:
    """GPT-2's printable letter for a byte: itself where printable, else one from U+0100 on, in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    if byte in printable:
        return chr(byte)
    return chr(0x100 + [other for other in range(256) if other not in printable].index(byte))


def _tokenizer(vocab: dict[str, int], merges: list[tuple[str, str]], special: dict[str, int]) -> dict[str, object]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": index, "content": name, **flags, "special": name in SPECIAL} for name, index in special.items()
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(pair) for pair in merges],
        },
    }


def _tokenizer_config() -> dict[str, object]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
        "chat_template": _TEMPLATE,
    }


def _config(vocab_size: int, special: dict[str, int]) -> dict[str, object]:
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": HIDDEN,
        "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "head_dim": HEAD_DIM,
        "vocab_size": vocab_size,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_sliding_window": False,
        "bos_token_id": special["<|endoftext|>"],
        "eos_token_id": special["<|im_end|>"],
        "pad_token_id": special["<|endoftext|>"],
    }


def _tensors(following: Sequence[int]) -> dict[str, tuple[tuple[int, ...], array.array[float]]]:
    """Name → (shape, values)."""
    dice = random.Random(0)  # noqa: S311 – repeatable, not secret
    size = len(following)
    embedding = array.array("f", (dice.gauss(0, 1) for _ in range(size * HIDDEN)))
    output = array.array("f", bytes(4 * size * HIDDEN))
    scale = 0.3  # a logit of about 38 for the chosen token, below 13 for any other: sampling cannot stray
    for token, after in enumerate(following):
        for place in range(HIDDEN):
            output[after * HIDDEN + place] += scale * embedding[token * HIDDEN + place]

    def noise(*shape: int) -> tuple[tuple[int, ...], array.array[float]]:
        return shape, array.array("f", (dice.gauss(0, 0.02) for _ in range(_count(shape))))

    def constant(value: float, *shape: int) -> tuple[tuple[int, ...], array.array[float]]:
        return shape, array.array("f", [value]) * _count(shape)

    heads, shared = HEADS * HEAD_DIM, HEAD_DIM
    tensors = {
        "lm_head.weight": ((size, HIDDEN), output),
        "model.embed_tokens.weight": ((size, HIDDEN), embedding),
        "model.norm.weight": constant(1, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        tensors |= {
            f"{prefix}.input_layernorm.weight": constant(1, HIDDEN),
            f"{prefix}.post_attention_layernorm.weight": constant(1, HIDDEN),
            f"{prefix}.mlp.gate_proj.weight": noise(FEED_FORWARD, HIDDEN),
            f"{prefix}.mlp.up_proj.weight": noise(FEED_FORWARD, HIDDEN),
            f"{prefix}.mlp.down_proj.weight": constant(0, HIDDEN, FEED_FORWARD),
            f"{prefix}.self_attn.o_proj.weight": constant(0, HIDDEN, heads),
        }
        for name, rows in (("q", heads), ("k", shared), ("v", shared)):
            tensors[f"{prefix}.self_attn.{name}_proj.weight"] = noise(rows, HIDDEN)
            tensors[f"{prefix}.self_attn.{name}_proj.bias"] = constant(0, rows)
    return tensors


def _count(shape: Sequence[int]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _safetensors(tensors: dict[str, tuple[tuple[int, ...], array.array[float]]]) -> bytes:
    """The safetensors format: length of the header (u64), JSON header, data; all bfloat16."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    body = bytearray()
    for name, (shape, values) in sorted(tensors.items()):
        start = len(body)
        raw = values.tobytes()
        halves = bytearray(len(raw) // 2)
        halves[0::2], halves[1::2] = raw[2::4], raw[3::4]  # bfloat16 is the upper half of a little-endian float32
        body += halves
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, len(body)]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + bytes(body)


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
