"""Keras' configuration of a dataclass whose fields are ready for JSON."""

from __future__ import annotations

import dataclasses
from typing import Any, Self


class DataclassConfig:
    """Base of such dataclasses: Keras files and result files have their fields by name."""

    def get_config(self) -> dict[str, Any]:
        """The fields, by name."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Inverse of `get_config`."""
        return cls(**config)
