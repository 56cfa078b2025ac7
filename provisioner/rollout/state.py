"""Where a rollout leaves a host: words of their own, for everybody who tells of it."""

from __future__ import annotations

from typing import Literal

State = Literal[
    "promoted",  # it has the new release and passed its gate
    "unchanged",  # it was as planned and proven, or its turn never came
    "rolled_back",  # it serves its previous release again
    "stopped",  # it had no previous release: its servers are stopped, to be looked at
    "failed",  # it has the new release, which did not pass
    "lost",  # it could not be brought back: somebody must look
    "interrupted",  # the run was ended while it was at work here
]
Returned = Literal["rolled_back", "stopped", "lost", "interrupted"]
"""what can become of a host that is to go back"""
