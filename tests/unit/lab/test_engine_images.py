"""How the engine images are made, as far as it can be seen without an engine or a registry."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from provisioner.lab import source, vllm_cpu, wheels
from provisioner.lab.ocipush import Image, config_on, write_layer

DATA = Path(vllm_cpu.__file__).parent / "data"


def test_a_layer_is_the_same_every_time_and_names_its_contents(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "usr/bin").mkdir(parents=True)
    (tree / "usr/bin/tool").write_text("#!/bin/sh\n")
    (tree / "usr/bin/tool").chmod(0o755)
    (tree / "usr/bin/alias").symlink_to("tool")
    (tree / "left-out").write_text("x")
    one = write_layer(tmp_path / "1", tree, lambda path: path.startswith("usr"))
    (tree / "usr/bin/tool").touch()
    two = write_layer(tmp_path / "2", tree, lambda path: path.startswith("usr"))
    assert (one.digest, one.diff_id, one.size) == (two.digest, two.diff_id, two.size)
    raw = one.file.read_bytes()
    assert one.digest == f"sha256:{hashlib.sha256(raw).hexdigest()}"
    assert one.diff_id == f"sha256:{hashlib.sha256(gzip.decompress(raw)).hexdigest()}"
    with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
        entries = tar.getmembers()
    assert [(e.name, e.mode, e.uid, e.linkname) for e in entries if not e.isdir()] == [
        ("usr/bin/alias", 0o777, 0, "tool"),
        ("usr/bin/tool", 0o755, 0, ""),
    ]


def test_a_config_stands_on_its_base(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    layer = write_layer(tmp_path / "layer", tmp_path / "tree")
    below = {
        "config": {"Env": ["PATH=/bin"], "Labels": {"a": "1"}, "Cmd": ["sh"]},
        "rootfs": {"diff_ids": ["sha256:x"]},
        "history": [{"created_by": "base"}],
    }
    config = config_on(
        Image("sha256:b", {"layers": []}, below),
        "arm64",
        [layer],
        labels={"b": "2"},
        created_by="test",
        Cmd=None,
        Env=["A=1"],
    )
    assert config["architecture"] == "arm64"
    assert config["config"] == {"Env": ["PATH=/bin", "A=1"], "Labels": {"a": "1", "b": "2"}, "Cmd": None}
    assert config["rootfs"]["diff_ids"] == ["sha256:x", layer.diff_id]
    assert len(config["history"]) == 2


@pytest.mark.parametrize(
    ("flags", "kernel"),
    [
        ("fpu avx2", "_C_AVX2"),
        ("avx2 avx512f", "_C_AVX2"),
        ("avx512f avx512dq avx512bw avx512vl", "_C_AVX512"),
        ("avx512f avx512dq avx512bw avx512vl avx512_bf16 amx_tile", "_C"),
    ],
)
def test_the_kernel_library_fits_the_cpu(flags: str, kernel: str) -> None:
    assert vllm_cpu.kernel_for(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n") == kernel
    assert vllm_cpu.inputs_hash(kernel) != vllm_cpu.inputs_hash("other")


def test_requirements_are_pinned_and_name_no_address() -> None:
    for file in DATA.glob("requirements-*.txt"):
        lines = [line for line in file.read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all(re.fullmatch(r"[\w.-]+==[\w.+]+", line) for line in lines), file


def test_pip_is_asked_for_wheels_of_the_target() -> None:
    flags = wheels.target_flags("3.13", "aarch64", 41)
    assert "--python-version=3.13" in flags
    assert "--abi=cp313" in flags
    assert "--platform=manylinux_2_41_aarch64" in flags
    assert not any("x86_64" in flag for flag in flags)


def test_the_same_tree_is_the_same_commit(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    tree = tmp_path / "tree"
    source.write_tree(tree, tmp_path / "wheels")
    first = source.ensure_repository(tmp_path / "a/vllm", tree)
    assert source.ensure_repository(tmp_path / "a/vllm", tree) == first
    assert source.ensure_repository(tmp_path / "b/vllm", tree) == first
    (tree / "README.md").write_text("changed")
    assert source.ensure_repository(tmp_path / "a/vllm", tree) != first


def test_the_dockerfile_takes_the_guides_build_arguments() -> None:
    text = (Path(source.__file__).parent / "source_tree/docker/Dockerfile").read_text()
    for name in ("max_jobs", "RUN_WHEEL_CHECK", "CUDA_VERSION", "BUILD_BASE_IMAGE", "torch_cuda_arch_list"):
        assert f"ARG {name}" in text
        assert f'provision.build.{name}="${{{name}}}"' in text
    assert "AS vllm-openai\n" in text
    assert 'provision.engine="sim"' in text


def test_the_engine_is_laid_out_for_one_architecture(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    for name in ("pure-1-py3-none-any", "fast-1-cp313-cp313-linux_aarch64", "fast-1-cp313-cp313-linux_x86_64"):
        with zipfile.ZipFile(tmp_path / "wheels" / f"{name}.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "")
    source.write_tree(tmp_path / "tree", tmp_path / "wheels")
    source.install_engine(tmp_path / "tree", tmp_path / "root", "arm64")
    placed = {path.name for path in (tmp_path / "root/opt/provision-sim").glob("*.py")}
    assert placed == {"pure-1-py3-none-any.py", "fast-1-cp313-cp313-linux_aarch64.py"}
    assert (tmp_path / "root/opt/provision-sim/provision_sim/serve_flags.json").exists()
    vllm = tmp_path / "root/usr/local/bin/vllm"
    assert vllm.stat().st_mode & 0o111
    assert "provision_sim.__main__" in vllm.read_text()


def test_flag_tables_are_sound() -> None:
    for name in ("serve", "bench"):
        table = json.loads((Path(source.__file__).parent / f"sim/{name}_flags.json").read_text())
        names = [word for flag in table for word in flag["names"]]
        assert len(names) == len(set(names))
        assert {flag["kind"] for flag in table} <= {"switch", "boolean", "value", "optional", "list"}
