"""What an image's tag stands for now: asked of the mirrors first and then of the registry, as Docker does.

The registry client takes its time to import: import this module where it is used.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from dxf import DXF
from dxf.exceptions import DXFError, DXFUnauthorizedError

from provisioner.errors import UpstreamError, UpstreamUnreachableError
from provisioner.fleet.models import Fleet
from provisioner.fleet.paths import below
from provisioner.plan.lock import LockedImage
from provisioner.plan.references import DOCKER_HUB, Reference, parse

T = TypeVar("T")

TIMEOUT_S = 20
_HUB_ADDRESS = "registry-1.docker.io"


@dataclass(frozen=True)
class Credentials:
    """Who asks."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Registries:
    """The registries as the hosts' Docker engines see them."""

    mirrors: Sequence[str] = ()
    """of Docker Hub, with or without http(s)://"""
    insecure: Sequence[str] = ()
    """host[:port] or networks (CIDR) that are asked without TLS, or with certificates that nobody vouches for"""
    credentials: Mapping[str, Credentials] = field(default_factory=dict)
    """by host[:port]; `docker.io` for Docker Hub"""
    authorities: Mapping[str, Path] = field(default_factory=dict)
    """by host[:port]: the certificate (PEM) that vouches for the registry's own; else the system's"""

    @classmethod
    def of(cls, fleet: Fleet, credentials: Mapping[str, Credentials]) -> Registries:
        """Those of a fleet file."""
        folder, docker = fleet.path.parent, fleet.docker
        authorities = {host: below(folder, path) for host, path in docker.registry_cas.items()}
        return cls(docker.registry_mirrors, docker.insecure_registries, credentials, authorities)

    def locked(self, reference: str) -> LockedImage:
        """The digests behind a reference. UpstreamError with what every place asked said, when none has it."""
        return self.ask(reference, _digests)

    def ask(self, reference: str, question: Callable[[DXF, str], T]) -> T:
        """The answer of the first place that has the reference to a question with its client and the tag or digest."""
        name = parse(reference)
        said: list[UpstreamError] = []
        for place in self._places(name):
            try:
                return place.ask(name, question)
            except UpstreamError as error:
                said.append(error)
        answers = "; ".join(error.message for error in said)
        kind = UpstreamUnreachableError if all(isinstance(e, UpstreamUnreachableError) for e in said) else UpstreamError
        raise kind(f"{reference} is told by no registry: {answers}", hint=next((e.hint for e in said if e.hint), None))

    def _places(self, name: Reference) -> Iterator[_Place]:
        if name.registry != DOCKER_HUB:
            yield from self._addresses(name.registry, name.registry)
            return
        for mirror in self.mirrors:
            yield from self._addresses(mirror.rstrip("/"), mirror.rstrip("/").rpartition("//")[2])
        yield _Place(_HUB_ADDRESS, plain=False, verify=True, credentials=self.credentials.get(DOCKER_HUB))

    def _addresses(self, written: str, host: str) -> Iterator[_Place]:
        """With TLS; without it where the address says so, and second where the fleet allows it."""
        scheme = written.partition("://")[0] if "://" in written else None
        allowed = self._insecure(host)
        credentials = self.credentials.get(host)
        if scheme != "http":
            yield _Place(host, plain=False, verify=self._verify(host), credentials=credentials)
        if scheme == "http" or (scheme is None and allowed):
            yield _Place(host, plain=True, verify=False, credentials=credentials)

    def _verify(self, host: str) -> bool | str:
        """As `requests` takes it: whether certificates are checked, or by what."""
        if host in self.authorities:
            return str(self.authorities[host])
        return not self._insecure(host)

    def _insecure(self, host: str) -> bool:
        names = {one.rstrip("/").rpartition("//")[2] for one in self.insecure}
        name = urlsplit(f"//{host}").hostname or host
        if host in names or name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or any(address in network for network in map(_network, names) if network)


@dataclass(frozen=True)
class _Place:
    """One address of a registry."""

    host: str
    plain: bool
    """without TLS"""
    verify: bool | str
    credentials: Credentials | None

    def ask(self, name: Reference, question: Callable[[DXF, str], T]) -> T:
        where = f"{'http' if self.plain else 'https'}://{self.host}"
        try:
            return question(self._client(name), name.digest or name.tag)
        except requests.HTTPError as error:
            raise self._refused(where, name, error.response.status_code) from error
        except DXFUnauthorizedError as error:
            raise self._refused(where, name, requests.codes.unauthorized) from error
        except requests.RequestException as error:
            raise UpstreamUnreachableError(
                f"{where} cannot be asked: {_root(error)}",
                hint="this machine must reach a registry that the hosts pull from, or a mirror of it",
            ) from error
        except (DXFError, ValueError, KeyError, TypeError) as error:
            raise UpstreamError(f"{where} answers what is no image: {type(error).__name__}: {error}") from error

    def _refused(self, where: str, name: Reference, status: int) -> UpstreamError:
        if status == requests.codes.not_found:
            version = f"@{name.digest}" if name.digest else f":{name.tag}"
            return UpstreamError(f"{where} has no {name.repository}{version}", hint="check the name and the tag")
        if status in (requests.codes.unauthorized, requests.codes.forbidden):
            given = "these credentials" if self.credentials else "a look without credentials"
            return UpstreamError(
                f"{where} refuses {given} (HTTP {status})", hint="check the name; a private image needs credentials"
            )
        return UpstreamError(f"{where} answers HTTP {status}", hint="try again later")

    def _client(self, name: Reference) -> DXF:
        kind = _PlainDXF if self.plain else DXF
        return kind(
            self.host, name.repository, self._login, insecure=self.plain, tlsverify=self.verify, timeout=TIMEOUT_S
        )

    def _login(self, client: DXF, response: requests.Response) -> None:
        who = self.credentials
        client.authenticate(who and who.username, who and who.password, response=response)


class _PlainDXF(DXF):  # type: ignore[misc]  # the library is not there where types are checked without it
    """Without TLS the library refuses to log in; Docker does it where the operator calls the registry insecure."""

    def authenticate(self, username: str | None = None, password: str | None = None, **_: Any) -> str | None:
        if username is None or password is None:
            raise DXFUnauthorizedError
        word = base64.b64encode(f"{username}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {word}"}
        return None


def _digests(client: DXF, version: str) -> LockedImage:
    """The digest of what a tag names, and those of its platforms."""
    text, response = client.get_manifest_and_response(version)
    digest = f"sha256:{hashlib.sha256(response.content).hexdigest()}"
    told = response.headers.get("Docker-Content-Digest", digest)
    if told != digest:
        raise ValueError(f"the digest of the manifest is {digest}, not {told}")
    manifest = json.loads(text)
    if "manifests" in manifest:
        # A later entry for the same platform is another variant of it; the first is what Docker takes.
        entries = [(platform_of(one.get("platform") or {}), one["digest"]) for one in reversed(manifest["manifests"])]
        return LockedImage(digest=digest, platforms={name: own for name, own in entries if "unknown" not in name})
    config = json.loads(b"".join(client.pull_blob(manifest["config"]["digest"])))
    return LockedImage(digest=digest, platforms={platform_of(config): digest})


def platform_of(entry: Mapping[str, str]) -> str:
    """`linux/arm64`; the usual variant of an architecture needs no mention."""
    name = f"{entry.get('os', 'unknown')}/{entry.get('architecture', 'unknown')}"
    variant = entry.get("variant", "")
    return name if not variant or name == "linux/arm64" else f"{name}/{variant}"


def _network(written: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(written, strict=False)
    except ValueError:
        return None


def _root(error: BaseException) -> str:
    """The last cause of a chain of errors, in one line; what stands above it only repeats that there is no answer."""
    while error.__context__ is not None:
        error = error.__context__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
