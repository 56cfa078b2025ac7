"""What a Dask worker does for a run: the turn of one shard, by ansible-runner's remote streams.

Orders come and words go through two queues of the scheduler's, named after the turn. Nothing of a shard is on the
worker's disk afterwards, however it ended; its secrets never are.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from provisioner.apply.play import Job, environment, last_lines
from provisioner.apply.reaper import reaper

SILENCE_S = 60.0
"""after which a worker that hears nothing of the control machine ends its Ansible: nobody wants it any more"""
PIECE = 1 << 18
"""bytes of the stream that are told at a time, at most"""
_LOOK_S = 1.0
_GRACE_S = 30.0
"""for Ansible to end by itself, once it was told to"""
_MEMORY = Path("/dev/shm")  # noqa: S108 - the kernel's own file system in memory


def orders_of(turn: str) -> str:
    """The queue through which the control machine speaks to the worker of a turn."""
    return f"{turn}-orders"


def words_of(turn: str) -> str:
    """The queue through which the worker speaks: `stream` (bytes) and at last `end` (why it is not well, or "")."""
    return f"{turn}-words"


def work(turn: str) -> str:
    """One turn, as a task of Dask: its arguments and its result hold nothing that Dask may not log."""
    from distributed import Queue, secede

    orders, words = Queue(orders_of(turn)), Queue(words_of(turn))
    # A shard may wait for hosts of another one, which must never wait for a free thread.
    secede()
    try:
        # Never with a timeout, which the scheduler logs as an error each time.
        order = next((one for one in orders.get(batch=True) if one["do"] == "play"), None)
        if order is None:
            return "not wanted any more"
        problem = play_streamed(
            order,
            tell=lambda piece: words.put({"stream": piece}),
            hear=lambda: [str(one["do"]) for one in orders.get(batch=True)],
        )
        words.put({"end": problem})
        return "ended"
    finally:
        orders.close()
        words.close()


def play_streamed(
    order: Mapping[str, Any], *, tell: Callable[[bytes], object], hear: Callable[[], Sequence[str]]
) -> str:
    """Runs the shard of an order; why its stream is not whole, or "".

    `tell` gets what ansible-runner streams, as it comes. `hear` gives what the control machine has said meanwhile.
    Without a word for SILENCE_S, or when `tell` or `hear` fail, the shard is ended as by the word `cancel`.
    """
    job = Job(**order["job"])
    # The reaper removes it, also when this worker is killed.
    folder = Path(tempfile.mkdtemp(prefix="provision-shard-"))
    errors, scratch = folder / "stderr", _scratch(folder)
    env = environment(os.environ, job, folder) | {"ANSIBLE_LOCAL_TEMP": str(scratch)}
    with reaper(str(folder), folder, scratch), errors.open("wb") as stderr:
        scratch.mkdir(mode=0o700)
        process = subprocess.Popen(
            [sys.executable, "-m", "provisioner.apply.stream", str(folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=env, start_new_session=True,
        )  # fmt: skip
        unheard = threading.Event()
        pump = threading.Thread(target=_pump, args=(process, tell, unheard))
        pump.start()
        try:
            _give(process, order)
            _watch(process, hear, unheard)
        finally:
            _end(process)
            pump.join()
        return "" if process.returncode == 0 else f"ended with {process.returncode}:\n{last_lines(errors)}"


def _scratch(folder: Path) -> Path:
    """Where Ansible keeps what it renders, secret files too, until a host has it: in memory, where that can be."""
    return (_MEMORY if os.access(_MEMORY, os.W_OK) else folder) / f"{folder.name}-scratch"


def _give(process: subprocess.Popen[bytes], order: Mapping[str, Any]) -> None:
    stdin = cast(io.BufferedWriter, process.stdin)
    first = {"job": order["job"], "secrets": order["secrets"]}
    try:
        stdin.write(json.dumps(first).encode() + b"\n" + order["stream"])
        stdin.close()
    except BrokenPipeError:
        return  # it ended; its last words say why


def _pump(process: subprocess.Popen[bytes], tell: Callable[[bytes], object], unheard: threading.Event) -> None:
    stdout = cast(io.BufferedReader, process.stdout)
    while piece := stdout.read1(PIECE):
        if unheard.is_set():
            continue  # read on: the process must not wait for us
        try:
            tell(piece)
        except Exception:  # whatever Dask raises where the scheduler is gone
            unheard.set()


def _watch(process: subprocess.Popen[bytes], hear: Callable[[], Sequence[str]], unheard: threading.Event) -> None:
    """Until it ends, is to be ended, or nobody is there any more."""
    heard = time.monotonic()
    while not unheard.is_set():
        try:
            process.wait(_LOOK_S)
        except subprocess.TimeoutExpired:
            pass
        else:
            return
        try:
            words = hear()
        except Exception:  # as above
            return
        heard = time.monotonic() if words else heard
        if "cancel" in words or time.monotonic() - heard > SILENCE_S:
            return


def _end(process: subprocess.Popen[bytes]) -> None:
    """As Ctrl-C ends it here: ansible-runner ends Ansible and tells what there was."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
