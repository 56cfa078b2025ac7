"""Known host keys: the files of OpenSSH (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT), and what a key presented is worth.

paramiko's own reader knows no patterns and no @revoked, and its handy policy accepts any key: neither will do.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from provisioner.errors import UnreachableError
from provisioner.hosts.endpoint import Endpoint

_writing = threading.Lock()


@dataclass(frozen=True)
class KnownKey:
    """One line that names the host."""

    marker: str
    """"", @revoked or @cert-authority"""
    key_type: str
    key: str
    """base64"""
    place: str
    """file:line"""


def known_keys(endpoint: Endpoint) -> tuple[KnownKey, ...]:
    """What the endpoint's files know of it. A file that is not there knows nothing."""
    found: list[KnownKey] = []
    for path in endpoint.known_hosts:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UnreachableError(
                f"{endpoint.name}: cannot read the known hosts in {path}: {error.strerror}"
            ) from error
        found += find(text, str(path), lookup_name(endpoint))
    return tuple(found)


def lookup_name(endpoint: Endpoint) -> str:
    """The name in the files: HostKeyAlias, host, or [host]:port where the port is not 22."""
    if endpoint.host_key_name:
        return endpoint.host_key_name
    return endpoint.hostname if endpoint.port == 22 else f"[{endpoint.hostname}]:{endpoint.port}"


def find(text: str, place: str, name: str) -> Iterable[KnownKey]:
    """The lines of one file that are about `name`."""
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) >= 3 and not words[0].startswith("#") and _names(words[0], name):
            yield KnownKey(marker, words[1], words[2], f"{place}:{number}")


def verdict(known: Sequence[KnownKey], key_type: str, key: str) -> Literal["known", "unknown", "changed", "revoked"]:
    """What to think of a key. A host known by other keys only has changed: known types are asked for first."""
    plain = [one for one in known if not one.marker]
    if any(one.marker == "@revoked" and one.key == key for one in known):
        return "revoked"
    if any((one.key_type, one.key) == (key_type, key) for one in plain):
        return "known"
    return "changed" if plain else "unknown"


def check(endpoint: Endpoint, known: Sequence[KnownKey], key_type: str, key: bytes) -> None:
    """Raises UnreachableError unless the key is known, or new where the configuration accepts new ones."""
    coded = base64.b64encode(key).decode()
    found = verdict(known, key_type, coded)
    if found == "known":
        return
    what = f"{fingerprint(key)} ({key_type})"
    if found == "revoked":
        raise UnreachableError(f"{endpoint.name}: the host key {what} of {endpoint.address} is revoked")
    if found == "changed":
        old = next(one for one in known if not one.marker)
        raise UnreachableError(
            f"{endpoint.name}: the host key of {endpoint.address} has changed: it presents {what}, "
            f"but {old.place} has another",
            hint="someone may be in the middle; only if you know that the host was installed anew, forget the old key: "
            f"ssh-keygen -R '{lookup_name(endpoint)}' -f {old.place.rpartition(':')[0]}",
        )
    if endpoint.strict == "yes":
        raise UnreachableError(
            f"{endpoint.name}: the host key {what} of {endpoint.address} is not known",
            hint=f"compare it with the host's own and record it by connecting once with ssh {endpoint.name}, "
            "or set `StrictHostKeyChecking accept-new` in the SSH configuration",
        )
    record(endpoint, key_type, coded)


def record(endpoint: Endpoint, key_type: str, key: str) -> None:
    """Add a new key to the first file, hashed where the configuration wants that; nowhere where there is no file."""
    if not endpoint.known_hosts:
        return
    path = endpoint.known_hosts[0]
    name = _hashed(lookup_name(endpoint), os.urandom(20)) if endpoint.hash_known_hosts else lookup_name(endpoint)
    try:
        with _writing:  # many hosts are connected to at once
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            old = path.read_bytes() if path.exists() else b""
            with path.open("a", encoding="utf-8") as stream:
                stream.write(("\n" if old and not old.endswith(b"\n") else "") + f"{name} {key_type} {key}\n")
    except OSError as error:
        raise UnreachableError(f"{endpoint.name}: cannot record its host key in {path}: {error.strerror}") from error


def fingerprint(key: bytes) -> str:
    """As ssh-keygen -l prints it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def _names(field: str, name: str) -> bool:
    if field.startswith("|1|"):
        salt = base64.b64decode(field.split("|")[2])
        return hmac.compare_digest(_hashed(name, salt), field)
    patterns = field.lower().split(",")
    if any(_matches(pattern[1:], name) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_matches(pattern, name) for pattern in patterns if not pattern.startswith("!"))


def _matches(pattern: str, name: str) -> bool:
    """* and ? alone are special; brackets are part of [host]:port."""
    parts = (".*" if sign == "*" else "." if sign == "?" else re.escape(sign) for sign in pattern)
    return re.fullmatch("".join(parts), name.lower()) is not None


def _hashed(name: str, salt: bytes) -> str:
    # The format's own hash (HMAC-SHA1); it hides names, it does not secure anything.
    digest = hmac.new(salt, name.encode(), "sha1").digest()
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"
