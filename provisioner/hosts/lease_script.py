"""The lease's host-side part: its text is sent over SSH to the host's python3, with a request, and answers one JSON.

One small file says who is changing the host. It is read and written under a lock of the kernel's (flock), so that two
control machines that ask at the same moment get two answers. Time is the host's own, counted since it booted: neither
clocks that differ nor one that is set matter, and /run is empty after a boot, as the clock is.
Standard library of Python 3.6 and later, nothing of this program.
"""

# Python 3.6 on the host: no newer spellings; os.path because it starts faster than pathlib.
# ruff: noqa: UP006, UP031, UP035, UP045, PTH103, PTH105, PTH106, PTH107, PTH116, PTH118, PTH123

import contextlib
import fcntl
import json
import os
import sys
import time
from typing import Any, Dict, Optional

BEGIN = "<<<provision-lease"
END = "provision-lease>>>"
LOCK_S = 10.0


def main(request: Dict[str, Any]) -> None:
    """Do what the request says and print the answer between markers, whatever a login shell printed before."""
    sys.stdout.write("\n%s\n%s\n%s\n" % (BEGIN, json.dumps(answer(request), sort_keys=True), END))
    sys.stdout.flush()


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """`act`: take, renew, release or unlock. `done`: whether it was; `holder`: who has it now, if anybody, or had it;
    `last`: token of the lease before; `unlocked`: who ended that by hand; `boot`: which of the host's it is.
    `clear`: with the lease, all that tells of it goes."""
    folder = request["folder"]
    with _locked(folder):
        path, now = os.path.join(folder, "lease.json"), _now()
        file = _read(path)
        fresh = _ACTS[request["act"]](request, file, now)
        if fresh is not None and request.get("clear"):
            _clear(folder)
        elif fresh is not None:
            _write(path, fresh)
    shown = fresh if request["act"] in ("take", "renew") and fresh else file
    holder = shown.get("holder")
    if holder:
        holder = dict(holder, left_s=max(0.0, holder["until"] - now))
    return {
        "done": fresh is not None,
        "holder": holder,
        "last": shown.get("last", ""),
        "unlocked": file.get("unlocked", ""),
        "boot": _boot(),
    }


def _locked(folder: str) -> Any:
    """The file of the lock, locked until it is closed."""
    end, path = time.monotonic() + LOCK_S, os.path.join(folder, "lock")
    while True:
        lock = None
        try:
            os.makedirs(folder, mode=0o755, exist_ok=True)
            lock = open(path, "a")  # noqa: SIM115  closed by whoever gets it
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another one may be there by now, or none, where the host was cleared in between.
            if os.path.samestat(os.fstat(lock.fileno()), os.stat(path)):
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass
        if lock:
            lock.close()
        if time.monotonic() >= end:
            sys.exit("another program holds the lock of the lease")
        time.sleep(0.02)


def _take(request: Dict[str, Any], file: Dict[str, Any], now: float) -> Optional[Dict[str, Any]]:
    holder = file.get("holder")
    if holder and holder["token"] == request["token"]:
        return _renew(request, file, now)
    over = holder and holder["token"] == request.get("over")
    if holder and holder["until"] > now and not over and not _dead(holder, request):
        return None
    return _fresh(request, holder["token"] if holder else file.get("last", ""), now)


def _renew(request: Dict[str, Any], file: Dict[str, Any], now: float) -> Optional[Dict[str, Any]]:
    if not file:  # a boot took it away, or in the same boot somebody who cleared the host
        return _fresh(request, "", now) if request.get("boot") != _boot() else None
    holder = file.get("holder")
    if not holder or holder["token"] != request["token"]:
        return None
    return dict(file, holder=dict(holder, until=now + request["for_s"]))


def _release(request: Dict[str, Any], file: Dict[str, Any], _now: float) -> Optional[Dict[str, Any]]:
    holder = file.get("holder")
    return {"last": holder["token"]} if holder and holder["token"] == request["token"] else None


def _unlock(request: Dict[str, Any], file: Dict[str, Any], _now: float) -> Optional[Dict[str, Any]]:
    holder = file.get("holder")
    return {"last": holder["token"], "unlocked": request["unlocked"]} if holder else None


_ACTS = {"take": _take, "renew": _renew, "release": _release, "unlock": _unlock}


def _fresh(request: Dict[str, Any], last: str, now: float) -> Dict[str, Any]:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    holder = dict(request["who"], token=request["token"], since=since, until=now + request["for_s"])
    return {"holder": holder, "last": last}


def _dead(holder: Dict[str, Any], request: Dict[str, Any]) -> bool:
    """A lease of an earlier run of the same fleet from the same control machine: it knows that no such run is alive."""
    who = request["who"]
    return bool(holder["control"] == who["control"] and holder["fleet"] == who["fleet"])


def _read(path: str) -> Dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
        if found.get("holder"):
            needed = [found["holder"][key] for key in ("token", "control", "fleet", "since")]
            float(found["holder"]["until"])
            "".join(needed)
        return dict(found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}  # none, or nothing that we wrote


def _write(path: str, file: Dict[str, Any]) -> None:
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(file, stream, sort_keys=True)
    os.replace(path + ".new", path)


def _clear(folder: str) -> None:
    """The lock last: it is ours until it is gone."""
    for name in ("lease.json", "lease.json.new", "lock"):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, name))
    with contextlib.suppress(OSError):  # of somebody who wants the host at this very moment, and has made his own lock
        os.rmdir(folder)


def _boot() -> str:
    with open("/proc/sys/kernel/random/boot_id") as stream:
        return stream.read().strip()


def _now() -> float:
    """seconds since the host booted, time asleep included"""
    with open("/proc/uptime") as stream:
        return float(stream.read().split()[0])
