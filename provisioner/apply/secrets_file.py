"""Secrets on their way to Ansible: in memory only, gone when this process is gone, however it ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def memory_file(text: str) -> Iterator[str]:
    """A path that this process's children can read `text` from. Nothing is written to any disk (Linux).

    The path leads through /proc to an anonymous file (memfd_create(2)); only the same user and root may open it.
    """
    descriptor = os.memfd_create("provision-secrets")
    try:
        os.write(descriptor, text.encode())
        yield f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
