from __future__ import annotations

import json

import pytest
from builders import facts, file

from provisioner.errors import HostError
from provisioner.hosts.fake import FakeTransport
from provisioner.hosts.transport import Result
from provisioner.rollout.proofs import proof_path, proven, remove_proof, write_proof

PATH = "/var/lib/vllm/proofs/nemotron.json"


def test_a_proof_is_written_whole_as_root() -> None:
    host = FakeTransport(answers=[("^sudo -n sh -c ", "")])
    write_proof(host, "nemotron", "f00d", "run-1")
    (ran,) = host.ran
    assert ran.command == (
        f"sudo -n sh -c 'umask 022; mkdir -p /var/lib/vllm/proofs && cat > {PATH}.new && mv {PATH}.new {PATH}'"
    )
    assert json.loads(ran.stdin) == {"fingerprint": "f00d", "run": "run-1"}
    assert proven(facts(files=(file(PATH, ran.stdin.decode()),)), "nemotron") == "f00d"


def test_a_proof_that_cannot_be_written_is_an_error() -> None:
    host = FakeTransport(answers=[("", Result(1, "", "No space left on device"))])
    with pytest.raises(HostError, match=f"^cannot write {PATH}$") as caught:
        write_proof(host, "nemotron", "f00d", "run-1")
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


@pytest.mark.parametrize("content", [None, "", "{", "[]", "3", "null", "{}", '{"fingerprint": 7}'])
def test_what_is_no_proof(content: str | None) -> None:
    files = () if content is None else (file(PATH, content),)
    assert proven(facts(files=files), "nemotron") is None


def test_each_server_has_its_own() -> None:
    seen = facts(files=(file(proof_path("a"), '{"fingerprint": "1"}'), file(proof_path("b"), '{"fingerprint": "2"}')))
    assert (proven(seen, "a"), proven(seen, "b"), proven(seen, "c")) == ("1", "2", None)
