"""nvidia-smi and nvidia-ctk."""

from __future__ import annotations

import re

from provisioner.plan.facts import Gpu

_ABSENT = 127


def parse_gpus(rc: int, out: str, err: str) -> tuple[tuple[Gpu, ...], str]:
    """The GPUs of `--query-gpu=index,name,memory.total,memory.used,driver_version[,compute_cap]`, and what is wrong.

    The error is "" when all is well or nvidia-smi is not there. nvidia-smi says its errors on stdout, and may list
    healthy GPUs beside them.
    """
    if rc == _ABSENT:
        return (), ""
    gpus, words = [], []
    for line in out.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) in {5, 6} and fields[0].isdigit():
            gpus.append(_gpu(fields))
        elif line.strip():
            words.append(line.strip())
    error = " ".join([*words, *err.split("\n")]).strip()
    if rc == 0 and not words:
        return tuple(gpus), ""
    return tuple(gpus), error or f"nvidia-smi ended with {rc} and said nothing"


def parse_driver_version(out: str) -> str | None:
    """The driver of the same query's first GPU."""
    for line in out.splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) in {5, 6} and fields[0].isdigit():
            return _known(fields[4])
    return None


def parse_cuda_version(out: str) -> str | None:
    """The newest CUDA that the driver supports, from the head of the plain table ("CUDA UMD Version" in newer ones)."""
    found = re.search(r"CUDA (?:UMD )?Version:\s*([0-9]+(?:\.[0-9]+)*)", out)
    return found.group(1) if found else None


def parse_toolkit_version(rc: int, out: str) -> str | None:
    """`nvidia-ctk --version`; None when it is not there."""
    found = re.search(r"version:?\s+v?([0-9][0-9A-Za-z.~+-]*)", out)
    return found.group(1) if rc == 0 and found else None


def _gpu(fields: list[str]) -> Gpu:
    return Gpu(
        index=int(fields[0]),
        name=fields[1],
        memory_mib=_number(fields[2]),
        memory_used_mib=_number(fields[3]),
        compute_capability=_known(fields[5]) if len(fields) == 6 else None,
    )


def _number(text: str) -> int | None:
    """None for [N/A], which unified-memory machines say (GB10)."""
    found = re.match(r"\d+", text)
    return int(found.group()) if found else None


def _known(text: str) -> str | None:
    return None if not text or text.startswith(("[", "N/A")) else text
