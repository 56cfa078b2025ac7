"""Which validation a server has passed: a small file on the host, so that every control machine sees it."""

from __future__ import annotations

import json
import shlex

from provisioner.errors import HostError
from provisioner.hosts.transport import Transport
from provisioner.plan.facts import Facts

_FOLDER = "/var/lib/vllm/proofs"
_TIMEOUT_S = 30.0


def proof_path(server: str) -> str:
    """Where the proof of a server is kept."""
    return f"{_FOLDER}/{server}.json"


def proven(facts: Facts, server: str) -> str | None:
    """The fingerprint of the server that last passed validation on this host; None when none did."""
    content = next((file.content for file in facts.files if file.path == proof_path(server)), None)
    try:
        fingerprint = json.loads(content or "{}").get("fingerprint")
    except (ValueError, AttributeError):
        return None  # not ours, or cut short: as good as no proof
    return fingerprint if isinstance(fingerprint, str) else None


def write_proof(transport: Transport, server: str, fingerprint: str, run: str) -> None:
    """Records that the server passed validation, whole or not at all."""
    path = proof_path(server)
    text = json.dumps({"fingerprint": fingerprint, "run": run}, indent=1) + "\n"
    script = f"umask 022; mkdir -p {_FOLDER} && cat > {path}.new && mv {path}.new {path}"
    result = transport.run(f"sudo -n sh -c {shlex.quote(script)}", stdin=text, timeout_s=_TIMEOUT_S)
    if result.rc != 0:
        raise HostError(f"cannot write {path}", log=result.stderr)


def remove_proof(transport: Transport, server: str) -> None:
    """Forgets the proof: from here on the server must be validated again, whatever happens in between."""
    path = proof_path(server)
    result = transport.run(f"sudo -n rm -f {shlex.quote(path)}", timeout_s=_TIMEOUT_S)
    if result.rc != 0:
        raise HostError(f"cannot remove {path}", log=result.stderr)
