"""Bytes that come in pieces, as a file to read from."""

from __future__ import annotations

import io
import queue


class Feed(io.RawIOBase):
    """A raw stream whose reader waits for the next piece; wrap it in io.BufferedReader."""

    def __init__(self) -> None:
        self._pieces: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._rest = b""
        self._over = False

    def put(self, piece: bytes) -> None:
        if piece:
            self._pieces.put(piece)

    def end(self) -> None:
        """There is nothing more to come."""
        self._pieces.put(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # narrower than RawIOBase says: BufferedReader, its one caller, gives a memoryview
        if not self._rest and not self._over:
            self._rest = self._pieces.get()
            self._over = not self._rest
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count
