"""YAML files that come with this program, read by libyaml where PyYAML has it, in a tenth of the time.

What people write is never read here: libyaml follows YAML 1.1, where `no` is a boolean. A test holds both readers to
the same data for every file there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_packaged(file: Path) -> Any:
    """The data of a YAML file of ours."""
    return yaml.load(file.read_bytes(), Loader=_LOADER)  # noqa: S506  # the safe loader, written in C
