from __future__ import annotations

import pytest

from provisioner.plan.references import Reference, by_digest, parse

DIGEST = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("vllm/vllm-openai:v0.12.0", ("docker.io", "vllm/vllm-openai", "v0.12.0", "")),
        ("vllm/vllm-openai", ("docker.io", "vllm/vllm-openai", "latest", "")),
        ("debian", ("docker.io", "library/debian", "latest", "")),
        ("docker.io/debian:13", ("docker.io", "library/debian", "13", "")),
        (f"debian@{DIGEST}", ("docker.io", "library/debian", "", DIGEST)),
        (f"nvcr.io/nvidia/vllm:25.11@{DIGEST}", ("nvcr.io", "nvidia/vllm", "25.11", DIGEST)),
        ("localhost/vllm", ("localhost", "vllm", "latest", "")),
        ("registry:5000/vllm:1", ("registry:5000", "vllm", "1", "")),
        ("registry.lan:5000/team/sub/vllm", ("registry.lan:5000", "team/sub/vllm", "latest", "")),
    ],
)
def test_parse(written: str, meant: tuple[str, str, str, str]) -> None:
    assert parse(written) == Reference(*meant)


@pytest.mark.parametrize(
    ("written", "listed"),
    [
        (f"vllm/vllm-openai:v0.12.0@{DIGEST}", f"vllm/vllm-openai@{DIGEST}"),
        (f"registry:5000/vllm@{DIGEST}", f"registry:5000/vllm@{DIGEST}"),
        (f"registry:5000/vllm:1@{DIGEST}", f"registry:5000/vllm@{DIGEST}"),
        ("registry:5000/vllm:1", "registry:5000/vllm:1"),
    ],
)
def test_by_digest(written: str, listed: str) -> None:
    assert by_digest(written) == listed
