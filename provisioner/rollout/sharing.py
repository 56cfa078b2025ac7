"""Hosts that give to others: started before a run changes anything, ended with it, behind a key that only it knows."""

from __future__ import annotations

import datetime
import io
import json
import shlex
import tarfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from importlib import resources
from typing import Any, TypeVar

from provisioner.errors import HostError, ProvisionError
from provisioner.fleet.models import Fleet, Host
from provisioner.history.events import Event, OnEvent
from provisioner.hosts.transport import Transport
from provisioner.plan.peers import Given, from_peers, given, peer_variables
from provisioner.rollout.connections import Connections
from provisioner.rollout.survey import HostSurvey, Survey
from provisioner.rollout.waves import waves_of

UNIT = "vllm-peers"
SPOOL = "/var/lib/vllm/peers"
HOME = f"/run/{UNIT}"
"""on a host: the unit's runtime directory, in memory, root's alone and gone with the unit"""
IDLE_S = 3600
"""after which a host that nobody asks ends giving by itself, should nobody end it"""
MAX_WORKERS = 32
T = TypeVar("T")
_TIMEOUT_S = 120.0
# The address at which this machine reaches the host is one that others most likely reach, too; only there it listens.
_START = f"""\
set -e
systemctl stop {UNIT} 2>/dev/null || true
rm -rf {HOME} && mkdir -m 700 {HOME} && tar -xf - -C {HOME}
sed -i "s/@ADDRESS@/$1/" {HOME}/config.json
systemd-run --quiet --collect --unit={UNIT} --property=RuntimeDirectory={UNIT} \\
  --property=RuntimeDirectoryMode=0700 --property="ExecStopPost=/bin/rm -rf {SPOOL}/give" \\
  -- /usr/bin/env python3 -I {HOME}/peer.py serve
for turn in $(seq 300); do
  if [ -s {HOME}/port ]; then echo "$1 $(cat {HOME}/port)"; exit 0; fi
  systemctl is-active --quiet {UNIT} || break
  sleep 0.1
done
journalctl --no-pager --output=cat --lines=5 --unit={UNIT} >&2
exit 1
"""


def with_peers(seen: Survey) -> Survey:
    """The same fleet with who gets what from whom, where the fleet file wants that, and in what would change.

    Hosts of a wave get it from earlier ones and from each other. What a bundle has comes from the bundle.
    """
    if seen.fleet.distribution.mode != "peers" or seen.bundle:
        return seen
    fit = {one.host.name: one for one in seen.fit}
    turns = [fit[name] for wave in waves_of(seen) for name in wave.hosts if name in fit]
    parts = given([(one.plan, one.facts) for one in turns if one.plan and one.facts])
    return replace(seen, hosts=tuple(_given(one, parts.get(one.host.name)) for one in seen.hosts))


def _given(seen: HostSurvey, part: Given | None) -> HostSurvey:
    if part is None:
        return seen
    return replace(seen, given=part, changes=from_peers(seen.changes, part) if seen.changes else seen.changes)


class Sharing:
    """Who gives, and at which address."""

    def __init__(self, survey: Survey, addresses: Mapping[str, str], connections: Connections) -> None:
        self._survey, self._addresses, self._connections = survey, addresses, connections

    def variables(self) -> dict[str, dict[str, Any]]:
        """By host: variables of roles that make it ask others first."""
        return {
            seen.plan.host: peer_variables(seen.plan, seen.given, self._addresses)
            for seen in self._survey.work
            if seen.plan and seen.given
        }

    def watched(self, on_event: OnEvent) -> OnEvent:
        """Events on their way; a host that has failed gets nothing more, and whoever waits for it shall know."""
        told: set[str] = set()

        def take(event: Event) -> None:
            on_event(event)
            if event.phase == "apply" and event.status == "failed" and event.host in self._addresses.keys() - told:
                told.add(event.host)
                # Whoever tells events waits for nobody.
                threading.Thread(target=self._tell, args=(event.host,), daemon=True).start()

        return take

    def _tell(self, name: str) -> None:
        _run_on(self._survey.fleet.host(name), f"test -d {HOME} && touch {HOME}/final", self._connections)


@contextmanager
def sharing(survey: Survey, connections: Connections, on_event: OnEvent) -> Iterator[Sharing]:
    """While this lasts, hosts give what others of `survey.work` shall get from them.

    A host that cannot be made to give is left out, which an event tells: those who would ask it ask the next.
    """
    chains = [(seen.host.name, *seen.given.givers) for seen in survey.work if seen.changes and seen.given]
    names = list(dict.fromkeys(name for chain in chains for name in chain))
    key = new_key() if names else b""
    changing = {seen.host.name for seen in survey.work if seen.changes}
    sources = [seen.given.images.values() for seen in survey.work if seen.changes and seen.given]
    asked = {name for images in sources for givers in images for name in givers}

    def start_one(name: str) -> tuple[str, str | None]:
        try:
            transport = connections.connect(survey.fleet.host(name))
            return name, start(transport, survey.fleet, key, final=name not in changing, passes_on=name in asked)
        except ProvisionError as error:
            words = f"cannot give to other hosts: {str(error).splitlines()[0]}"
            on_event(Event(host=name, phase="apply", task="peers", status="skipped", detail=words))
            return name, None

    try:
        found = _together(start_one, names)
        yield Sharing(survey, {name: address for name, address in found if address}, connections)
    finally:
        end = f"systemctl stop {UNIT}; rm -rf {HOME} {SPOOL}"
        _together(lambda name: _run_on(survey.fleet.host(name), end, connections), names)


def start(transport: Transport, fleet: Fleet, key: bytes, *, final: bool, passes_on: bool) -> str:
    """Makes a host give; its ADDRESS:PORT. `final`: nothing more comes to it. `passes_on`: others will ask for what it
    takes. Raises HostError where that fails."""
    limit = fleet.distribution.limit_mib_s
    config = {
        "address": "@ADDRESS@",
        "port": fleet.distribution.port,
        "limit": limit * 2**20 if limit else 0,
        "idle_s": IDLE_S,
        "final": final,
        "passes_on": passes_on,
        "cache_dir": fleet.weights.cache_dir,
    }
    files = {"peer.py": script(), "key.pem": key, "config.json": json.dumps(config).encode()}
    inner = f'set -- $SSH_CONNECTION; exec sudo -n /bin/sh -c {_q(_START)} sh "$3"'
    command = f"exec /bin/sh -c {_q(inner)}"
    result = transport.run(command, stdin=_tar(files), timeout_s=_TIMEOUT_S)
    told = result.stdout.split()
    if result.rc != 0 or len(told) != 2:
        raise HostError(f"{transport.host}: {(result.stderr or result.stdout).strip() or 'it said nothing'}")
    address, port = told
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def script() -> bytes:
    """What runs on the hosts."""
    return resources.files("provisioner.hosts").joinpath("peer_script.py").read_bytes()


def new_key() -> bytes:
    """A private key and a certificate of it (PEM), for one run: who holds it is one of its hosts."""
    from cryptography import x509  # takes its time to import
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "provision")])
    # Hosts' clocks may be wrong, and the key does not outlive the run.
    begin, end = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2000, 2100))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return text + certificate.public_bytes(serialization.Encoding.PEM)


def _run_on(host: Host, script: str, connections: Connections) -> None:
    """Best effort: whoever cannot be reached gives nothing to anybody, or ends by itself."""
    for _ in range(2):  # a connection may have died of idleness meanwhile
        try:
            connections.connect(host).run(_as_root(script), timeout_s=_TIMEOUT_S)
        except ProvisionError:
            connections.drop(host)
        else:
            return


def _together(work: Callable[[str], T], names: Sequence[str]) -> list[T]:
    if not names:
        return []
    with ThreadPoolExecutor(max_workers=min(MAX_WORKERS, len(names))) as pool:
        return list(pool.map(work, names))


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o600
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _as_root(text: str) -> str:
    return f"sudo -n /bin/sh -c {_q(text)}"


_q = shlex.quote
