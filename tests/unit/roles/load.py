"""The roles as the tests see them: their YAML, and the modules that live in them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROLES = Path(__file__).parents[3] / "roles"
NAMES = sorted(path.parent.name for path in ROLES.glob("*/tasks"))
"""those that do something; `host_record` is a module that they share"""


def read(role: str, path: str) -> Any:
    """A YAML file of a role."""
    return yaml.safe_load((ROLES / role / path).read_text())


def module(role: str, path: str) -> ModuleType:
    """A Python file of a role: no package, Ansible finds it by its place."""
    spec = importlib.util.spec_from_file_location(f"{role}_{Path(path).stem}", ROLES / role / path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded
