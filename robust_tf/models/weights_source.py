"""Where the weights of a network come from, kept with it and in its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


class WeightsSource:
    """Beside `keras.Model`: `weights_source`, which `get_config` of the class has to hold."""

    _weights_source: str | None = None  # JSON, as Keras would track a dict

    @property
    def weights_source(self) -> dict[str, Any] | None:
        """Where its weights come from, as `models.from_torch` says; None of others.

        A run that starts from such weights and trains them on adds 'trained_further': True.
        """
        return None if self._weights_source is None else json.loads(self._weights_source)

    @weights_source.setter
    def weights_source(self, source: Mapping[str, Any] | None) -> None:
        self._weights_source = None if source is None else json.dumps(dict(source))

    def source_config(self) -> dict[str, Any]:
        """What `get_config` says of it."""
        source = self.weights_source
        return {} if source is None else {"weights_source": source}
