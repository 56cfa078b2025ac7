"""What lab hosts fetch besides images: models from the hub, the vLLM source tree from git. Both on the gateway."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from provisioner.lab import services
from provisioner.lab.context import EngineContext, Report
from provisioner.lab.process import run
from provisioner.lab.registry import wait_for_http, wait_for_port

HUB_PORT, GIT_PORT = 8800, 9418
_HUB, _GIT = "hub", "git-daemon"


def ensure_supply(context: EngineContext, report: Report) -> None:
    """Start the hub and git daemon unless they run. Raises LabError when one does not answer."""
    state, gateway = context.state_dir, context.gateway
    if not services.is_running(state, _HUB):
        argv = [sys.executable, "-m", "provisioner.lab.hub", str(context.hub_root)]
        address, _, port = context.hub.rpartition(":")
        argv += ["--bind", address, "--port", port, "--token-file", str(token_file(state))]
        hub_token(state)
        services.start(state, _HUB, argv, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
        wait_for_http(state, _HUB, f"http://{gateway}:{HUB_PORT}/")
        report(f"hub: answers at http://{gateway}:{HUB_PORT}")
    if not services.is_running(state, _GIT):
        # git-daemon itself and not `git daemon`: that one is a parent which does not hand signals on
        programs = run(["git", "--exec-path"], timeout=20, what="asking git where its programs are").strip()
        argv = [f"{programs}/git-daemon", f"--base-path={context.git_root}", "--export-all", "--reuseaddr"]
        argv += [f"--listen={gateway}", f"--port={GIT_PORT}", str(context.git_root)]
        services.start(state, _GIT, argv)
        wait_for_port(state, _GIT, gateway, GIT_PORT)
        report(f"git: answers at git://{gateway}/vllm")


def hub_token(state: Path) -> str:
    """The one token that opens the hub's gated repositories; made on first use."""
    file = token_file(state)
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(f"hf_lab_{secrets.token_hex(12)}\n")
    return file.read_text().split()[0]


def token_file(state: Path) -> Path:
    """Tokens that the hub accepts, one a line; read at every request."""
    return state / "hub-tokens"
