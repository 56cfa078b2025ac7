from __future__ import annotations

import io

from hypothesis import given
from hypothesis import strategies as st

from provisioner.apply.feed import Feed


@given(st.lists(st.binary(max_size=40), max_size=20), st.integers(1, 30))
def test_what_comes_in_pieces_is_read_as_one(pieces: list[bytes], size: int) -> None:
    feed = Feed()
    for piece in pieces:
        feed.put(piece)
    feed.end()
    reader, read = io.BufferedReader(feed), b""
    while piece := reader.read(size):
        read += piece
    assert read == b"".join(pieces)
    assert reader.read() == b""
