"""A run's models for what a single process does with them: to be saved, or attacked."""

from __future__ import annotations

import keras
import tensorflow as tf

from robust_tf import compat
from robust_tf.methods import RobustModel
from robust_tf.training.distribution import spans_replicas


class LocalModels:
    """The final network and the auxiliary models of a run, free of its strategy.

    Under a strategy they are copies: there a forward of the network itself reads statistics that
    are spread over all workers, which would have to take part.

    Args:
      model: of the run; it trains the same layers as long as this lives.
      strategy: under which it was built.
    """

    def __init__(self, model: RobustModel, strategy: tf.distribute.Strategy):
        self._model, self._strategy = model, strategy
        self._copies: dict[str, keras.Model] = {}

    def as_they_are(self) -> dict[str, keras.Model]:
        """'model', the network, and the others by their names; every worker must ask for them."""
        models = {"model": self._model.final_network, **self._model.auxiliary_models()}
        if not spans_replicas(self._strategy):
            return models
        for name, model in models.items():
            if name not in self._copies:
                self._copies[name] = compat.deserialize(compat.serialize(model))
            for mine, theirs in zip(self._copies[name].variables, model.variables, strict=True):
                compat.raw(mine).assign(tf.convert_to_tensor(compat.raw(theirs)))
        return self._copies
