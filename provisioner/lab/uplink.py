"""The lab hosts' only way to the registry and the hub: it counts what comes down it, and is as narrow as it is told.

    python -m provisioner.lab.uplink COUNTS [--rate BYTES/S] NAME=ADDRESS:PORT=TARGET:PORT ...

COUNTS is a JSON file: by name, by address of the host, bytes that went to it, headers included; written at most five
times a second. The rate is that of everything together, as of a site's line to the outside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from provisioner.lab import services
from provisioner.lab.context import Report
from provisioner.lab.process import wait_until

SERVICE = "uplink"
NAMES = ("registry", "hub")
_BLOCK = 64 * 1024
_EVERY_S = 0.2


def ensure_uplink(state: Path, gateway: str, ports: Sequence[int], mib_s: float, report: Report) -> dict[str, str]:
    """Starts it, or again where its rate is another one; by name, the loopback address at which the service belongs.

    `ports`: where hosts find NAMES; `mib_s`: MiB a second, 0 for as fast as it goes. With a start, counts begin anew.
    """
    known = state / "uplink-setup.json"
    setup = json.loads(known.read_text()) if known.exists() else {"inner": dict(zip(NAMES, _free_ports(), strict=True))}
    if setup.get("mib_s") != mib_s:
        services.stop(state, SERVICE)
    known.write_text(json.dumps({**setup, "mib_s": mib_s}))
    inner = {name: f"127.0.0.1:{port}" for name, port in setup["inner"].items()}
    if not services.is_running(state, SERVICE):
        counts_file(state).unlink(missing_ok=True)
        forwards = [f"{name}={gateway}:{port}={inner[name]}" for name, port in zip(NAMES, ports, strict=True)]
        argv = [sys.executable, "-m", "provisioner.lab.uplink", str(counts_file(state)), *forwards]
        argv += ["--rate", str(int(mib_s * 2**20))]
        services.start(state, SERVICE, argv, env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])})
        wait_until(counts_file(state).exists, timeout=20)
        rate = f"{mib_s:g} MiB/s" if mib_s else "as fast as it goes"
        report(f"uplink: hosts reach {' and '.join(NAMES)} through it, {rate}; it counts in {counts_file(state)}")
    return inner


def counts_file(state: Path) -> Path:
    """Where the counts are."""
    return state / "uplink.json"


def counts(state: Path) -> dict[str, dict[str, int]]:
    """Bytes since its start, by name and address of the host; whole once nothing has flowed for a moment."""
    told: dict[str, dict[str, int]] = json.loads(counts_file(state).read_text())
    return told


class Uplink:
    """Counts, and the one rate."""

    def __init__(self, rate: int, names: Sequence[str]) -> None:
        self._rate, self._free_at = rate, 0.0
        self.counts: dict[str, dict[str, int]] = {name: {} for name in names}
        self.changed = True

    async def forward(
        self, name: str, target: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """One connection of a host, to its end."""
        host = writer.get_extra_info("peername")[0]
        try:
            up_reader, up_writer = await asyncio.open_connection(*target)
        except OSError:  # what it leads to is not there: as if nothing listened
            writer.close()
            return
        up = asyncio.ensure_future(_copy(reader, up_writer))
        try:
            while block := await up_reader.read(_BLOCK):
                await self._turn(len(block))
                self.counts[name][host] = self.counts[name].get(host, 0) + len(block)
                self.changed = True
                writer.write(block)
                await writer.drain()
        except ConnectionError:
            pass  # the host is gone: so is what it asked for
        finally:
            up.cancel()
            up_writer.close()
            writer.close()

    async def _turn(self, size: int) -> None:
        """Waits until so many bytes may go."""
        if not self._rate:
            return
        loop = asyncio.get_running_loop()
        begin = max(self._free_at, loop.time())
        self._free_at = begin + size / self._rate
        await asyncio.sleep(begin - loop.time())

    async def write(self, file: Path) -> None:
        """Keeps the file of the counts."""
        while True:
            if self.changed:
                self.changed = False
                fresh = file.with_name(f".{file.name}")
                fresh.write_text(json.dumps(self.counts))
                fresh.replace(file)
            await asyncio.sleep(_EVERY_S)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while block := await reader.read(_BLOCK):
            writer.write(block)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()
    except ConnectionError:
        writer.close()


def _free_ports() -> list[int]:
    """Ports of the loopback that nobody listens at."""
    found = [socket.create_server(("127.0.0.1", 0)) for _ in NAMES]
    ports = [server.getsockname()[1] for server in found]
    for server in found:
        server.close()
    return ports


async def _serve(file: Path, rate: int, forwards: Sequence[str]) -> None:
    parts = [forward.split("=") for forward in forwards]
    uplink = Uplink(rate, [name for name, _, _ in parts])

    async def listen(name: str, at: str, to: str) -> None:
        host, _, port = to.rpartition(":")

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await uplink.forward(name, (host, int(port)), reader, writer)

        address, _, number = at.rpartition(":")
        server = await asyncio.start_server(take, address, int(number))
        await server.serve_forever()

    await asyncio.gather(uplink.write(file), *(listen(*one) for one in parts))


def main(argv: Sequence[str] | None = None) -> None:
    """Forward until killed."""
    parser = argparse.ArgumentParser(prog="python -m provisioner.lab.uplink")
    parser.add_argument("counts", type=Path)
    parser.add_argument("forwards", nargs="+")
    parser.add_argument("--rate", type=int, default=0)
    told = parser.parse_args(argv)
    asyncio.run(_serve(told.counts, told.rate, told.forwards))


if __name__ == "__main__":
    main()
