"""Our roles by Ansible itself, with this machine as every host: what the tests of them have in common."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ansible_mitogen

from provisioner import assets

STRATEGIES = Path(ansible_mitogen.__file__).parent / "plugins" / "strategy"


def run_playbook(
    folder: Path, *words: str | Path, strategy: str = "mitogen_linear", timeout_s: float = 180, **variables: str
) -> subprocess.CompletedProcess[str]:
    """`ansible-playbook WORDS` in a folder, which takes all that Ansible leaves. `variables`: of its environment.

    By Mitogen's strategy, where a module costs no process of its own; test_strategies shows that they answer the same.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    ours = {
        "ANSIBLE_HOME": str(folder / "home"),
        "ANSIBLE_LOCAL_TEMP": str(folder / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(folder / "tmp"),
        "ANSIBLE_ROLES_PATH": str(assets.ansible_dir() / "roles"),
        "ANSIBLE_STRATEGY": strategy,
        "ANSIBLE_STRATEGY_PLUGINS": str(STRATEGIES),
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_NOCOLOR": "1",
    }
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", *words],
        env={**kept, **ours, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
