"""The registry client against a real server (loopback): digests, mirrors, refusals, and what each failure says."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oci_server import Registry, Store

from provisioner.errors import Exit, UpstreamError, UpstreamUnreachableError
from provisioner.lab.certificates import make_certificate
from provisioner.upstream import registry as module
from provisioner.upstream.registry import Credentials, Registries

NAME = "vllm/vllm-openai"
TAG = f"{NAME}:v0.12.0"


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def server(store: Store) -> Iterator[Registry]:
    with Registry(store) as running:
        yield running


@pytest.fixture(autouse=True)
def no_docker_hub(monkeypatch: pytest.MonkeyPatch) -> str:
    """Nobody listens there."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(module, "_HUB_ADDRESS", address)
    return address


def two_platforms(store: Store, name: str = NAME, tag: str = "v0.12.0") -> tuple[str, str, str]:
    """Digests of an index, and of its amd64 and arm64 images."""
    amd64 = store.put_image(name, "a", architecture="amd64")
    arm64 = store.put_image(name, "b", architecture="arm64")
    entries: list[dict[str, Any]] = [
        {"digest": amd64, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": arm64, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {"digest": "sha256:" + "a" * 64, "platform": {"os": "unknown", "architecture": "unknown"}},
        {"digest": "sha256:" + "b" * 64, "platform": {"os": "linux", "architecture": "arm", "variant": "v7"}},
    ]
    return store.put_index(name, tag, entries), amd64, arm64


def test_an_index_and_its_platforms(store: Store, server: Registry) -> None:
    index, amd64, arm64 = two_platforms(store)
    found = Registries(mirrors=[f"http://{server.address}/"]).locked(TAG)
    assert found.digest == index
    assert found.platforms == {"linux/amd64": amd64, "linux/arm64": arm64, "linux/arm/v7": "sha256:" + "b" * 64}
    assert server.asked == [f"/v2/{NAME}/manifests/v0.12.0"]


def test_an_image_without_an_index(store: Store, server: Registry) -> None:
    own = store.put_image(NAME, "v0.12.0", architecture="arm64")
    found = Registries(mirrors=[f"http://{server.address}"]).locked(TAG)
    assert (found.digest, found.platforms) == (own, {"linux/arm64": own})


def test_what_is_not_said_is_filled_in_as_docker_does(store: Store, server: Registry) -> None:
    own = store.put_image("library/debian", "latest")
    assert Registries(mirrors=[f"http://{server.address}"]).locked("debian").digest == own
    assert Registries(mirrors=[f"http://{server.address}"]).locked(f"docker.io/debian@{own}").digest == own


def test_a_mirror_that_lacks_it_is_no_answer(store: Store, server: Registry) -> None:
    own = store.put_image(NAME, "v0.12.0")
    with Registry(Store()) as empty:
        mirrors = [f"http://{empty.address}", f"http://{server.address}"]
        assert Registries(mirrors=mirrors).locked(TAG).digest == own
        assert empty.asked == server.asked[:1]


def test_a_registry_of_its_own_has_no_mirrors(store: Store, server: Registry) -> None:
    own = store.put_image("team/vllm", "1")
    with Registry(Store()) as mirror:
        found = Registries(mirrors=[f"http://{mirror.address}"], insecure=[server.address]).locked(
            f"{server.address}/team/vllm:1"
        )
        assert mirror.asked == []
    assert found.digest == own


def test_nobody_has_it(server: Registry, no_docker_hub: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        Registries(mirrors=[f"http://{server.address}"]).locked(TAG)
    assert str(caught.value) == (
        f"{TAG} is told by no registry: http://{server.address} has no {NAME}:v0.12.0; https://{no_docker_hub} cannot "
        "be asked: ConnectionRefusedError: [Errno 111] Connection refused\n  hint: check the name and the tag"
    )
    assert caught.value.exit_code == Exit.BAD_INPUT


def test_nobody_answers(no_docker_hub: str) -> None:
    with pytest.raises(UpstreamUnreachableError) as caught:
        Registries(mirrors=[f"http://{no_docker_hub}"]).locked(TAG)
    refused = "cannot be asked: ConnectionRefusedError: [Errno 111] Connection refused"
    assert str(caught.value) == (
        f"{TAG} is told by no registry: http://{no_docker_hub} {refused}; https://{no_docker_hub} {refused}\n"
        "  hint: this machine must reach a registry that the hosts pull from, or a mirror of it"
    )
    assert caught.value.exit_code == Exit.UNREACHABLE


def test_a_name_that_is_none() -> None:
    with pytest.raises(UpstreamUnreachableError, match=r"https://registry\.invalid cannot be asked: gaierror: "):
        Registries().locked("registry.invalid/vllm:1")


def test_a_registry_that_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(UpstreamUnreachableError, match=f"http://{address} cannot be asked: .*timed out"):
            Registries(mirrors=[f"http://{address}"]).locked(TAG)


@pytest.mark.parametrize(("status", "said"), [(503, "answers HTTP 503"), (403, "refuses a look without credentials")])
def test_a_registry_that_does_not_want(server: Registry, status: int, said: str) -> None:
    server.status = status
    with pytest.raises(UpstreamError, match=f"http://{server.address} {said}"):
        Registries(mirrors=[f"http://{server.address}"]).locked(TAG)


def test_a_private_registry(store: Store) -> None:
    own = store.put_image("team/vllm", "1")
    with Registry(store, login="me:sEcReT") as private:
        name = f"{private.address}/team/vllm:1"
        known = {private.address: Credentials("me", "sEcReT")}
        assert Registries(insecure=[private.address], credentials=known).locked(name).digest == own
        for given, said in (
            ({}, "refuses a look without credentials (HTTP 401)"),
            ({private.address: Credentials("me", "wrong-sEcReT")}, "refuses these credentials (HTTP 401)"),
        ):
            with pytest.raises(UpstreamError) as caught:
                Registries(insecure=[private.address], credentials=given).locked(name)
            assert f"http://{private.address} {said}" in str(caught.value)
            assert "sEcReT" not in f"{caught.value}{caught.value.__cause__}"
    assert "sEcReT" not in repr(known)


def test_a_digest_that_is_not_the_content_s(store: Store, server: Registry) -> None:
    store.put_image(NAME, "v0.12.0")
    server.digest_header = "sha256:" + "0" * 64
    with pytest.raises(UpstreamError, match="answers what is no image: ValueError: the digest of the manifest is"):
        Registries(mirrors=[f"http://{server.address}"]).locked(TAG)


@pytest.mark.parametrize("body", [{}, {"manifests": [{}]}, {"config": {}}, []])
def test_what_is_no_image(store: Store, server: Registry, body: Any) -> None:
    store.put(NAME, "v0.12.0", "application/json", body)
    with pytest.raises(UpstreamError, match=f"http://{server.address} answers what is no image: "):
        Registries(mirrors=[f"http://{server.address}"]).locked(TAG)


class TestInsecure:
    """Which registries may be asked without TLS, or with certificates that nobody vouches for."""

    @pytest.mark.parametrize(
        ("host", "insecure", "allowed"),
        [
            ("registry.lan:5000", ["registry.lan:5000"], True),
            ("registry.lan:5000", ["http://registry.lan:5000/"], True),
            ("registry.lan:5000", ["registry.lan"], False),
            ("10.1.2.3:5000", ["10.1.0.0/16"], True),
            ("10.2.2.3:5000", ["10.1.0.0/16", "not/anetwork"], False),
            ("127.0.0.1:5000", [], True),
            ("localhost:5000", [], True),
            ("[::1]:5000", [], True),
            ("registry.lan", [], False),
        ],
    )
    def test_told_by_address(self, host: str, insecure: list[str], allowed: bool) -> None:
        assert Registries(insecure=insecure)._insecure(host) is allowed

    def test_the_order_of_addresses(self) -> None:
        registries = Registries(mirrors=["http://m1", "m2", "https://m3/"], insecure=["m2"])
        told = [(place.host, place.plain, place.verify) for place in registries._places(module.parse(TAG))][:-1]
        assert told == [("m1", True, False), ("m2", False, False), ("m2", True, False), ("m3", False, True)]

    def test_tls_is_checked_unless_the_fleet_says_otherwise(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = store.put_image("team/vllm", "1")
        with Registry(store) as server:
            authority = with_tls(server, tmp_path)
            name = f"{server.address}/team/vllm:1"
            assert Registries(insecure=[server.address]).locked(name).digest == own
            monkeypatch.setattr(Registries, "_insecure", lambda *_: False)
            with pytest.raises(UpstreamUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
                Registries().locked(name)
            trusting = Registries(authorities={server.address: authority})
            assert trusting.locked(name).digest == own


def test_a_token_for_everybody(store: Store, tmp_path: Path) -> None:
    """As Docker Hub wants it: the refusal says where a token is had, and what for."""
    own = store.put_image("team/vllm", "1")
    with Registry(store, token="for-everybody") as server:
        with_tls(server, tmp_path)
        assert Registries().locked(f"{server.address}/team/vllm:1").digest == own
        assert server.asked == [
            "/v2/team/vllm/manifests/1",
            "/token?service=registry&scope=repository%3Ateam%2Fvllm%3Apull",
            *["/v2/team/vllm/manifests/1", f"/v2/team/vllm/blobs/{next(iter(store.blobs))}"],
        ]


def with_tls(server: Registry, folder: Path) -> Path:
    """From now on it speaks TLS, for which an authority vouches that nobody knows: the file with its certificate."""
    authority, own, key = (folder / name for name in ("authority.pem", "own.pem", "key.pem"))
    make_certificate("127.0.0.1", authority, own, key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return authority
