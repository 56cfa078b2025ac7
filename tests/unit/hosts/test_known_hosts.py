from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest

from provisioner.errors import UnreachableError
from provisioner.hosts.endpoint import Endpoint
from provisioner.hosts.known_hosts import check, find, fingerprint, known_keys, lookup_name, verdict

KEY, OTHER = b"a host key", b"another key"
CODED, OTHER_CODED = base64.b64encode(KEY).decode(), base64.b64encode(OTHER).decode()
ENDPOINT = Endpoint("gpu-01", "10.0.0.1", 22, "ops")


def found(line: str, name: str) -> bool:
    return bool(list(find(line, "known_hosts", name)))


@pytest.mark.parametrize(
    ("names", "name", "expected"),
    [
        ("gpu-01,10.0.0.1", "10.0.0.1", True),
        ("GPU-01", "gpu-01", True),
        ("gpu-0", "gpu-01", False),
        ("*.example.com", "a.example.com", True),
        ("*.example.com,!b.example.com", "b.example.com", False),
        ("gpu-0?", "gpu-01", True),
        ("[10.0.0.1]:2222", "[10.0.0.1]:2222", True),
        ("10.0.0.1", "[10.0.0.1]:2222", False),
        ("# gpu-01", "gpu-01", False),
    ],
)
def test_names(names: str, name: str, expected: bool) -> None:
    assert found(f"{names} ssh-ed25519 {CODED} comment", name) is expected


def test_line_has_a_place_and_a_marker() -> None:
    (one,) = find(f"\n@revoked * ssh-ed25519 {CODED}\n", "/x/known_hosts", "gpu-01")
    assert (one.marker, one.key_type, one.key, one.place) == ("@revoked", "ssh-ed25519", CODED, "/x/known_hosts:2")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", "unknown"),
        (f"gpu-01 ssh-ed25519 {CODED}", "known"),
        (f"gpu-01 ssh-ed25519 {OTHER_CODED}", "changed"),
        (f"gpu-01 ssh-rsa {OTHER_CODED}", "changed"),
        (f"gpu-01 ssh-ed25519 {OTHER_CODED}\ngpu-01 ssh-ed25519 {CODED}", "known"),
        (f"gpu-01 ssh-ed25519 {CODED}\n@revoked * ssh-ed25519 {CODED}", "revoked"),
        (f"@cert-authority * ssh-ed25519 {CODED}", "unknown"),
    ],
)
def test_verdict(lines: str, expected: str) -> None:
    assert verdict(list(find(lines, "known_hosts", "gpu-01")), "ssh-ed25519", CODED) == expected


def test_lookup_name() -> None:
    assert lookup_name(ENDPOINT) == "10.0.0.1"
    assert lookup_name(replace(ENDPOINT, port=2222)) == "[10.0.0.1]:2222"
    assert lookup_name(replace(ENDPOINT, port=2222, host_key_name="alias")) == "alias"


def test_unknown_key_is_refused() -> None:
    with pytest.raises(UnreachableError) as caught:
        check(ENDPOINT, (), "ssh-ed25519", KEY)
    assert str(caught.value) == (
        f"gpu-01: the host key {fingerprint(KEY)} (ssh-ed25519) of 10.0.0.1:22 is not known\n"
        "  hint: compare it with the host's own and record it by connecting once with ssh gpu-01, "
        "or set `StrictHostKeyChecking accept-new` in the SSH configuration"
    )


@pytest.mark.parametrize("strict", ["yes", "accept-new", "no"])
def test_changed_key_is_always_refused(tmp_path: Path, strict: str) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"10.0.0.1 ssh-ed25519 {OTHER_CODED}\n")
    endpoint = replace(ENDPOINT, known_hosts=(file,), strict=strict)  # type: ignore[arg-type]  # a parameter of the test
    with pytest.raises(UnreachableError) as caught:
        check(endpoint, known_keys(endpoint), "ssh-ed25519", KEY)
    assert str(caught.value) == (
        f"gpu-01: the host key of 10.0.0.1:22 has changed: it presents {fingerprint(KEY)} (ssh-ed25519), "
        f"but {file}:1 has another\n"
        "  hint: someone may be in the middle; only if you know that the host was installed anew, "
        f"forget the old key: ssh-keygen -R '10.0.0.1' -f {file}"
    )


def test_revoked_key_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "known_hosts"
    file.write_text(f"@revoked * ssh-ed25519 {CODED}\n10.0.0.1 ssh-ed25519 {CODED}\n")
    endpoint = replace(ENDPOINT, known_hosts=(file,), strict="no")
    with pytest.raises(UnreachableError, match="is revoked"):
        check(endpoint, known_keys(endpoint), "ssh-ed25519", KEY)


@pytest.mark.parametrize("hashed", [False, True])
def test_new_key_is_recorded_and_known_from_then_on(tmp_path: Path, hashed: bool) -> None:
    file = tmp_path / "ssh" / "known_hosts"
    file.parent.mkdir()
    file.write_text("other ssh-ed25519 AAAA")  # no end of line
    endpoint = replace(ENDPOINT, known_hosts=(file,), strict="accept-new", hash_known_hosts=hashed)
    check(endpoint, known_keys(endpoint), "ssh-ed25519", KEY)
    first, second = file.read_text().splitlines()
    assert first == "other ssh-ed25519 AAAA"
    assert second.startswith("|1|" if hashed else "10.0.0.1 ssh-ed25519 ")
    check(replace(endpoint, strict="yes"), known_keys(endpoint), "ssh-ed25519", KEY)


def test_hash_of_openssh() -> None:
    line = f"|1|HjLKkeQkkVziwx0qNlhNfm5CWZI=|XRH1GekmVz+bmsHGyPUVGOQMVPs= ssh-ed25519 {CODED}"
    assert found(line, "192.168.1.61")
    assert not found(line, "192.168.1.62")


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    folder = replace(ENDPOINT, known_hosts=(tmp_path,), strict="accept-new")
    with pytest.raises(UnreachableError, match=f"^gpu-01: cannot read the known hosts in {tmp_path}: Is a directory$"):
        known_keys(folder)
    with pytest.raises(UnreachableError, match=f"^gpu-01: cannot record its host key in {tmp_path}: Is a directory$"):
        check(folder, (), "ssh-ed25519", KEY)
