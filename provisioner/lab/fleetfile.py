"""The fleet file that `provision lab up` writes, with what it refers to."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from provisioner.lab.context import Engine
from provisioner.lab.source import TAG as SIM_TAG
from provisioner.lab.vllm_cpu import TAG as VLLM_TAG

_FLEET_RECORD = "fleet-files"
_TEMPLATE = """\
# Written by `provision lab up`. Simulated GPUs; the engine of an image is in its label.
name: lab
# emulated hosts take their time to let somebody in
ssh: {{config: ssh_config, connect_timeout_s: 30}}
docker:
  source: distribution
  registry_mirrors: ["http://{gateway}:5000"]
  insecure_registries: ["{gateway}:5000"]
  min_free_gib: 4
hub: {{endpoint: "http://{gateway}:8800", token: "file:hf_token"}}
hosts:
{hosts}
servers:
  nemotron:
    recipe: nemotron-3-nano
    image:
      linux/amd64: vllm/vllm-openai:{tag}
      dgx_spark_gb10: {{build: {{git: "git://{gateway}/vllm"}}}}
    max_num_seqs: 8
    max_model_len: 2048
    extra_args: [--enforce-eager]
    benchmark: {{random_input_len: 128, random_output_len: 32, num_prompts: 32, max_concurrency: 8, num_warmups: 2}}
    # all hosts share this machine's processors with each other and with everything else: speeds say nothing about them
    baseline: {{against: nothing}}
"""


def fleet_text(hosts: Sequence[str], gateway: str, engines: frozenset[Engine]) -> str:
    """The fleet file of these hosts; the tag tells the true version of the engine behind it."""
    return _TEMPLATE.format(
        gateway=gateway,
        hosts="\n".join(f"  {name}: {{}}" for name in hosts),
        tag=VLLM_TAG if "vllm" in engines else SIM_TAG,
    )


def write_fleet(file: Path, text: str, *, ssh_config: Path, token: str) -> None:
    """Write the fleet file with its ssh_config and hf_token (0600) beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    shutil.copyfile(ssh_config, file.parent / "ssh_config")
    secret = file.parent / "hf_token"
    secret.touch(mode=0o600)
    secret.chmod(0o600)
    secret.write_text(f"{token}\n")


def remove_fleet(file: Path) -> None:
    """Remove what write_fleet wrote, and the folder if nothing else is in it."""
    for name in (file.name, "ssh_config", "hf_token"):
        (file.parent / name).unlink(missing_ok=True)
    if file.parent.exists() and not any(file.parent.iterdir()):
        file.parent.rmdir()


def remember_fleet(state: Path, file: Path) -> None:
    """The last one written is the last line; `down` removes them all."""
    files = [known for known in fleet_files(state) if known != file]
    (state / _FLEET_RECORD).write_text("".join(f"{known}\n" for known in [*files, file]))


def fleet_files(state: Path) -> list[Path]:
    """Every fleet file written since the lab is up that is still there, the latest last."""
    record = state / _FLEET_RECORD
    lines = record.read_text().splitlines() if record.exists() else []
    return [Path(line) for line in lines if Path(line).exists()]
