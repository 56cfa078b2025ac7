"""What this machine is: who we are, its architecture, and where its apt gets Debian from."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from provisioner.errors import LabError
from provisioner.lab.process import run

WITHOUT_LAB = "the lab needs root on Debian with apt; `provision` itself, the unit tests and `plan` need neither"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


@dataclass(frozen=True)
class Mirror:
    """The Debian archive that this machine's own apt reads, for suites that it does not follow itself."""

    url: str
    keyring: Path
    proxy: str | None
    aptopts: tuple[str, ...]  # what the machine's apt needs to trust this archive, as "Key value" pairs

    def source(self, suite: str, arch: str | None = None) -> str:
        """One line of sources.list."""
        options = f"signed-by={self.keyring}" + (f" arch={arch}" if arch else "")
        return f"deb [{options}] {self.url} {suite} main"


def require_root() -> None:
    """Raises LabError where this process is not root."""
    if os.geteuid() != 0:
        raise LabError("the lab must be started as root", hint=WITHOUT_LAB)


def require_apt() -> None:
    """Raises LabError where this is no Debian with apt."""
    if not shutil.which("apt-get") or not _KEYRING.exists():
        raise LabError("this machine has no Debian apt", hint=WITHOUT_LAB)


def mirror() -> Mirror:
    """The Debian mirror of this machine's apt configuration. Raises LabError where there is none."""
    require_apt()
    config = run(["apt-config", "dump"], timeout=30, what="reading apt's configuration")
    url = debian_url(_source_texts())
    if url is None:
        raise LabError("apt's sources name no Debian mirror", hint="add one to /etc/apt/sources.list.d")
    return Mirror(url=url, keyring=_KEYRING, proxy=_value(config, "Acquire::http::Proxy"), aptopts=_trust(config))


def debian_url(texts: list[str]) -> str | None:
    """The first archive of Debian's main suites named in sources files of either format.

    Path ending in /debian tells it from security and third-party archives.
    """
    for text in texts:
        for line in text.splitlines():
            found = re.match(r"\s*(?:URIs:|deb\s+(?:\[[^]]*\]\s+)?)\s*(.*)", line)
            for word in found.group(1).split() if found else []:
                if re.fullmatch(r"https?://\S+/debian/?", word):
                    return word.rstrip("/")
    return None


def _source_texts() -> list[str]:
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return [place.read_text() for place in places if place.suffix in {".list", ".sources"} and place.is_file()]


def _value(config: str, key: str) -> str | None:
    found = re.search(rf'^{re.escape(key)} "(.+)";$', config, re.MULTILINE)
    return found.group(1) if found else None


def _trust(config: str) -> tuple[str, ...]:
    """Frozen mirrors carry release files past their date; the machine's apt says so, and ours must too."""
    keys = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
    return tuple(f'{key} "{value}"' for key in keys if (value := _value(config, key)))
