from __future__ import annotations

import json

import pytest
from builders import facts, file

from provisioner.errors import HostError
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.transport import Result
from provisioner.plan.proof import Proof
from provisioner.rollout.proofs import proof_path, proven, remove_proof, write_proof

PATH = "/var/lib/vllm/proofs/nemotron.json"
WRITTEN = {"fingerprint": "f00d", "driver": "580.95.05", "image_id": "sha256:11"}
PROOF = Proof(fingerprint="f00d", driver="580.95.05", image_id="sha256:11")


def test_a_proof_is_written_whole_as_root() -> None:
    host = FakeTransport(answers=[("^sudo -n sh -c ", "")])
    write_proof(host, "nemotron", PROOF, "run-1")
    (ran,) = host.ran
    assert ran.command == (
        f"sudo -n sh -c 'umask 022; mkdir -p /var/lib/vllm/proofs && cat > {PATH}.new && mv {PATH}.new {PATH}'"
    )
    assert json.loads(ran.stdin) == {**WRITTEN, "run": "run-1"}
    assert proven(facts(files=(file(PATH, ran.stdin.decode()),)), "nemotron") == PROOF


def test_a_proof_that_cannot_be_written_is_an_error() -> None:
    host = FakeTransport(answers=[("", Result(1, "", "No space left on device"))])
    with pytest.raises(HostError, match=f"^cannot write {PATH}$") as caught:
        write_proof(host, "nemotron", PROOF, "run-1")
    assert caught.value.log == "No space left on device"


def test_a_proof_is_removed() -> None:
    host = FakeTransport(answers=[("^sudo -n rm -f ", "")])
    remove_proof(host, "nemotron")
    assert host.commands == [f"sudo -n rm -f {PATH}"]


def test_a_proof_that_stays_is_an_error() -> None:
    host = FakeTransport(answers=[("", Result(1, "", "Read-only file system"))])
    with pytest.raises(HostError, match=f"^cannot remove {PATH}$") as caught:
        remove_proof(host, "nemotron")
    assert caught.value.log == "Read-only file system"


NO_PROOFS = [None, "", "{", "[]", "3", "null", "{}", '{"fingerprint": 7, "driver": null, "image_id": null}']


@pytest.mark.parametrize("content", [*NO_PROOFS, '{"fingerprint": "f00d", "run": "of a version that knew no drivers"}'])
def test_what_is_no_proof(content: str | None) -> None:
    files = () if content is None else (file(PATH, content),)
    assert proven(facts(files=files), "nemotron") is None


def test_each_server_has_its_own() -> None:
    other = PROOF.model_copy(update={"fingerprint": "cafe"})
    files = [file(proof_path(name), one.model_dump_json()) for name, one in {"a": PROOF, "b": other}.items()]
    seen = facts(files=tuple(files))
    assert (proven(seen, "a"), proven(seen, "b"), proven(seen, "c")) == (PROOF, other, None)
