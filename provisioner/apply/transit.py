"""The control machine's ends of ansible-runner's remote streams: what is transmitted, and what comes back processed."""

from __future__ import annotations

import io
import threading
from collections import deque
from pathlib import Path
from typing import Any

from provisioner.apply.feed import Feed
from provisioner.apply.play import IDENT, Take, last_lines


class _Sink(io.BytesIO):
    name = "transmit"  # ansible-runner looks whether it is standard output


def transmit(folder: Path) -> bytes:
    """The inventory in `folder`, as ansible-runner's worker takes it."""
    import ansible_runner.interface

    sink = _Sink()
    ansible_runner.interface.init_runner(
        streamer="transmit",
        _output=sink,
        private_data_dir=str(folder),
        ident=IDENT,
        inventory=str(folder / "inventory"),
    ).run()
    return sink.getvalue()


class Processor:
    """Reads one stream while it comes: events as they happen, artifacts at its end."""

    def __init__(self, folder: Path, take: Take, ident: str) -> None:
        self._folder, self._take, self._ident = folder, take, ident
        self._feed = Feed()
        self._printed: deque[str] = deque(maxlen=20)
        self._status = "error"
        self._why = ""
        self._thread = threading.Thread(target=self._process, daemon=True)
        self._thread.start()

    def put(self, piece: bytes) -> None:
        self._feed.put(piece)

    def end(self) -> tuple[str, str]:
        """ansible-runner's word for how it ended, and the last lines that Ansible printed. `error` where the stream is
        not whole, and the last lines are what came of it."""
        self._feed.end()
        self._thread.join()
        if self._status == "error":
            return self._status, "\n".join(filter(None, [*self._printed, self._why]))
        return self._status, last_lines(self._folder / "artifacts" / self._ident / "stdout")

    def _process(self) -> None:
        import ansible_runner.interface

        def take(event: dict[str, Any]) -> bool:
            self._printed.extend(str(event.get("stdout") or "").splitlines())
            return self._take(event)

        def status(data: dict[str, Any], runner_config: object) -> None:  # noqa: ARG001 - ansible-runner calls it with this name
            self._why = data.get("job_explanation", "")

        try:
            self._status, _ = ansible_runner.interface.init_runner(
                streamer="process",
                _input=io.BufferedReader(self._feed),
                private_data_dir=str(self._folder),
                ident=self._ident,
                quiet=True,
                settings={},
                event_handler=take,
                status_handler=status,
            ).run()
        except Exception as error:  # what one event or archive does must not be lost with its thread
            self._status, self._why = "error", f"{type(error).__name__}: {error}"
