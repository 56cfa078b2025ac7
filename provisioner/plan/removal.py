"""What of a host goes and what stays when all that we brought is taken away. Pure; the role's filter decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from provisioner.fleet.base import Frozen
from provisioner.plan.render import filters

RECORD = "/var/lib/vllm/installed.json"
"""on every host, written by the roles"""


class Removal(Frozen):
    """One host, in words."""

    host: str
    goes: tuple[str, ...]
    stays: tuple[str, ...]
    """each with the reason"""


def removal(host: str, answer: Mapping[str, Any], *, weights: bool, docker: bool) -> Removal:
    """`answer`: "record", "now" and "look", as the modules host_record and removal_look tell them.

    `weights` and `docker`: whether weights, Docker and the container toolkit go as well, where they came with us.
    """
    decide = filters("removal")["removal_plan"]
    found = decide(answer["record"], answer["now"], answer["look"], weights, docker)
    return Removal(host=host, goes=tuple(found["goes"]), stays=tuple(found["stays"]))
