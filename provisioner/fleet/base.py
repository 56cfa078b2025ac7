"""What all models of this program share: frozen, and strict about unknown keys."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

Platform = Literal["linux/amd64", "linux/arm64"]


class Frozen(BaseModel):
    """Immutable data that can be printed, hashed and compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)
