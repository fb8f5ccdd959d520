"""Training in a run folder, under any strategy, resumable to the bit."""

from robust_tf.training.distribution import make_strategy
from robust_tf.training.optimizers import SGD, Adam, EpochSchedule, constant, cosine, piecewise
from robust_tf.training.recipe import Recipe
from robust_tf.training.trainer import NonFiniteLossError, RunFolderError, Trainer

__all__ = [
    "SGD",
    "Adam",
    "EpochSchedule",
    "NonFiniteLossError",
    "Recipe",
    "RunFolderError",
    "Trainer",
    "constant",
    "cosine",
    "make_strategy",
    "piecewise",
]
