"""Which validation a server has passed: a small file on the host, so that every control machine sees it."""

from __future__ import annotations

import json
import shlex

from pydantic import ValidationError

from provisioner.errors import HostError
from provisioner.hosts.transport import Transport
from provisioner.plan.facts import Facts
from provisioner.plan.proof import Proof

_FOLDER = "/var/lib/vllm/proofs"
_TIMEOUT_S = 30.0


def proof_path(server: str) -> str:
    """Where the proof of a server is kept."""
    return f"{_FOLDER}/{server}.json"


def proven(facts: Facts, server: str) -> Proof | None:
    """What last passed validation on this host as this server; None when nothing did."""
    content = next((file.content for file in facts.files if file.path == proof_path(server)), None)
    try:
        written = json.loads(content or "{}")
        return Proof(**{key: written[key] for key in Proof.model_fields})
    except (ValueError, TypeError, KeyError, ValidationError):
        return None  # not ours, cut short, or from before one of its parts: as good as no proof


def write_proof(transport: Transport, server: str, proof: Proof, run: str) -> None:
    """Records that the server passed validation, whole or not at all."""
    path = proof_path(server)
    text = json.dumps({**proof.model_dump(), "run": run}, indent=1) + "\n"
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
