"""Files of a bundle on their way to a host: in pieces, so that a broken connection costs one, and checked there."""

from __future__ import annotations

import io
import shlex
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from provisioner.errors import HostError
from provisioner.hosts.transport import Result, Transport
from provisioner.plan.bundle import ON_HOST, Blob, Bundled

PIECE = 16 << 20
"""bytes in one command on the host"""
TIMEOUT_S = 600.0
CHECK_TIMEOUT_S = 7200.0
_SMALL = 1 << 20
Say = Callable[[str], None]


def bring(transport: Transport, folder: Path, part: Bundled, say: Say) -> None:
    """Brings a host all that it gets from the bundle, and tells its apt of the packages. Raises HostError as `send`."""
    send(transport, folder, part.blobs(), say)
    if part.packages:
        update_packages(transport, part.packages.folder)


def send(transport: Transport, folder: Path, blobs: Sequence[Blob], say: Say) -> None:
    """Brings the files to ON_HOST, as root; what is there from an earlier try is not sent again.

    Raises HostError when they do not fit on the disk, or are not what they were when they are there.
    """
    if not blobs:
        return
    sizes = _sizes(transport, blobs)
    left = sum(blob.size for blob in blobs) - sum(sizes.values())
    _check_room(transport, left)
    total, done = left, 0
    small = [blob for blob in blobs if blob.size <= _SMALL and sizes[blob.path] != blob.size]
    for piece in _packed(folder, small):
        _run(transport, f"tar -xf - -C {ON_HOST}", piece)
    for blob in blobs:
        if blob.size > _SMALL:
            for piece in _pieces(folder / blob.path, sizes[blob.path]):
                _run(
                    transport,
                    f"mkdir -p {_q(ON_HOST / Path(blob.path).parent)} && cat >> {_q(ON_HOST / blob.path)}",
                    piece,
                )
                done += len(piece)
                say(f"{done / 2**30:.1f} of {total / 2**30:.1f} GiB sent")
    say("checking what arrived")
    _check(transport, blobs)


def clear(transport: Transport) -> None:
    """Removes what `send` has brought."""
    _run(transport, f"rm -rf {ON_HOST}")


def update_packages(transport: Transport, folder: str) -> None:
    """Lets a host's apt read the bundle's packages, whatever it thinks of the age of its lists."""
    place = ON_HOST / folder
    _run(transport, f"mkdir -p {_q(place / 'lists/partial')} && APT_CONFIG={_q(place / 'apt.conf')} apt-get -q update")


def _sizes(transport: Transport, blobs: Sequence[Blob]) -> dict[str, int]:
    """Bytes of each file that are there; a file that is longer than it may be is removed."""
    script = (
        f"mkdir -p {ON_HOST} && cd {ON_HOST} && while read -r size path; do "
        'now=$(stat -c %s "$path" 2>/dev/null || echo 0); '
        'if [ "$now" -gt "$size" ]; then rm -f "$path"; now=0; fi; echo "$now $path"; done'
    )
    wanted = "".join(f"{blob.size} {blob.path}\n" for blob in blobs)
    lines = _run(transport, script, wanted.encode()).stdout.splitlines()
    return {path: int(size) for size, _, path in (line.partition(" ") for line in lines)}


def _check_room(transport: Transport, needed: int) -> None:
    told = _run(transport, f"df -Pk {ON_HOST} | tail -1").stdout.split()
    free = int(told[3]) * 1024
    if free < needed:
        raise HostError(
            f"{transport.host}: {free / 2**30:.1f} GiB are free under {ON_HOST}, "
            f"{needed / 2**30:.1f} GiB of the bundle are to be sent",
            hint="free some and run again",
        )


def _packed(folder: Path, blobs: Sequence[Blob]) -> Iterator[bytes]:
    """Small files together, each tar at most about a piece long."""
    batch: list[Blob] = []
    for blob in blobs:
        batch.append(blob)
        if sum(one.size for one in batch) > PIECE:
            yield _tar(folder, batch)
            batch = []
    if batch:
        yield _tar(folder, batch)


def _tar(folder: Path, blobs: Sequence[Blob]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for blob in blobs:
            info = tarfile.TarInfo(blob.path)
            info.size, info.mode = blob.size, 0o644
            archive.addfile(info, io.BytesIO((folder / blob.path).read_bytes()))
    return buffer.getvalue()


def _pieces(path: Path, offset: int) -> Iterator[bytes]:
    with path.open("rb") as stream:
        stream.seek(offset)
        while piece := stream.read(PIECE):
            yield piece


def _check(transport: Transport, blobs: Sequence[Blob]) -> None:
    """Whole files only count; one that is another is removed, so that the next try sends it anew."""
    sums = "".join(f"{blob.sha256}  {blob.path}\n" for blob in blobs)
    script = f"cd {ON_HOST} && sha256sum --check --quiet - 2>/dev/null"
    result = transport.run(_as_root(script), stdin=sums, timeout_s=CHECK_TIMEOUT_S)
    if result.rc == 0:
        return
    wrong = [line.partition(": FAILED")[0] for line in result.stdout.splitlines() if ": FAILED" in line]
    if wrong:
        _run(transport, f"cd {ON_HOST} && rm -f {' '.join(map(_q, wrong))}")
    raise HostError(
        f"{transport.host}: did not arrive as they were sent: {', '.join(wrong) or 'files of the bundle'}",
        hint="run the command again: they are sent anew",
    )


def _run(transport: Transport, script: str, stdin: bytes = b"") -> Result:
    result = transport.run(_as_root(script), stdin=stdin, timeout_s=TIMEOUT_S)
    if result.rc != 0:
        raise HostError(f"{transport.host}: cannot take files of the bundle", log=result.stderr or result.stdout)
    return result


def _as_root(script: str) -> str:
    return f"sudo -n /bin/sh -c {shlex.quote(f'umask 022; {script}')}"


def _q(path: object) -> str:
    return shlex.quote(str(path))
